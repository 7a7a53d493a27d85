"""What a model makes of noise that is known: the generated world says which of its events are noise.

Shapes: U users, L history positions, d vector size.
"""

import dataclasses

import numpy as np
import tensorflow as tf
from scipy import stats

from causerec_tf.comparison import mean_and_standard_error
from causerec_tf.counterfactual import concepts
from causerec_tf.data.generated.synthetic import World
from causerec_tf.data.holdout import EvaluationUsers, evaluation_users, last_items
from causerec_tf.data.ragged import ItemLists
from causerec_tf.data.sequences import Dataset, UserSequences
from causerec_tf.errors import InputError
from causerec_tf.model import CauseRec


def find_noise(sequences: UserSequences, item_ids: list[str], world: World) -> np.ndarray:
    """Which events of a dataset, prepared from the world as it is, are noise: bool [events].

    They are joined to the world by user and time: a dataset does not keep it; the same settings and seed
    generate the same world again, and within a user no two of its events have the same time.
    """
    place = {
        event: number for number, event in enumerate(zip(world.users, world.times.tolist(), strict=True))
    }
    owners = np.repeat(sequences.user_ids, np.diff(sequences.row_splits))
    found = [place.get(event, -1) for event in zip(owners, sequences.timestamps.tolist(), strict=True)]
    events = np.array(found, np.int64)
    items = np.array(item_ids, object)[sequences.items - 1]
    if (events < 0).any() or (world.items[events] != items).any():
        raise InputError(
            "the dataset is not of this world: an event of it has another item there, or is not there."
            " Generate the world with the settings and seed that the dataset was made with."
        )
    return world.is_noise[events]


def row_auc(scores_UL: np.ndarray, is_noise_UL: np.ndarray, mask_UL: np.ndarray) -> np.ndarray:
    """How well low scores tell the noise within each history: the area under the ROC curve.

    It is the chance that a noise item scores below one that is none, both drawn from the same history; equal
    scores count half.

    Returns:
      float64 [U]; not a number where a history has no noise, or nothing else.
    """
    others_UL = mask_UL & ~is_noise_UL
    num_noise, num_others = (mask_UL & is_noise_UL).sum(axis=1), others_UL.sum(axis=1)
    # Padding below everything: it shifts all ranks by its number.
    ranks_UL = stats.rankdata(np.where(mask_UL, scores_UL.astype(np.float64), -np.inf), axis=1)
    ranks_UL = ranks_UL - (~mask_UL).sum(axis=1, keepdims=True)
    rank_sum = np.where(others_UL, ranks_UL, 0.0).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (rank_sum - num_others * (num_others + 1) / 2) / (num_noise * num_others)


def detection(model: CauseRec, dataset: Dataset, world: World, split: str = "test") -> dict:
    """How well the concept scores (equation 5) and the dispensable half find the planted noise.

    The history is the evaluation user's; its target is the next event. Where that event is noise itself, the
    scores have nothing to say, so that figures are given for the other users. The model was trained on the
    dataset, and that prepared from the world as it is.

    Returns:
      For JSON: `auc`, by the scores; `auc_by_recency`, of every position over all users, `1` the newest;
      `auc_same_interest`, what one who knows the world's interests would reach by asking whether an item has
      the target's; the share of noise in the dispensable and in the indispensable half; `auc_noise_target`,
      of the users whose target is noise: nothing is to be found there, and noise may lie nearer to noise.
    """
    sequences = dataset.read(split)
    users = evaluation_users(sequences, model.max_history)
    noise_of_events = find_noise(sequences, dataset.item_ids(), world)
    starts = sequences.row_splits[:-1][np.diff(sequences.row_splits) >= 2]
    next_event = starts + np.diff(users.seen.row_splits)
    rows, positions = users.seen.rows_and_positions()
    noise_of_seen = dataclasses.replace(
        users.seen, items=noise_of_events[starts[rows] + positions].astype(np.int32)
    )
    is_noise_UL = last_items(noise_of_seen, users.history.shape[1]).astype(bool)
    mask_UL = users.history != 0
    target_is_noise = noise_of_events[next_event]
    targets = sequences.items[next_event]

    table = tf.constant(model.item_embeddings())
    scores_UL = concepts.scores_by_target(tf.gather(table, users.history), tf.gather(table, targets))
    is_indispensable_UL = concepts.rank(scores_UL, tf.constant(mask_UL)).is_indispensable_BL.numpy()
    scores_UL = scores_UL.numpy()

    clean = ~target_is_noise
    interests = _interests(dataset.item_ids(), world)
    same_UL = (interests[users.history] == interests[targets][:, np.newaxis]).astype(np.float64)
    auc = row_auc(scores_UL, is_noise_UL, mask_UL)
    recency_UL = mask_UL.sum(axis=1, keepdims=True) - np.arange(mask_UL.shape[1])
    by_recency = {}
    for recency in range(1, mask_UL.shape[1] + 1):
        here = (recency_UL == recency) & mask_UL & clean[:, np.newaxis]
        one = row_auc(
            scores_UL[here][np.newaxis], is_noise_UL[here][np.newaxis], np.ones([1, here.sum()], bool)
        )
        by_recency[str(recency)] = mean_and_standard_error(one)["mean"]
    dispensable_UL = mask_UL & ~is_indispensable_UL
    return {
        "users": int(clean.sum()),
        "noise_in_histories": float(is_noise_UL[clean][mask_UL[clean]].mean()),
        "auc": mean_and_standard_error(auc[clean]),
        "auc_noise_target": mean_and_standard_error(auc[~clean]),
        "auc_same_interest": mean_and_standard_error(row_auc(same_UL, is_noise_UL, mask_UL)[clean]),
        "auc_by_recency": by_recency,
        "noise_in_dispensable": float(is_noise_UL[clean][dispensable_UL[clean]].mean()),
        "noise_in_indispensable": float(is_noise_UL[clean][is_indispensable_UL[clean]].mean()),
    }


def users_between(
    history_of: Dataset, clean: Dataset, known: Dataset, split: str, max_history: int
) -> EvaluationUsers:
    """Users with their histories in one of twin worlds and with what they went on to in the clean one.

    Twins are of the same settings and seed, the clean one of `noise_rate=0`: every event that is not noise is
    the same. All items are in the numbers of `known`, the dataset that the model was trained on, of either
    world.
    """
    users = evaluation_users(history_of.read(split), max_history)
    others = evaluation_users(clean.read(split), max_history)
    if users.user_ids.tolist() != others.user_ids.tolist():
        raise InputError(f"{history_of.directory} and {clean.directory} have other users: prepare both anew.")
    seen = ItemLists(renumber(users.seen.items, history_of, known), users.seen.row_splits)
    targets = ItemLists(renumber(others.targets.items, clean, known), others.targets.row_splits)
    return EvaluationUsers(users.user_ids, last_items(seen, max_history), seen, targets)


def renumber(items: np.ndarray, of: Dataset, to: Dataset) -> np.ndarray:
    """Item numbers of one dataset as those of another, int32; 0 is padding and stays 0."""
    number = {item_id: place for place, item_id in enumerate(to.item_ids(), start=1)}
    table = np.array([0, *(number.get(item_id, -1) for item_id in of.item_ids())], np.int32)
    answer = table[items]
    if (answer < 0).any():
        missing = of.item_ids()[int(items[answer < 0][0]) - 1]
        raise InputError(f"{to.directory} does not have the item {missing} of {of.directory}.")
    return answer


def _interests(item_ids: list[str], world: World) -> np.ndarray:
    """The interest of each item number, int64 [V + 1]; -1 of padding."""
    of_id = dict(zip(world.item_ids, world.item_interest.tolist(), strict=True))
    return np.array([-1, *(of_id[item_id] for item_id in item_ids)])

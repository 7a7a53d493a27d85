"""Which past items a recommendation rests on, by the model's own notion and by leaving them out.

Shapes: B users, L history positions, d vector size, I vectors a user.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from causerec_tf import evaluation, metrics
from causerec_tf.comparison import mean_and_standard_error
from causerec_tf.counterfactual import concepts
from causerec_tf.data.holdout import EvaluationUsers
from causerec_tf.errors import InputError
from causerec_tf.model import CauseRec

_K = 50  # length of the lists that are compared
WAYS = ("concept", "deletion", "random", "concept_lowest")


class Support(NamedTuple):
    """What each item of a history does for a recommended item; padding has 0 throughout.

    Attributes:
      concept_BL: float32 [B, L], the inner product with the recommended item (equation 5): what training
        chooses indispensable items by.
      is_indispensable_BL: bool [B, L], the upper half by `concept_BL`, `ceil(n / 2)` of n items.
      deletion_BL: float32 [B, L], by how much the recommended item's score falls when the item at this
        position is left out and the others move together; negative where it rises.
    """

    concept_BL: np.ndarray
    is_indispensable_BL: np.ndarray
    deletion_BL: np.ndarray


def indispensable(model: CauseRec, history_BL: np.ndarray, target_B: np.ndarray) -> Support:
    """Tells what the recommendation of one item to each user, int [B], rests on.

    The histories, int [B, L], are as the tower reads them: oldest first, padded with 0 on the right.
    """
    history_BL, target_B = np.asarray(history_BL), np.asarray(target_B)
    if history_BL.ndim != 2 or target_B.shape != history_BL.shape[:1]:
        raise InputError(
            f"history has shape {list(history_BL.shape)} and target {list(target_B.shape)}; wanted [B, L] and"
            " [B], numbers of items: row b is the history of user b, padded with 0 on the right."
        )
    if ((target_B < 1) | (target_B > model.num_items)).any():
        raise InputError(f"a recommended item is not one of 1 to {model.num_items}.")
    mask_BL = history_BL != 0
    table = tf.constant(model.item_embeddings())
    concept_BL = concepts.scores_by_target(tf.gather(table, history_BL), tf.gather(table, target_B))
    halves = concepts.rank(concept_BL, tf.constant(mask_BL))
    target_BD = model.item_vectors()[target_B - 1]
    # Every position left out in turn, in all histories at once.
    left_BL = np.stack(
        [
            _scores(model, without(history_BL, keep_L), target_BD)
            for keep_L in ~np.eye(history_BL.shape[1], dtype=bool)
        ],
        axis=1,
    )
    whole_B = _scores(model, history_BL, target_BD)
    return Support(
        np.where(mask_BL, concept_BL.numpy(), np.float32(0)),
        halves.is_indispensable_BL.numpy(),
        np.where(mask_BL, whole_B[:, np.newaxis] - left_BL, np.float32(0)),
    )


def without(history_BL: np.ndarray, keep_BL: np.ndarray) -> np.ndarray:
    """Leaves out of int [B, L] what is not kept, bool [B, L] or [L]; the rest moves to the left."""
    kept_BL = np.where(keep_BL, history_BL, 0)
    order_BL = np.argsort(kept_BL == 0, axis=1, kind="stable")
    return np.take_along_axis(kept_BL, order_BL, axis=1)


def removal(model: CauseRec, users: EvaluationUsers, num_removed: int, *, seed: int = 0) -> dict:
    """Measures whether the items named matter: they are removed, and as many others for comparison.

    Each user's recommendation is the first of the list. Removed are the `num_removed` items of the history
    that come first by concept score, by deletion, by chance (of the seed), and last by concept score. Users
    who have no more items in what the tower reads are left out.

    Returns:
      For JSON: way -> `replaced@50`, the share of the top 50 that is replaced; `lost@50`, whether the first
      item leaves it; for `concept` and `deletion` also `replaced_more_than_random@50`, paired by user.
    """
    lengths = (users.history != 0).sum(axis=1)
    rows = np.flatnonzero(lengths > num_removed)
    if num_removed < 1 or not len(rows):
        raise InputError(f"{num_removed} items are to be removed: wanted 1 or more, and a user with more.")
    whole = evaluation.rank_users(model, users, _K, exclude_seen=False)
    history_BL, first_B = users.history[rows], whole[rows, 0]
    support = indispensable(model, history_BL, first_B)
    orders = {
        "concept": support.concept_BL,
        "deletion": support.deletion_BL,
        "random": np.random.default_rng(seed).random(history_BL.shape),
        "concept_lowest": -support.concept_BL,
    }
    answers: dict[str, dict] = {}
    replaced_by: dict[str, np.ndarray] = {}
    for way in WAYS:
        by_BL = np.where(history_BL != 0, orders[way], -np.inf)
        rank_BL = np.argsort(np.argsort(-by_BL, axis=1, kind="stable"), axis=1)
        histories = users.history.copy()
        histories[rows] = without(history_BL, rank_BL >= num_removed)
        changed = EvaluationUsers(users.user_ids, histories, users.seen, users.targets)
        lists = evaluation.rank_users(model, changed, _K, exclude_seen=False)[rows]
        replaced_by[way] = 1.0 - metrics.overlap(whole[rows], lists)
        lost = ~(lists == first_B[:, np.newaxis]).any(axis=1)
        answers[way] = {
            "replaced@50": mean_and_standard_error(replaced_by[way]),
            "lost@50": mean_and_standard_error(lost.astype(np.float64)),
        }
    for way in ("concept", "deletion"):
        more = replaced_by[way] - replaced_by["random"]
        answers[way]["replaced_more_than_random@50"] = mean_and_standard_error(more)
    return answers


def _scores(model: CauseRec, history_BL: np.ndarray, target_BD: np.ndarray) -> np.ndarray:
    """The score of one item for each history, as ranking has it: by the best of several vectors."""
    vectors = evaluation.user_vectors(model, history_BL)
    several_BID = vectors if vectors.ndim == 3 else vectors[:, np.newaxis]
    return np.einsum("bid,bd->bi", several_BID, target_BD).max(axis=1)

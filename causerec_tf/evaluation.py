"""A model over evaluation users: ranked items, then figures."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from causerec_tf import metrics, retrieval
from causerec_tf.data.holdout import EvaluationUsers, evaluation_users
from causerec_tf.data.ragged import ItemLists
from causerec_tf.data.sequences import Dataset
from causerec_tf.errors import InputError
from causerec_tf.model import CauseRec

CUTOFFS = (20, 50)
VECTORS_PER_BLOCK = 256  # users ranked at once, divided by the vectors that each of them has
HISTORIES_PER_BLOCK = 1024  # encoded at once where nothing is ranked

_top_k = tf.function(retrieval.top_k)


class Measured(NamedTuple):
    """What evaluation users gave.

    Attributes:
      num_users: how many they are.
      model: metric -> value of the model.
      pop: metric -> value of POP.
      per_user: metric -> float32 [users], the model's value of each, in the order of the dataset.
    """

    num_users: int
    model: dict[str, float]
    pop: dict[str, float]
    per_user: dict[str, np.ndarray]


def evaluate(model: CauseRec, dataset: Dataset, split: str, *, exclude_seen: bool) -> Measured:
    """The model and POP on the users of a split.

    Args:
      model: the trained model.
      dataset: it was trained on.
      split: `validation` or `test`.
      exclude_seen: leave out the items of a user's history, of the lists and of the targets.

    Raises:
      InputError: no user of the split has two events, or with `exclude_seen` a target that is new.
    """
    users = evaluation_users(dataset.read(split), model.max_history)
    if exclude_seen:
        users = users.with_unseen_targets()
    if len(users) == 0:
        raise InputError(
            f"{dataset.directory} has no {split} user with two events or more"
            + (" and a target that is not in the history" if exclude_seen else "")
            + ": there is nothing to measure. Prepare a larger log, or try another --split_seed."
        )
    k = max(CUTOFFS)
    ranked = rank_users(model, users, k, exclude_seen=exclude_seen)
    popular = rank_by_popularity(dataset.num_trained_items, users, k, exclude_seen=exclude_seen)
    values = per_user(ranked, users)
    return Measured(
        len(users),
        means(values),
        figures(popular, users),
        {name: one.astype(np.float32) for name, one in values.items()},
    )


def user_vectors(model: CauseRec, history: np.ndarray) -> np.ndarray:
    """User vectors of histories, block by block, so that memory does not grow but by the answer.

    Args:
      model: the model.
      history: int [users, L], one or more, oldest first, padded with 0 on the right.

    Returns:
      float32 [users, d], or [users, K, d] where the tower gives K vectors.
    """
    blocks = _blocks(len(history), HISTORIES_PER_BLOCK)
    return np.concatenate([model.encode(tf.constant(history[block])).numpy() for block in blocks])


def rank_users(model: CauseRec, users: EvaluationUsers, k: int, *, exclude_seen: bool) -> np.ndarray:
    """The model's k best items of all that training knew for each user.

    Args:
      model: the model.
      users: whom to rank for.
      k: items a user.
      exclude_seen: leave out every item of the user's whole history.

    Returns:
      int32 [users, k], best first; 0 where exclusions leave no item.
    """
    users_per_block = max(1, VECTORS_PER_BLOCK // model.user_tower.num_interests)
    ranked = np.zeros([len(users), k], np.int32)
    scores = np.full([len(users), k], -np.inf, np.float32)
    first = 0
    # Of a table in parts, as one that lies on parameter servers, only a part is here at a time.
    for part_ID in model.item_vectors_in_parts():
        # place_of: of each item of the part among those that are ranked, from 1; 0: it is not
        ids, place_of = _ranked_of(model.trained_items, first, len(part_ID))
        if len(ids):
            catalogue = retrieval.in_blocks(part_ID if len(ids) == len(part_ID) else part_ID[ids - first - 1])
            for block in _blocks(len(users), users_per_block):
                vectors = model.encode(tf.constant(users.history[block]))
                excluded = _excluded(users.seen, block, place_of, first) if exclude_seen else None
                new_scores, places = _ranked(vectors, catalogue, min(k, len(ids)), excluded)
                items = np.append(ids, 0)[places.numpy() - 1]  # place 0, of no item, is the 0 at the end
                _merge(scores[block], ranked[block], new_scores.numpy(), items)
        first += len(part_ID)
    return ranked


def rank_by_popularity(num_items: int, users: EvaluationUsers, k: int, *, exclude_seen: bool) -> np.ndarray:
    """POP: the same k items for everybody, those most frequent in training; see `rank_users`.

    Items are numbered by falling training frequency, so these are the first of them.
    """
    catalogue = retrieval.in_blocks(-np.arange(num_items, dtype=np.float32)[:, np.newaxis])
    num_ranked = min(k, num_items)
    answer = np.zeros([len(users), k], np.int32)
    for block in _blocks(len(users), VECTORS_PER_BLOCK):
        excluded = _rows_and_items(users.seen, block) if exclude_seen else None
        everybody = tf.ones([block.stop - block.start, 1])
        answer[block, :num_ranked] = _ranked(everybody, catalogue, num_ranked, excluded)[1].numpy()
    return answer


def per_user(ranked: np.ndarray, users: EvaluationUsers) -> dict[str, np.ndarray]:
    """Every metric at every cut-off for each user, `recall@20` and so on -> float64 [users].

    Args:
      ranked: int [users, at least the largest cut-off].
      users: whose targets count.
    """
    values: dict[str, np.ndarray] = {}
    for k in CUTOFFS:
        at_k = metrics.per_user(ranked, users.targets.items, users.targets.row_splits, k)
        values |= {f"{name}@{k}": at_k[name] for name in metrics.NAMES}
    return values


def means(values: dict[str, np.ndarray]) -> dict[str, float]:
    """Metric -> its mean over users."""
    return {name: float(one.mean()) for name, one in values.items()}


def figures(ranked: np.ndarray, users: EvaluationUsers) -> dict[str, float]:
    """What `per_user` gives, the mean over users."""
    return means(per_user(ranked, users))


def _ranked(
    users: tf.Tensor, catalogue: list[tf.Tensor], k: int, excluded_N2: tf.Tensor | None
) -> tuple[tf.Tensor, tf.Tensor]:
    """`retrieval.top_k`, traced once for any number of users and of exclusions."""
    any_users = tf.TensorSpec([None, *users.shape[1:]], users.dtype)
    any_excluded = None if excluded_N2 is None else tf.TensorSpec([None, 2], excluded_N2.dtype)
    # Not by `reduce_retracing`, which would take the sizes of two catalogues for any size.
    traced = _top_k.get_concrete_function(any_users, catalogue, k, any_excluded)
    return traced(users, catalogue, k, excluded_N2)


def _rows_and_items(lists: ItemLists, block: slice) -> tf.Tensor:
    """What the users of a block have: int32 [N, 2], the row in the block and a distinct item of the user."""
    users = lists.part(block.start, block.stop)
    rows, _ = users.rows_and_positions()
    pairs = np.stack([rows.astype(np.int32), users.items], axis=1)
    return tf.constant(np.unique(pairs, axis=0))


def _blocks(num_users: int, users_per_block: int) -> list[slice]:
    """Users that are handled at once: so memory does not grow with their number."""
    starts = range(0, num_users, users_per_block)
    return [slice(start, min(start + users_per_block, num_users)) for start in starts]


def _ranked_of(trained: np.ndarray | None, first: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The trained items among the `size` items behind the `first` ones; and each item's place among them.

    Returns:
      int32 [C], ascending, and int32 [size + 1]: of the item `first + i` the place from 1, or 0.
    """
    if trained is None:
        ids = np.arange(first + 1, first + size + 1, dtype=np.int32)
    else:
        ids = trained[(trained > first) & (trained <= first + size)]
    place_of = np.zeros(size + 1, np.int32)
    place_of[ids - first] = np.arange(1, len(ids) + 1)
    return ids, place_of


def _excluded(lists: ItemLists, block: slice, place_of: np.ndarray, first: int) -> tf.Tensor:
    """What the users of a block have of a part: int32 [N, 2], the row in the block and the item's place."""
    pairs = _rows_and_items(lists, block).numpy()
    inside = (pairs[:, 1] > first) & (pairs[:, 1] < first + len(place_of))
    rows, places = pairs[inside, 0], place_of[pairs[inside, 1] - first]
    return tf.constant(np.stack([rows, places], axis=1)[places > 0])


def _merge(
    best_scores_BK: np.ndarray, best_BK: np.ndarray, scores_BJ: np.ndarray, items_BJ: np.ndarray
) -> None:
    """Puts the best items of a part among the best so far, in place."""
    all_scores = np.concatenate([best_scores_BK, scores_BJ], axis=1)
    all_items = np.concatenate([best_BK, items_BJ], axis=1)
    # Stable, and earlier parts stand first: ties go to the lower index.
    order = np.argsort(-all_scores, axis=1, kind="stable")[:, : best_BK.shape[1]]
    best_scores_BK[:] = np.take_along_axis(all_scores, order, axis=1)
    best_BK[:] = np.take_along_axis(all_items, order, axis=1)

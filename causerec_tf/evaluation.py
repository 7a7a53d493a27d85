"""A model over evaluation users: ranked items, then figures."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from causerec_tf import metrics, retrieval
from causerec_tf.data.holdout import EvaluationUsers, ItemLists
from causerec_tf.model import CauseRec

CUTOFFS = (20, 50)
VECTORS_PER_BLOCK = 256  # users ranked at once, divided by the vectors that each of them has

_top_k = tf.function(retrieval.top_k)


def rank_users(model: CauseRec, users: EvaluationUsers, k: int, *, exclude_seen: bool) -> np.ndarray:
    """The model's k best items of the whole catalogue for each user.

    Args:
      model: the model.
      users: whom to rank for.
      k: items a user.
      exclude_seen: leave out every item of the user's whole history.

    Returns:
      int32 [users, k], best first; 0 where exclusions leave no item.
    """
    catalogue = retrieval.in_blocks(model.item_vectors())
    num_ranked = min(k, model.num_items)

    def ranked(block: slice) -> np.ndarray:
        user_vectors = model.encode(tf.constant(users.history[block]))
        excluded = _padded(users.seen, block) if exclude_seen else None
        return _top_k(user_vectors, catalogue, num_ranked, excluded)[1].numpy()

    users_per_block = max(1, VECTORS_PER_BLOCK // model.user_tower.num_interests)
    return _in_blocks(ranked, len(users), k, users_per_block)


def rank_by_popularity(num_items: int, users: EvaluationUsers, k: int, *, exclude_seen: bool) -> np.ndarray:
    """POP: the same k items for everybody, those most frequent in training.

    Items are numbered by falling training frequency, so these are the first of them.

    Args:
      num_items: V.
      users: whom to rank for.
      k: items a user.
      exclude_seen: leave out every item of the user's whole history.

    Returns:
      int32 [users, k]; 0 where exclusions leave no item.
    """
    catalogue = retrieval.in_blocks(-np.arange(num_items, dtype=np.float32)[:, np.newaxis])

    def ranked(block: slice) -> np.ndarray:
        excluded = _padded(users.seen, block) if exclude_seen else None
        everybody = tf.ones([len(users.history[block]), 1])
        return _top_k(everybody, catalogue, min(k, num_items), excluded)[1].numpy()

    return _in_blocks(ranked, len(users), k, VECTORS_PER_BLOCK)


def per_user(ranked: np.ndarray, users: EvaluationUsers) -> dict[str, np.ndarray]:
    """Every metric at every cut-off for each user.

    Args:
      ranked: int [users, at least the largest cut-off].
      users: whose targets count.

    Returns:
      `recall@20` and so on -> float64 [users].
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
    """Every metric at every cut-off, the mean over users.

    Args:
      ranked: int [users, at least the largest cut-off].
      users: whose targets count.

    Returns:
      `recall@20` and so on -> value.
    """
    return means(per_user(ranked, users))


def _padded(lists: ItemLists, block: slice) -> tf.Tensor:
    """The lists of a block of users, int32 [B, at least the longest], filled up with 0."""
    splits = lists.row_splits[block.start : block.stop + 1]
    items = lists.items[splits[0] : splits[-1]]
    # A power of two, so that blocks share a few shapes and are not traced one by one.
    width = 1 << int(np.diff(splits).max()).bit_length()
    ragged = tf.RaggedTensor.from_row_splits(items, splits - splits[0])
    return ragged.to_tensor(shape=[None, width])


def _in_blocks(
    ranked: Callable[[slice], np.ndarray], num_users: int, k: int, users_per_block: int
) -> np.ndarray:
    """Ranks users block by block, so that memory does not grow with their number."""
    answer = np.zeros([num_users, k], np.int32)
    for start in range(0, num_users, users_per_block):
        block = slice(start, min(start + users_per_block, num_users))
        items = ranked(block)
        answer[block, : items.shape[1]] = items
    return answer

"""Exact top-k over the whole catalogue: the reference that evaluation uses and indexes are held to.

Finding the k largest of a row costs more than the product that makes it. So items are taken in groups of
16: the k best items are within the k groups of the largest maxima, of which one pass over the scores finds
all, and only those groups' scores are sorted.

Shapes: B users, K vectors a user, d vector size, V items, N exclusions of all users together, k answers; a
block of items has G groups of J items.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

# A block of 256 users has 40 MB of scores: what does not fit glibc's heaps, 64 MB, is faulted in at each use.
ITEMS_PER_BLOCK = 40_960
ITEMS_PER_GROUP = 16


def in_blocks(item_vectors_VD: np.ndarray, *, items_per_block: int = ITEMS_PER_BLOCK) -> list[tf.Tensor]:
    """Lays the catalogue out for `top_k`.

    Args:
      item_vectors_VD: float32 [V, d], the vectors of items 1..V: padding has no row here.
      items_per_block: how many items are scored at once; it bounds the memory.

    Returns:
      Blocks of consecutive items, float32 [J, G, d]: entry (j, g) is the block's item `g J + j`, so that a
      maximum over the first axis is that of a group of J consecutive items.
    """
    num_items, width = item_vectors_VD.shape
    blocks = []
    start = 0
    while start < num_items:
        size = min(items_per_block, num_items - start)
        in_group = ITEMS_PER_GROUP if size >= ITEMS_PER_GROUP else 1
        size -= size % in_group
        block_ID = item_vectors_VD[start : start + size]
        grouped = block_ID.reshape(size // in_group, in_group, width).transpose(1, 0, 2)
        blocks.append(tf.constant(np.ascontiguousarray(grouped)))
        start += size
    return blocks


def top_k(
    users: tf.Tensor, blocks: list[tf.Tensor], k: int, excluded_N2: tf.Tensor | None = None
) -> tuple[tf.Tensor, tf.Tensor]:
    """The k items with the largest inner products, largest first; ties go to the lower index.

    A user with several vectors scores an item by the best of them.

    Args:
      users: float [B, d] or [B, K, d].
      blocks: the catalogue from `in_blocks`.
      k: answers a user, at most V.
      excluded_N2: int32 [N, 2], a user's row and an item that this user must not be answered, as often as
        there is one; or None.

    Returns:
      float [B, k] scores and int32 [B, k] items (1..V). Where a user's exclusions leave fewer than k
      items, the last places have score -inf and item 0.

    Raises:
      ValueError: k is below 1 or above V.
    """
    return top_k_of_each(users, blocks, k, [excluded_N2])[0]


def top_k_of_each(
    users: tf.Tensor, blocks: list[tf.Tensor], k: int, exclusions: Sequence[tf.Tensor | None]
) -> list[tuple[tf.Tensor, tf.Tensor]]:
    """What `top_k` gives with each of several exclusions, from one pass over the catalogue."""
    users = tf.convert_to_tensor(users)
    num_items = sum(int(block.shape[0] * block.shape[1]) for block in blocks)
    if not 1 <= k <= num_items:
        raise ValueError(f"k={k}: wanted 1 to {num_items}, the number of items.")
    best: list[Any] = [None] * len(exclusions)
    first = 1
    for block_JGD in blocks:
        scores_BJG = _scores(users, block_JGD)
        for place, excluded_N2 in enumerate(exclusions):
            left_BJG = scores_BJG
            if excluded_N2 is not None:
                left_BJG = _exclude(scores_BJG, tf.convert_to_tensor(excluded_N2) - [0, first])
            scores_BK, places_BK = _top_k_of_groups(left_BJG, k)
            found = scores_BK, places_BK + first
            best[place] = found if best[place] is None else _merged(best[place], found, k)
        first += int(block_JGD.shape[0] * block_JGD.shape[1])
    return [(scores, tf.where(scores == float("-inf"), 0, items)) for scores, items in best]


def _merged(
    best: tuple[tf.Tensor, tf.Tensor], found: tuple[tf.Tensor, tf.Tensor], k: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """The best scores of earlier blocks and of the next, and their items."""
    # Earlier blocks come first, so that top_k gives ties to the lower index.
    scores_BK, items_BK = (tf.concat(both, axis=1) for both in zip(best, found, strict=True))
    scores_BK, places_BK = tf.math.top_k(scores_BK, k=min(k, scores_BK.shape[1]))
    return scores_BK, tf.gather(items_BK, places_BK, batch_dims=1)


def _scores(users: tf.Tensor, block_JGD: tf.Tensor) -> tf.Tensor:
    """Best inner product of a user's vectors with each item of the block, float [B, J, G]."""
    in_group, num_groups, width = block_JGD.shape
    flat_ID = tf.reshape(block_JGD, [-1, width])
    flat_NI = tf.matmul(tf.reshape(users, [-1, width]), flat_ID, transpose_b=True)
    if users.shape.rank == 2:
        return tf.reshape(flat_NI, [-1, in_group, num_groups])
    several = tf.reshape(flat_NI, [tf.shape(users)[0], -1, in_group, num_groups])
    return tf.reduce_max(several, axis=1)


def _exclude(scores_BJG: tf.Tensor, rows_and_places_N2: tf.Tensor) -> tf.Tensor:
    """Sets the scores of the block's items at the given places to -inf; places outside are passed over."""
    in_group, num_groups = scores_BJG.shape[1:]
    places_N = rows_and_places_N2[:, 1]
    in_block_N = (places_N >= 0) & (places_N < in_group * num_groups)
    rows_N, places_N = tf.unstack(tf.boolean_mask(rows_and_places_N2, in_block_N), num=2, axis=1)
    where_N3 = tf.stack([rows_N, places_N % in_group, places_N // in_group], axis=1)
    return tf.tensor_scatter_nd_update(scores_BJG, where_N3, tf.fill(tf.shape(places_N), float("-inf")))


def _top_k_of_groups(scores_BJG: tf.Tensor, k: int) -> tuple[tf.Tensor, tf.Tensor]:
    """The best scores of a block, and the places of their items in it; at most k and at most all."""
    in_group, num_groups = scores_BJG.shape[1:]
    if in_group == 1 or k >= num_groups:
        by_item_BI = tf.reshape(tf.transpose(scores_BJG, [0, 2, 1]), [-1, in_group * num_groups])
        return tf.math.top_k(by_item_BI, k=min(k, in_group * num_groups))
    _, groups_BK = tf.math.top_k(tf.reduce_max(scores_BJG, axis=1), k=k)
    # In the order of their items, so that ties among the candidates go to the lower index too.
    groups_BK = tf.sort(groups_BK, axis=1)
    candidates_BJK = tf.gather(scores_BJG, groups_BK, axis=2, batch_dims=1)
    candidates_BC = tf.reshape(tf.transpose(candidates_BJK, [0, 2, 1]), [-1, k * in_group])
    scores_BK, chosen_BK = tf.math.top_k(candidates_BC, k=k)
    groups_BK = tf.gather(groups_BK, chosen_BK // in_group, batch_dims=1)
    return scores_BK, groups_BK * in_group + chosen_BK % in_group

"""Exact top-k over the whole catalogue: the reference that evaluation uses and indexes are held to.

Shapes: B users, K vectors a user, d vector size, V items, E excluded items a user, k answers.
"""

import tensorflow as tf

# Scores are computed in blocks of this many items, so that memory is bounded by users x block however
# large the catalogue; smaller blocks spend more time on merging.
ITEMS_PER_BLOCK = 65_536


def top_k(
    users: tf.Tensor,
    item_vectors_VD: tf.Tensor,
    k: int,
    excluded_BE: tf.Tensor | None = None,
    *,
    items_per_block: int = ITEMS_PER_BLOCK,
) -> tuple[tf.Tensor, tf.Tensor]:
    """The k items with the largest inner products, largest first; ties go to the lower index.

    A user with several vectors scores an item by the best of them.

    Args:
      users: float [B, d] or [B, K, d].
      item_vectors_VD: float [V, d], the vectors of items 1..V: padding has no row here.
      k: answers a user, at most V.
      excluded_BE: int32 [B, E] items that must not be answered, filled up with 0; or None.
      items_per_block: how many items are scored at once.

    Returns:
      float [B, k] scores and int32 [B, k] items (1..V). Where a user's exclusions leave fewer than k
      items, the last places have score -inf and item 0.

    Raises:
      ValueError: k is below 1 or above V.
    """
    users = tf.convert_to_tensor(users)
    num_items = int(item_vectors_VD.shape[0])
    if not 1 <= k <= num_items:
        raise ValueError(f"k={k}: wanted 1 to {num_items}, the number of items.")
    best_scores_BK = best_items_BK = None
    for start in range(0, num_items, items_per_block):
        block_ID = item_vectors_VD[start : start + items_per_block]
        scores_BI = _scores(users, block_ID)
        if excluded_BE is not None:
            scores_BI = _exclude(scores_BI, excluded_BE - (start + 1))
        size = int(block_ID.shape[0])
        scores_BK, columns_BK = tf.math.top_k(scores_BI, k=min(k, size))
        items_BK = columns_BK + (start + 1)
        if best_scores_BK is not None:
            # Earlier blocks come first, so that top_k gives ties to the lower index.
            scores_BK = tf.concat([best_scores_BK, scores_BK], axis=1)
            items_BK = tf.concat([best_items_BK, items_BK], axis=1)
            scores_BK, places_BK = tf.math.top_k(scores_BK, k=min(k, scores_BK.shape[1]))
            items_BK = tf.gather(items_BK, places_BK, batch_dims=1)
        best_scores_BK, best_items_BK = scores_BK, items_BK
    best_items_BK = tf.where(best_scores_BK == float("-inf"), 0, best_items_BK)
    return best_scores_BK, best_items_BK


def _scores(users: tf.Tensor, block_ID: tf.Tensor) -> tf.Tensor:
    """Best inner product of a user's vectors with each item of the block, float [B, I]."""
    if users.shape.rank == 2:
        return tf.matmul(users, block_ID, transpose_b=True)
    batch_size, num_vectors, width = tf.unstack(tf.shape(users))
    flat = tf.matmul(tf.reshape(users, [-1, width]), block_ID, transpose_b=True)
    return tf.reduce_max(tf.reshape(flat, [batch_size, num_vectors, -1]), axis=1)


def _exclude(scores_BI: tf.Tensor, columns_BE: tf.Tensor) -> tf.Tensor:
    """Sets the scores at the given columns to -inf; columns outside of the block are passed over."""
    in_block_BE = (columns_BE >= 0) & (columns_BE < tf.shape(scores_BI)[1])
    places_N2 = tf.where(in_block_BE)
    columns_N = tf.gather_nd(columns_BE, places_N2)
    places_N2 = tf.stack([tf.cast(places_N2[:, 0], tf.int32), columns_N], axis=1)
    floor_N = tf.fill(tf.shape(columns_N), float("-inf"))
    return tf.tensor_scatter_nd_update(scores_BI, places_N2, floor_N)

"""Rows of a table by position in a history: what towers that know the order share.

Shapes: B examples, L history positions, P = max_history rows, d vector size. Histories are padded on the
right. What stands beyond the table has a row of zeros, so that padding may be of any length.
"""

import tensorflow as tf


def from_oldest(table: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    """One row for each of L positions, float [P, ...] -> [L, ...], counted from the oldest: alike for all."""
    beyond = tf.maximum(length - table.shape[0], 0)
    return tf.pad(table, [[0, beyond]] + [[0, 0]] * (table.shape.rank - 1))[:length]


def from_newest(table_PD: tf.Tensor, mask_BL: tf.Tensor) -> tf.Tensor:
    """One row for each position, counted from the newest real item, as where padding is on the left.

    A product with one-hot rows, because the gradient of a look-up would have each of the few rows many
    times over.

    Args:
      table_PD: float [P, d], the row of the newest item last.
      mask_BL: bool [B, L], which positions are real.
    """
    num_rows = table_PD.shape[0]
    length_B = tf.reduce_sum(tf.cast(mask_BL, tf.int32), axis=1)
    rows_BL = tf.range(tf.shape(mask_BL)[1]) + num_rows - length_B[:, tf.newaxis]
    rows_BL = tf.where(mask_BL, rows_BL, -1)
    # As one product: one for each example, each with a gradient of the whole table, would take longer.
    return tf.tensordot(tf.one_hot(rows_BL, num_rows, dtype=table_PD.dtype), table_PD, 1)


def padded_on_the_left(
    concepts_BLD: tf.Tensor, mask_BL: tf.Tensor, num_places: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """The same histories with their newest items last, float [B, P, d], and which are real, bool [B, P].

    Args:
      concepts_BLD: float [B, L, d], padded on the right.
      mask_BL: bool [B, L], which positions are real, at most P of each.
      num_places: P. Zeros stand before the oldest item.
    """
    length_B1 = tf.reduce_sum(tf.cast(mask_BL, tf.int32), axis=1, keepdims=True)
    place_BP = tf.range(num_places) - num_places + length_B1
    real_BP = place_BP >= 0
    moved_BPD = tf.gather(concepts_BLD, tf.maximum(place_BP, 0), batch_dims=1)
    return tf.where(real_BP[..., tf.newaxis], moved_BPD, 0.0), real_BP

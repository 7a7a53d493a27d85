"""Whole sequences in training: a vector and a target at every position, and windows drawn from them.

Shapes: B sequences, L positions, W of them in a group of short sequences, d vector size, U distinct items of
a step, P predictions: the real positions of all sequences, Q windows, C windows a sequence.
"""

import tensorflow as tf

from causerec_tf.towers.base import UserTower
from causerec_tf.towers.item import PADDING

_NARROWEST = 8


def encode(
    user_tower: UserTower, vectors_UD: tf.Tensor, places_BL: tf.Tensor, targets_BL: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Encodes the prefix that ends at each position that has a target.

    Sequences of similar length are encoded together, at most twice as wide as they are long: most are short,
    and padding would be most of the work.

    Args:
      user_tower: one that reads causally.
      vectors_UD: float [U, d], the vectors of the step's distinct items.
      places_BL: int32 [B, L], where the sequences' items are among these.
      targets_BL: int32 [B, L], the target of each item, 0 where there is none: behind the sequence.

    Returns:
      The vectors of the predictions, float32 [P, d], and which of the [B * L] targets each has, int32 [P].
    """
    length = targets_BL.shape[1]
    widths = [*_widths(length), length]
    lengths_B = tf.math.count_nonzero(targets_BL, axis=1, dtype=tf.int32)
    groups_B = tf.searchsorted(widths, lengths_B)
    vectors, targets = [], []
    groups = tf.dynamic_partition(tf.range(tf.size(lengths_B)), groups_B, len(widths))
    for width, rows in zip(widths, groups, strict=True):
        real = tf.sequence_mask(tf.gather(lengths_B, rows), width)
        concepts = tf.gather(vectors_UD, tf.gather(places_BL[:, :width], rows))
        encoded = user_tower.encode_every_position(concepts, real)
        vectors.append(tf.boolean_mask(encoded, real))
        numbers = rows[:, tf.newaxis] * length + tf.range(width)
        targets.append(tf.boolean_mask(numbers, real))
    return tf.concat(vectors, axis=0), tf.concat(targets, axis=0)


def draw_windows(
    history_BL: tf.Tensor, targets_BL: tf.Tensor, count: int, seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Draws positions of each sequence, without replacement; each gives a window that ends there.

    Args:
      history_BL: int32 [B, L], item ids, padded on the right.
      targets_BL: int32 [B, L], the target of each item, 0 where there is none.
      count: C; a sequence with fewer targets gives as many as it has.
      seed: int [2].

    Returns:
      `history` int32 [Q, L], the items up to the position, padded, and `target` int32 [Q].
    """
    num_rows, length = tf.shape(history_BL)[0], history_BL.shape[1]
    order_BL = tf.random.stateless_uniform([num_rows, length], seed)
    order_BL = tf.where(targets_BL != PADDING, order_BL, -1.0)
    highest_BC, positions_BC = tf.math.top_k(order_BL, min(count, length))
    drawn = tf.where(highest_BC >= 0)
    rows_Q, positions_Q = tf.cast(drawn[:, 0], tf.int32), tf.gather_nd(positions_BC, drawn)
    up_to_QL = tf.sequence_mask(positions_Q + 1, length, history_BL.dtype)
    target_Q = tf.gather_nd(targets_BL, tf.stack([rows_Q, positions_Q], axis=1))
    return tf.gather(history_BL, rows_Q) * up_to_QL, target_Q


def _widths(length: int) -> list[int]:
    """The widths of groups of short sequences: each twice as wide as the one before."""
    widths = []
    width = _NARROWEST
    while width < length:
        widths.append(width)
        width *= 2
    return widths

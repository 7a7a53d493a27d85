"""Whole sequences in training: a vector and a target at every position, and windows drawn from them.

Sequences of similar length are encoded together, at most twice as wide as they are long: most are short, and
padding would be most of the work.

Shapes: B sequences or windows, L positions, W of them in a group of short ones, G in a group, d vector size,
U distinct items of a step, P predictions: the real positions of all sequences, Q windows, C windows a
sequence.
"""

from typing import Any

import tensorflow as tf

from causerec_tf.towers.base import Changes
from causerec_tf.towers.item import PADDING

_NARROWEST = 8


def encode(
    user_tower: Any, vectors_UD: tf.Tensor, places_BL: tf.Tensor, targets_BL: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Encodes the prefix that ends at each position that has a target.

    Args:
      user_tower: one that reads causally, or what its `given` gave for the sequences.
      vectors_UD: float [U, d], the vectors of the step's distinct items.
      places_BL: int32 [B, L], where the sequences' items are among these.
      targets_BL: int32 [B, L], the target of each item, 0 where there is none: behind the sequence.

    Returns:
      The vectors of the predictions, float32 [P, d], and which of the [B * L] targets each has, int32 [P].
    """
    vectors, numbers = [], []
    length = targets_BL.shape[1]
    for width, rows_G in _groups(targets_BL != PADDING):
        real_GW = tf.gather(targets_BL[:, :width], rows_G) != PADDING
        concepts_GWD = tf.gather(vectors_UD, tf.gather(places_BL[:, :width], rows_G))
        tower = user_tower.of_rows(rows_G, width)
        vectors.append(tf.boolean_mask(tower.encode_every_position(concepts_GWD, real_GW), real_GW))
        numbers.append(tf.boolean_mask(rows_G[:, tf.newaxis] * length + tf.range(width), real_GW))
    return tf.concat(vectors, axis=0), tf.concat(numbers, axis=0)


def prefixes(history_BL: tf.Tensor, numbers_P: tf.Tensor) -> tf.Tensor:
    """The items that stand up to positions of sequences, padded, int [P, L].

    Args:
      history_BL: int [B, L].
      numbers_P: int32 [P], of the B * L positions.
    """
    length = history_BL.shape[1]
    up_to_PL = tf.sequence_mask(numbers_P % length + 1, length, history_BL.dtype)
    return tf.gather(history_BL, numbers_P // length) * up_to_PL


def own_similarities(
    user_PD: tf.Tensor, numbers_P: tf.Tensor, vectors_UD: tf.Tensor, places_BL: tf.Tensor
) -> tf.Tensor:
    """What `returns.own_similarities` gives for predictions, each with all items of its sequence.

    Args:
      user_PD: float [P, d].
      numbers_P: int32 [P], of the B * L positions.
      vectors_UD: float [U, d], the vectors of the step's distinct items, as users are matched with them.
      places_BL: int32 [B, L], where the sequences' items are among these.

    Returns:
      float [P, L].
    """
    user_PD, item_BLD = tf.stop_gradient(user_PD), tf.gather(tf.stop_gradient(vectors_UD), places_BL)
    num_rows, length, width = tf.unstack(tf.shape(item_BLD))
    # As many vectors as positions, so that a sequence is one product.
    at_every_position = tf.scatter_nd(numbers_P[:, tf.newaxis], user_PD, [num_rows * length, width])
    user_BLD = tf.reshape(at_every_position, [num_rows, length, width])
    products_BLL = tf.matmul(user_BLD, item_BLD, transpose_b=True)
    return tf.gather(tf.reshape(products_BLL, [num_rows * length, length]), numbers_P)


class ByLength:
    """A user tower that encodes histories of similar length together."""

    def __init__(self, user_tower: Any):
        """Takes the tower, or what its `given` gave for the histories."""
        self._tower = user_tower

    def encode_counterfactuals(
        self, history_BL: tf.Tensor, mask_BL: tf.Tensor, changes: Changes, vectors_UD: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """As in `UserTower`."""
        users: list[tf.Tensor] = []
        others: list[tf.Tensor] = []
        rows: list[tf.Tensor] = []
        for width, rows_G in _groups(mask_BL):
            history_GW, mask_GW = (tf.gather(one[:, :width], rows_G) for one in (history_BL, mask_BL))
            made = self._tower.of_rows(rows_G, width).encode_counterfactuals(
                history_GW, mask_GW, changes.of_rows(rows_G), vectors_UD
            )
            for one, more in zip((users, others, rows), (*made, rows_G), strict=True):
                one.append(more)
        order_B = tf.math.invert_permutation(tf.concat(rows, axis=0))
        return tuple(tf.gather(tf.concat(one, axis=0), order_B) for one in (users, others))


def draw_windows(
    history_BL: tf.Tensor, targets_BL: tf.Tensor, count: int, seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Draws positions of each sequence, without replacement; each gives a window that ends there.

    Args:
      history_BL: int32 [B, L], item ids, padded on the right.
      targets_BL: int32 [B, L], the target of each item, 0 where there is none.
      count: C; a sequence with fewer targets gives as many as it has.
      seed: int [2].

    Returns:
      `history` int32 [Q, L], the items up to the position, padded, and `target` int32 [Q]; the sequence and
      the position of each, int32 [Q] both.
    """
    num_rows, length = tf.shape(history_BL)[0], history_BL.shape[1]
    order_BL = tf.random.stateless_uniform([num_rows, length], seed)
    order_BL = tf.where(targets_BL != PADDING, order_BL, -1.0)
    highest_BC, positions_BC = tf.math.top_k(order_BL, min(count, length))
    drawn = tf.where(highest_BC >= 0)
    rows_Q, positions_Q = tf.cast(drawn[:, 0], tf.int32), tf.gather_nd(positions_BC, drawn)
    numbers_Q = rows_Q * length + positions_Q
    target_Q = tf.gather(tf.reshape(targets_BL, [-1]), numbers_Q)
    return prefixes(history_BL, numbers_Q), target_Q, rows_Q, positions_Q


def _groups(mask_BL: tf.Tensor) -> list[tuple[int, tf.Tensor]]:
    """The width of each group, and which rows are in it, int32 [G]: those that do not fit the one before."""
    length = mask_BL.shape[1]
    widths: list[int] = []
    while (width := _NARROWEST << len(widths)) < length:
        widths.append(width)
    widths.append(length)
    lengths_B = tf.math.count_nonzero(mask_BL, axis=1, dtype=tf.int32)
    groups_B = tf.searchsorted(widths, lengths_B)
    rows = tf.dynamic_partition(tf.range(tf.size(lengths_B)), groups_B, len(widths))
    return list(zip(widths, rows, strict=True))

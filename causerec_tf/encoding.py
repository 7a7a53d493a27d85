"""Vectors of histories and of their counterfactuals, encoded as one batch, in two ways that agree.

Shapes: B examples, L history positions, d vector size, C counterfactual histories, R replacements in
one, E = 1 + C: the history itself and then its counterfactuals.
"""

import tensorflow as tf

from causerec_tf.counterfactual import synthesis
from causerec_tf.counterfactual.synthesis import Replacements
from causerec_tf.towers.item import PADDING, ItemTower


def encode_written_out(
    user_tower: tf.keras.layers.Layer,
    item_tower: ItemTower,
    history_BL: tf.Tensor,
    replacements: Replacements,
) -> tf.Tensor:
    """Writes every counterfactual history out and encodes all of them: for any tower.

    Args:
      user_tower: concepts [B, L, d] and mask [B, L] -> [B, d].
      item_tower: item ids -> concepts.
      history_BL: int32 [B, L], item ids, 0 is padding.
      replacements: what the counterfactuals change.

    Returns:
      float [B, E, d], the history's vector first.
    """
    counterfactual_BCL = synthesis.apply(history_BL, replacements)
    all_BEL = tf.concat([history_BL[:, tf.newaxis], counterfactual_BCL], axis=1)
    flat_NL = tf.reshape(all_BEL, [-1, all_BEL.shape[2]])
    vectors_ND = user_tower(item_tower(flat_NL), flat_NL != PADDING)
    return tf.reshape(vectors_ND, [-1, all_BEL.shape[1], vectors_ND.shape[1]])


def encode_by_difference(
    user_tower: tf.keras.layers.Layer,
    item_tower: ItemTower,
    history_BL: tf.Tensor,
    concepts_BLD: tf.Tensor,
    replacements: Replacements,
) -> tf.Tensor:
    """Changes the mean instead of pooling again: for a tower that declares `is_mean_pooling`.

    A counterfactual's mean is the sum of the concepts that stay and of the substitutes, divided by the
    length, which replacing does not change. Only what was replaced is looked up.

    Args:
      user_tower: with `project`, float [..., d] -> [..., d], from means to user vectors.
      item_tower: item ids -> concepts.
      history_BL: int32 [B, L], item ids, 0 is padding.
      concepts_BLD: float [B, L, d], their concepts.
      replacements: what the counterfactuals change.

    Returns:
      float [B, E, d], the history's vector first.
    """
    positions_BCR, substitutes_BCR, replaced_BCR = replacements
    real_B1L = tf.cast(history_BL != PADDING, concepts_BLD.dtype)[:, tf.newaxis]
    # Positions are distinct within a history, so the sum of their one-hot rows is 0 or 1.
    places_BCR = tf.where(replaced_BCR, positions_BCR, -1)
    leaves_BCL = tf.reduce_sum(tf.one_hot(places_BCR, history_BL.shape[1], dtype=real_B1L.dtype), axis=2)
    stays_BEL = tf.concat([real_B1L, real_B1L - leaves_BCL], axis=1)
    sums_BED = tf.matmul(stays_BEL, concepts_BLD)
    # Padding's vector is zero: what is not replaced adds nothing.
    substitutes_BCRD = item_tower(tf.where(replaced_BCR, substitutes_BCR, PADDING))
    sums_BED += tf.pad(tf.reduce_sum(substitutes_BCRD, axis=2), [[0, 0], [1, 0], [0, 0]])
    count_B11 = tf.maximum(tf.reduce_sum(real_B1L, axis=2, keepdims=True), 1.0)
    return user_tower.project(sums_BED / count_B11)

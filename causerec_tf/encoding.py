"""Vectors of histories and of their counterfactuals, encoded as one batch, in two ways that agree.

Shapes: B examples, L history positions, d vector size, U distinct items of the step, C counterfactual
histories, R replacements in one, E = 1 + C: the history itself and then its counterfactuals.

Items are given by their places among the step's distinct vectors, not by their ids.
"""

import tensorflow as tf

from causerec_tf.counterfactual import synthesis
from causerec_tf.counterfactual.synthesis import Replacements


def encode_written_out(
    user_tower: tf.keras.layers.Layer,
    vectors_UD: tf.Tensor,
    history_BL: tf.Tensor,
    mask_BL: tf.Tensor,
    replacements: Replacements,
) -> tf.Tensor:
    """Writes every counterfactual history out and encodes all of them: for any tower.

    Args:
      user_tower: concepts [B, L, d] and mask [B, L] -> [B, d] or [B, K, d].
      vectors_UD: float [U, d], the distinct items of the step.
      history_BL: int32 [B, L], the histories.
      mask_BL: bool [B, L], which of their positions are real.
      replacements: what the counterfactuals change.

    Returns:
      float [B, E, d] or [B, E, K, d], what the tower gives for the history first.
    """
    counterfactual_BCL = synthesis.apply(history_BL, replacements)
    all_BEL = tf.concat([history_BL[:, tf.newaxis], counterfactual_BCL], axis=1)
    num_encoded = all_BEL.shape[1]
    flat_NL = tf.reshape(all_BEL, [-1, all_BEL.shape[2]])
    # Replacing keeps the length, so that all of them share the history's mask.
    vectors = user_tower(tf.gather(vectors_UD, flat_NL), tf.repeat(mask_BL, num_encoded, axis=0))
    return tf.reshape(vectors, [-1, num_encoded, *vectors.shape[1:]])


def encode_by_difference(
    user_tower: tf.keras.layers.Layer,
    vectors_UD: tf.Tensor,
    history_BL: tf.Tensor,
    mask_BL: tf.Tensor,
    replacements: Replacements,
) -> tf.Tensor:
    """Changes the mean instead of pooling again: for a tower that declares `is_mean_pooling`.

    A counterfactual's mean is the sum of the concepts that stay and of the substitutes, divided by the
    length, which replacing does not change. Of the substitutes only those that count are gathered.

    Args:
      user_tower: with `project`, float [N, d] -> [N, d], from means to user vectors.
      vectors_UD: float [U, d], the distinct items of the step.
      history_BL: int32 [B, L], the histories.
      mask_BL: bool [B, L], which of their positions are real.
      replacements: what the counterfactuals change.

    Returns:
      float [B, E, d], the history's vector first.
    """
    positions_BCR, substitutes_BCR, replaced_BCR = replacements
    batch_size, length = tf.shape(history_BL)[0], history_BL.shape[1]
    num_histories, width = replaced_BCR.shape[1], vectors_UD.shape[1]
    real_B1L = tf.cast(mask_BL, vectors_UD.dtype)[:, tf.newaxis]
    # The positions that are replaced are distinct, so the sum of their one-hot rows is 0 or 1.
    places_BCR = tf.where(replaced_BCR, positions_BCR, -1)
    leaves_BCL = tf.reduce_sum(tf.one_hot(places_BCR, length, dtype=real_B1L.dtype), axis=2)
    stays_BEL = tf.concat([real_B1L, real_B1L - leaves_BCL], axis=1)
    sums_BED = tf.matmul(stays_BEL, tf.gather(vectors_UD, history_BL))

    num_segments = batch_size * num_histories
    segments_P = tf.cast(tf.where(tf.reshape(replaced_BCR, [-1, replaced_BCR.shape[2]]))[:, 0], tf.int32)
    # One entry more, thrown away again: for no entry at all (an empty memory) TensorFlow 2.20 leaves the
    # gradient of this operation uninitialised.
    arrives_ND = tf.sparse.segment_sum(
        vectors_UD,
        tf.pad(tf.boolean_mask(substitutes_BCR, replaced_BCR), [[0, 1]]),
        tf.concat([segments_P, [num_segments]], axis=0),
        num_segments=num_segments + 1,
    )[:num_segments]
    arrives_BCD = tf.reshape(arrives_ND, [batch_size, num_histories, width])
    sums_BED += tf.pad(arrives_BCD, [[0, 0], [1, 0], [0, 0]])
    count_B11 = tf.maximum(tf.reduce_sum(real_B1L, axis=2, keepdims=True), 1.0)
    vectors_ND = user_tower.project(tf.reshape(sums_BED / count_B11, [-1, width]))
    return tf.reshape(vectors_ND, [batch_size, 1 + num_histories, width])

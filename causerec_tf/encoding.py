"""Vectors of histories and of their counterfactuals, encoded as one batch; for means in two ways that agree.

Shapes: B examples, L history positions, K interest concepts, d vector size, U distinct items of the step,
C counterfactual histories, R replacements in one, E = 1 + C: the history itself and then its
counterfactuals, of I vectors each where the tower gives several.

Items are given by their places among the step's distinct vectors, not by their ids.
"""

import tensorflow as tf

from causerec_tf.counterfactual import synthesis
from causerec_tf.counterfactual.synthesis import Replacements
from causerec_tf.towers.interest_attention import InterestAttention


def encode_items(
    user_tower: tf.keras.layers.Layer,
    vectors_UD: tf.Tensor,
    history_BL: tf.Tensor,
    mask_BL: tf.Tensor,
    replacements: Replacements,
) -> tf.Tensor:
    """Encodes histories and their counterfactuals on the item level, the cheaper way for a mean.

    Args:
      user_tower: concepts [B, L, d] and mask [B, L] -> [B, d] or [B, I, d].
      vectors_UD: float [U, d], the distinct items of the step.
      history_BL: int32 [B, L], the histories.
      mask_BL: bool [B, L], which of their positions are real.
      replacements: what the counterfactuals change.

    Returns:
      float [B, E, d] or [B, E, I, d], what the tower gives for the history first.
    """
    encode = encode_written_out
    if getattr(user_tower, "is_mean_pooling", False):
        encode = encode_by_difference
    return encode(user_tower, vectors_UD, history_BL, mask_BL, replacements)


def encode_written_out(
    user_tower: tf.keras.layers.Layer,
    vectors_UD: tf.Tensor,
    history_BL: tf.Tensor,
    mask_BL: tf.Tensor,
    replacements: Replacements,
) -> tf.Tensor:
    """`encode_items` for any tower: writes every counterfactual history out and encodes all of them."""
    all_BEL = _with_original(history_BL, replacements)
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
    """`encode_items` for a tower that declares `is_mean_pooling`: changes the mean instead of pooling again.

    A counterfactual's mean is the sum of the concepts that stay and of the substitutes, divided by the
    length, which replacing does not change. Of the substitutes only those that count are gathered.
    """
    _, substitutes_BCR, replaced_BCR = replacements
    batch_size, num_histories, width = tf.shape(history_BL)[0], replaced_BCR.shape[1], vectors_UD.shape[1]
    real_BL = tf.cast(mask_BL, vectors_UD.dtype)
    stays_BED = tf.matmul(_stays(real_BL, replacements), tf.gather(vectors_UD, history_BL))

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
    return _project_means(user_tower, stays_BED, arrives_BCD, tf.reduce_sum(real_BL, axis=1))


def interests_of(
    attention: InterestAttention,
    vectors_UD: tf.Tensor,
    history_BL: tf.Tensor,
    mask_BL: tf.Tensor,
    replacements: Replacements | None,
) -> tf.Tensor:
    """Interest concepts of histories and of their counterfactuals on the item level.

    Args:
      attention: from items to interests; its logits are computed once for each distinct item.
      vectors_UD: float [U, d], the distinct items of the step.
      history_BL: int32 [B, L], the histories.
      mask_BL: bool [B, L], which of their positions are real.
      replacements: what the counterfactuals change; None for no counterfactuals.

    Returns:
      float [B, E, K, d], those of the history first.
    """
    all_BEL = history_BL[:, tf.newaxis] if replacements is None else _with_original(history_BL, replacements)
    num_encoded = all_BEL.shape[1]
    flat_NL = tf.reshape(all_BEL, [-1, all_BEL.shape[2]])
    interests_NKD = attention.pool(
        tf.gather(vectors_UD, flat_NL),
        tf.gather(attention.logits(vectors_UD), flat_NL),
        tf.repeat(mask_BL, num_encoded, axis=0),
    )
    return tf.reshape(interests_NKD, [-1, num_encoded, *interests_NKD.shape[1:]])


def encode_interests(
    encoder: tf.keras.layers.Layer,
    interests_BKD: tf.Tensor,
    has_interests_B: tf.Tensor,
    replacements: Replacements,
) -> tf.Tensor:
    """Encodes histories and their counterfactuals on the interest level, the cheaper way for a mean.

    Args:
      encoder: concepts [B, K, d] and mask [B, K] -> [B, d] or [B, I, d].
      interests_BKD: float [B, K, d], of the histories.
      has_interests_B: bool [B]: all interests of a user are real, or none is.
      replacements: what the counterfactuals change; its substitutes are float [B, C, R, d].

    Returns:
      float [B, E, d] or [B, E, I, d], what the encoder gives for the history first.
    """
    encode = encode_interests_written_out
    if getattr(encoder, "is_mean_pooling", False):
        encode = encode_interests_by_difference
    return encode(encoder, interests_BKD, has_interests_B, replacements)


def encode_interests_written_out(
    encoder: tf.keras.layers.Layer,
    interests_BKD: tf.Tensor,
    has_interests_B: tf.Tensor,
    replacements: Replacements,
) -> tf.Tensor:
    """`encode_interests` for any encoder."""
    return encode_each(encoder, _with_original(interests_BKD, replacements), has_interests_B)


def encode_each(
    encoder: tf.keras.layers.Layer, interests_BEKD: tf.Tensor, has_interests_B: tf.Tensor
) -> tf.Tensor:
    """Encodes several sets of interests of each user: float [B, E, K, d] -> [B, E, d] or [B, E, I, d]."""
    num_encoded, num_concepts, width = interests_BEKD.shape[1:]
    has_interests_N1 = tf.repeat(has_interests_B[:, tf.newaxis], num_encoded, axis=0)
    vectors = encoder(
        tf.reshape(interests_BEKD, [-1, num_concepts, width]),
        tf.repeat(has_interests_N1, num_concepts, axis=1),
    )
    return tf.reshape(vectors, [-1, num_encoded, *vectors.shape[1:]])


def encode_interests_by_difference(
    encoder: tf.keras.layers.Layer,
    interests_BKD: tf.Tensor,
    has_interests_B: tf.Tensor,
    replacements: Replacements,
) -> tf.Tensor:
    """`encode_interests` for an encoder that declares `is_mean_pooling`."""
    _, substitutes_BCRD, replaced_BCR = replacements
    real_B1 = tf.cast(has_interests_B, interests_BKD.dtype)[:, tf.newaxis]
    real_BK = tf.repeat(real_B1, interests_BKD.shape[1], axis=1)
    stays_BED = tf.matmul(_stays(real_BK, replacements), interests_BKD)
    arrives_BCD = tf.linalg.matvec(
        substitutes_BCRD, tf.cast(replaced_BCR, substitutes_BCRD.dtype), transpose_a=True
    )
    return _project_means(encoder, stays_BED, arrives_BCD, tf.reduce_sum(real_BK, axis=1))


def _with_original(history_BL: tf.Tensor, replacements: Replacements) -> tf.Tensor:
    """The history and its counterfactuals written out, [B, L] or [B, L, d] -> [B, E, L] or [B, E, L, d]."""
    return tf.concat([history_BL[:, tf.newaxis], synthesis.apply(history_BL, replacements)], axis=1)


def _stays(real_BL: tf.Tensor, replacements: Replacements) -> tf.Tensor:
    """1 where a real concept is not replaced, in the history and in its counterfactuals, float [B, E, L]."""
    # The positions that are replaced are distinct, so the sum of their one-hot rows is 0 or 1.
    places_BCR = tf.where(replacements.replaced_BCR, replacements.positions_BCR, -1)
    leaves_BCL = tf.reduce_sum(tf.one_hot(places_BCR, real_BL.shape[1], dtype=real_BL.dtype), axis=2)
    real_B1L = real_BL[:, tf.newaxis]
    return tf.concat([real_B1L, real_B1L - leaves_BCL], axis=1)


def _project_means(tower, stays_BED: tf.Tensor, arrives_BCD: tf.Tensor, count_B: tf.Tensor) -> tf.Tensor:
    """The tower's vectors of the means of what stays and what arrives, float [B, E, d]."""
    sums_BED = stays_BED + tf.pad(arrives_BCD, [[0, 0], [1, 0], [0, 0]])
    means_BED = sums_BED / tf.maximum(count_B, 1.0)[:, tf.newaxis, tf.newaxis]
    num_encoded, width = stays_BED.shape[1:]
    vectors_ND = tower.project(tf.reshape(means_BED, [-1, width]))
    return tf.reshape(vectors_ND, [-1, num_encoded, width])

"""Vectors of histories and of their counterfactuals; for means in two ways that agree.

Shapes: B examples, L history positions, K interest concepts, d vector size, U distinct items of the step,
C counterfactual histories, R replacements in one, G runs of R substitutes, E = 1 + C: the history itself and
then its counterfactuals, of I vectors each where the tower gives several.

Items are given by their places among the step's distinct vectors, not by their ids.
"""

import numpy as np
import tensorflow as tf

from causerec_tf.counterfactual import synthesis
from causerec_tf.counterfactual.synthesis import Replacements
from causerec_tf.towers import interest_attention
from causerec_tf.towers.interest_attention import InterestTower


def encode_items(
    user_tower: tf.keras.layers.Layer,
    vectors_UD: tf.Tensor,
    history_BL: tf.Tensor,
    mask_BL: tf.Tensor,
    replacements: Replacements,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Encodes histories and their counterfactuals on the item level, the cheaper way for a mean.

    Args:
      user_tower: concepts [B, L, d] and mask [B, L] -> [B, d] or [B, I, d].
      vectors_UD: float [U, d], the distinct items of the step.
      history_BL: int32 [B, L], the histories.
      mask_BL: bool [B, L], which of their positions are real.
      replacements: what the counterfactuals change.

    Returns:
      What the tower gives for the histories, float [B, d] or [B, I, d], and for their counterfactuals,
      float [B, C, d] or [B, C, I, d].
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
) -> tuple[tf.Tensor, tf.Tensor]:
    """`encode_items` for any tower: writes the counterfactual histories out, and encodes all as one batch."""
    all_BEL = _with_original(history_BL, replacements)
    num_encoded = all_BEL.shape[1]
    flat_NL = tf.reshape(all_BEL, [-1, all_BEL.shape[2]])
    # Replacing keeps the length, so that all of them share the history's mask.
    vectors = user_tower(tf.gather(vectors_UD, flat_NL), tf.repeat(mask_BL, num_encoded, axis=0))
    return _apart(tf.reshape(vectors, [-1, num_encoded, *vectors.shape[1:]]))


def encode_by_difference(
    user_tower: tf.keras.layers.Layer,
    vectors_UD: tf.Tensor,
    history_BL: tf.Tensor,
    mask_BL: tf.Tensor,
    replacements: Replacements,
) -> tuple[tf.Tensor, tf.Tensor]:
    """`encode_items` for a tower that declares `is_mean_pooling`: changes the mean instead of pooling again.

    A counterfactual's mean is the sum of the concepts that stay and of the substitutes, divided by the
    length, which replacing does not change.

    The histories themselves are not put into one batch with their counterfactuals: the softmax, which
    needs no others, would wait for the synthesis, much of which keeps one core busy and no more.
    """
    history_BLD = tf.gather(vectors_UD, history_BL)
    real_BL = tf.cast(mask_BL, vectors_UD.dtype)
    stays_BCD = tf.matmul(_stays(real_BL, replacements), history_BLD)
    arrives = _sums_of_substitutes if replacements.runs is None else _sums_of_runs
    sums_BCD = stays_BCD + arrives(vectors_UD, replacements)
    others_BCD = _project_means(user_tower, sums_BCD, tf.reduce_sum(real_BL, axis=1))
    return user_tower(history_BLD, mask_BL), others_BCD


def encode_items_as_interests(
    user_tower: InterestTower,
    vectors_UD: tf.Tensor,
    history_BL: tf.Tensor,
    mask_BL: tf.Tensor,
    replacements: Replacements,
) -> tf.Tensor:
    """Encodes counterfactuals on the item level whose interests are extracted anew (CauseRec-H).

    An item's logits depend on nothing but the item, so they are computed once for each distinct one.

    Args:
      user_tower: extracts interests from the items and encodes them.
      vectors_UD: float [U, d], the distinct items of the step.
      history_BL: int32 [B, L], the histories.
      mask_BL: bool [B, L], which of their positions are real.
      replacements: what the counterfactuals change.

    Returns:
      float [B, C, d] or [B, C, I, d], of the counterfactuals alone.
    """
    encode = encode_items_as_interests_written_out
    if getattr(user_tower.encoder, "is_mean_pooling", False):
        encode = encode_items_as_interests_by_mean
    return encode(user_tower, vectors_UD, history_BL, mask_BL, replacements)


def encode_items_as_interests_written_out(
    user_tower: InterestTower,
    vectors_UD: tf.Tensor,
    history_BL: tf.Tensor,
    mask_BL: tf.Tensor,
    replacements: Replacements,
) -> tf.Tensor:
    """`encode_items_as_interests` for any encoder."""
    attention, num_histories = user_tower.attention, replacements.replaced_BCR.shape[1]
    flat_NL = tf.reshape(synthesis.apply(history_BL, replacements), [-1, history_BL.shape[1]])
    mask_NL = tf.repeat(mask_BL, num_histories, axis=0)
    logits_NLK = tf.gather(attention.logits(vectors_UD), flat_NL)
    interests_NKD = interest_attention.pool(tf.gather(vectors_UD, flat_NL), logits_NLK, mask_NL)
    vectors = user_tower.encode_interests(interests_NKD, tf.reduce_any(mask_NL, axis=1))
    return tf.reshape(vectors, [-1, num_histories, *vectors.shape[1:]])


def encode_items_as_interests_by_mean(
    user_tower: InterestTower,
    vectors_UD: tf.Tensor,
    history_BL: tf.Tensor,
    mask_BL: tf.Tensor,
    replacements: Replacements,
) -> tf.Tensor:
    """`encode_items_as_interests` for an encoder that declares `is_mean_pooling`.

    The mean of the K interests is a mean of the items, each weighted by the mean of its K weights: no
    interest is written out. Of the items only the substitutes are gathered again.
    """
    attention, num_histories = user_tower.attention, replacements.replaced_BCR.shape[1]
    length, width = history_BL.shape[1], vectors_UD.shape[1]
    written_NL = tf.reshape(synthesis.apply(history_BL, replacements), [-1, length])
    weights_NLK = interest_attention.weights_of(
        tf.gather(attention.logits(vectors_UD), written_NL), tf.repeat(mask_BL, num_histories, axis=0)
    )
    weights_NL = tf.reduce_mean(weights_NLK, axis=2)
    is_new_NL = tf.reshape(_leaves(replacements, length), [-1, length])
    kept_BCL = tf.reshape(weights_NL * (1.0 - is_new_NL), [-1, num_histories, length])
    kept_ND = tf.reshape(tf.matmul(kept_BCL, tf.gather(vectors_UD, history_BL)), [-1, width])

    places_P2 = tf.where(is_new_NL > 0)
    new_PD = tf.gather(vectors_UD, tf.gather_nd(written_NL, places_P2))
    new_PD *= tf.gather_nd(weights_NL, places_P2)[:, tf.newaxis]
    means_ND = kept_ND + tf.math.unsorted_segment_sum(new_PD, places_P2[:, 0], tf.shape(kept_ND)[0])
    return tf.reshape(user_tower.encoder.project(means_ND), [-1, num_histories, width])


def encode_interests(
    encoder: tf.keras.layers.Layer,
    interests_BKD: tf.Tensor,
    has_interests_B: tf.Tensor,
    replacements: Replacements,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Encodes histories and their counterfactuals on the interest level, the cheaper way for a mean.

    Args:
      encoder: concepts [B, K, d] and mask [B, K] -> [B, d] or [B, I, d].
      interests_BKD: float [B, K, d], of the histories.
      has_interests_B: bool [B]: all interests of a user are real, or none is.
      replacements: what the counterfactuals change; its substitutes are float [B, C, R, d].

    Returns:
      What the encoder gives for the histories, float [B, d] or [B, I, d], and for their counterfactuals,
      float [B, C, d] or [B, C, I, d].
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
) -> tuple[tf.Tensor, tf.Tensor]:
    """`encode_interests` for any encoder."""
    all_BEKD = _with_original(interests_BKD, replacements)
    num_encoded, num_concepts, width = all_BEKD.shape[1:]
    has_interests_N1 = tf.repeat(has_interests_B[:, tf.newaxis], num_encoded, axis=0)
    vectors = encoder(
        tf.reshape(all_BEKD, [-1, num_concepts, width]), tf.repeat(has_interests_N1, num_concepts, axis=1)
    )
    return _apart(tf.reshape(vectors, [-1, num_encoded, *vectors.shape[1:]]))


def encode_interests_by_difference(
    encoder: tf.keras.layers.Layer,
    interests_BKD: tf.Tensor,
    has_interests_B: tf.Tensor,
    replacements: Replacements,
) -> tuple[tf.Tensor, tf.Tensor]:
    """`encode_interests` for an encoder that declares `is_mean_pooling`."""
    mask_BK = tf.repeat(has_interests_B[:, tf.newaxis], interests_BKD.shape[1], axis=1)
    real_BK = tf.cast(mask_BK, interests_BKD.dtype)
    stays_BCD = tf.matmul(_stays(real_BK, replacements), interests_BKD)
    substitutes_BCRD = replacements.substitutes_BCR
    arrives_BCD = tf.linalg.matvec(
        substitutes_BCRD, tf.cast(replacements.replaced_BCR, substitutes_BCRD.dtype), transpose_a=True
    )
    others_BCD = _project_means(encoder, stays_BCD + arrives_BCD, tf.reduce_sum(real_BK, axis=1))
    return encoder(interests_BKD, mask_BK), others_BCD


def _sums_of_runs(vectors_UD: tf.Tensor, replacements: Replacements) -> tf.Tensor:
    """The sum of each counterfactual's substitutes, which are the beginning of a run, float [B, C, d].

    All beginnings of the G runs are added up once; a counterfactual takes one of them.
    """
    assert replacements.runs is not None
    items_GR, run_BC = replacements.runs
    most, width = items_GR.shape[1], vectors_UD.shape[1]
    # Row q of it adds up the first q; row 0 stands for a counterfactual without any.
    triangle_QR = tf.constant(np.tri(most + 1, most, -1), vectors_UD.dtype)
    sums_GQD = tf.matmul(triangle_QR, tf.gather(vectors_UD, items_GR))
    count_BC = tf.reduce_sum(tf.cast(replacements.replaced_BCR, tf.int32), axis=2)
    return tf.gather(tf.reshape(sums_GQD, [-1, width]), run_BC * (most + 1) + count_BC)


def _sums_of_substitutes(vectors_UD: tf.Tensor, replacements: Replacements) -> tf.Tensor:
    """The same for any substitutes; only those that count are gathered."""
    _, substitutes_BCR, replaced_BCR, _ = replacements
    num_histories, most = replaced_BCR.shape[1:]
    num_segments, width = tf.shape(replaced_BCR)[0] * num_histories, vectors_UD.shape[1]
    segments_S = tf.cast(tf.where(tf.reshape(replaced_BCR, [-1, most]))[:, 0], tf.int32)
    substitutes_S = tf.boolean_mask(substitutes_BCR, replaced_BCR)
    # For no entry at all (an empty memory) TensorFlow 2.20 leaves the gradient of the sum uninitialised.
    sums_ND = tf.cond(
        tf.size(substitutes_S) > 0,
        lambda: tf.sparse.segment_sum(vectors_UD, substitutes_S, segments_S, num_segments=num_segments),
        lambda: tf.zeros([num_segments, width], vectors_UD.dtype),
    )
    return tf.reshape(sums_ND, [-1, num_histories, width])


def _with_original(history_BL: tf.Tensor, replacements: Replacements) -> tf.Tensor:
    """The history and its counterfactuals written out, [B, L] or [B, L, d] -> [B, E, L] or [B, E, L, d]."""
    return tf.concat([history_BL[:, tf.newaxis], synthesis.apply(history_BL, replacements)], axis=1)


def _leaves(replacements: Replacements, length: int) -> tf.Tensor:
    """1 where a counterfactual replaces, float [B, C, L]."""
    # The positions that are replaced are distinct, so the sum of their one-hot rows is 0 or 1.
    places_BCR = tf.where(replacements.replaced_BCR, replacements.positions_BCR, -1)
    return tf.reduce_sum(tf.one_hot(places_BCR, length, dtype=tf.float32), axis=2)


def _stays(real_BL: tf.Tensor, replacements: Replacements) -> tf.Tensor:
    """1 where a real concept is not replaced in a counterfactual, float [B, C, L]."""
    return real_BL[:, tf.newaxis] - _leaves(replacements, real_BL.shape[1])


def _project_means(tower, sums_BCD: tf.Tensor, count_B: tf.Tensor) -> tf.Tensor:
    """The tower's vectors of the means that have these sums, float [B, C, d]."""
    means_BCD = sums_BCD / tf.maximum(count_B, 1.0)[:, tf.newaxis, tf.newaxis]
    num_histories, width = sums_BCD.shape[1:]
    vectors_ND = tower.project(tf.reshape(means_BCD, [-1, width]))
    return tf.reshape(vectors_ND, [-1, num_histories, width])


def _apart(vectors: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The histories of [B, E, ...] and their counterfactuals; a slice's gradient would be as large as all."""
    user, others = tf.split(vectors, [1, vectors.shape[1] - 1], axis=1)
    return tf.squeeze(user, axis=1), others

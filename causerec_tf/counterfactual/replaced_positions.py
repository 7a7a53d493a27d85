"""Which positions of a history a counterfactual replaces (section 3.3.3), on whatever level.

Shapes: B examples, L concepts, C = M + N counterfactual histories (the M positives first), R replacements at
most in one of them.
"""

import math
from fractions import Fraction

import tensorflow as tf

from causerec_tf.counterfactual.concepts import RankedConcepts


def choose(
    ranked: RankedConcepts,
    *,
    num_positives: int,
    num_negatives: int,
    replacement_rate: float,
    seed: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Draws `ceil(replacement_rate * size of the half)` distinct positions for each counterfactual history.

    A positive draws from the dispensable half, a negative from the indispensable one: uniformly, without
    replacement, and independently of the other histories.

    Args:
      ranked: the concepts, ordered and halved.
      num_positives: M.
      num_negatives: N.
      replacement_rate: r_rep, in (0, 1].
      seed: int [2].

    Returns:
      int32 [B, C, R], positions, and bool [B, C, R], which of them are drawn. The others mean nothing.
    """
    batch_size, length = tf.shape(ranked.order_BL)[0], ranked.order_BL.shape[1]
    half = (length + 1) // 2
    # Exact: in binary floating point ceil(.6 * 5) may come out as 4.
    rate = Fraction(str(replacement_rate))
    counts = tf.constant([math.ceil(rate * size) for size in range(half + 1)], tf.int32)
    most = math.ceil(rate * half)

    num_histories = num_positives + num_negatives
    is_positive_C = tf.range(num_histories) < num_positives
    size_BC = tf.where(
        is_positive_C[tf.newaxis, :],
        ranked.num_dispensable_B[:, tf.newaxis],
        ranked.num_indispensable_B[:, tf.newaxis],
    )
    # The ranks with the largest of independent uniform keys are a uniform draw without replacement.
    keys_BCH = tf.random.stateless_uniform([batch_size, num_histories, half], seed)
    in_half_BCH = tf.range(half) < size_BC[..., tf.newaxis]
    _, ranks_BCR = tf.math.top_k(tf.where(in_half_BCH, keys_BCH, -1.0), k=most)
    chosen_BCR = tf.range(most) < tf.gather(counts, size_BC)[..., tf.newaxis]

    first_BC = tf.where(is_positive_C[tf.newaxis, :], ranked.num_indispensable_B[:, tf.newaxis], 0)
    # Ranks of draws that do not count may point past the end.
    ranks_BCR = tf.minimum(ranks_BCR + first_BC[..., tf.newaxis], length - 1)
    return tf.gather(ranked.order_BL, ranks_BCR, batch_dims=1), chosen_BCR

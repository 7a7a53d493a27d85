"""Which concepts of a history matter for its target: indispensable and dispensable (section 3.3.2)."""

from typing import NamedTuple

import tensorflow as tf


class RankedConcepts(NamedTuple):
    """The real concepts of each history, best first, cut into two halves.

    Attributes:
      order_BL: int32 [B, L], positions by falling score; positions of padding come last.
      num_indispensable_B: int32 [B], `ceil(n / 2)` of the n real concepts: the first in the order.
      num_dispensable_B: int32 [B], the rest of the real ones: those that follow in the order.
    """

    order_BL: tf.Tensor
    num_indispensable_B: tf.Tensor
    num_dispensable_B: tf.Tensor

    @property
    def is_indispensable_BL(self) -> tf.Tensor:
        """Which positions hold an indispensable concept, bool [B, L]; False for padding."""
        # The order is a permutation of the positions; its inverse gives each position's rank.
        rank_BL = tf.argsort(self.order_BL, axis=-1)
        return rank_BL < self.num_indispensable_B[:, tf.newaxis]


def scores_by_target(
    concepts_BLD: tf.Tensor, target_BD: tf.Tensor, seed: tf.Tensor | None = None
) -> tf.Tensor:
    """Equations 5 and 8: the inner product of each concept with the target.

    For the interests `C = A^T X` of equation 7 this is equation 8, since `A^T phi(X, y) = phi(A^T X, y)` for
    an inner product phi.

    Args:
      concepts_BLD: float [B, L, d].
      target_BD: float [B, d].
      seed: not used: nothing is drawn.

    Returns:
      float [B, L]. No gradient passes: the scores choose, they are not trained.
    """
    del seed
    return tf.stop_gradient(tf.linalg.matvec(concepts_BLD, target_BD))


def random_scores(concepts_BLD: tf.Tensor, target_BD: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """The control of `scores_by_target`: uniform scores, which make the synthesis a plain augmentation."""
    del target_BD
    return tf.random.stateless_uniform(tf.shape(concepts_BLD)[:2], tf.random.fold_in(seed, 2))


def rank(scores_BL: tf.Tensor, mask_BL: tf.Tensor) -> RankedConcepts:
    """Orders concepts by falling score, [B, L], and halves the real ones; ties keep their positions."""
    # Minus infinity, so that no real score can sort below padding. top_k breaks ties by position.
    masked_BL = tf.where(mask_BL, scores_BL, float("-inf"))
    _, order_BL = tf.math.top_k(masked_BL, k=tf.shape(scores_BL)[1])
    num_real_B = tf.reduce_sum(tf.cast(mask_BL, tf.int32), axis=-1)
    num_indispensable_B = (num_real_B + 1) // 2
    return RankedConcepts(order_BL, num_indispensable_B, num_real_B - num_indispensable_B)

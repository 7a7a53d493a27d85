"""The losses beside the matching: each takes `LossInputs` and gives one value per example.

Shapes: B examples, L history positions, d vector size, S sampled negatives, M counterfactual positives, N
counterfactual negatives. Every mask is explicit: what is masked adds nothing to the value and gets no
gradient.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import tensorflow as tf

from causerec_tf.errors import InputError

MARGIN_CO = 1.0  # Delta_co of equation 9
MARGIN_II = 0.5  # Delta_ii of equation 10


class Counterfactuals(NamedTuple):
    """Vectors of the counterfactual histories; of several vectors a user the nearest to the target.

    Attributes:
      positive_BMD: float [B, M, d], of the positives, whose dispensable concepts were replaced.
      negative_BND: float [B, N, d], of the negatives, whose indispensable concepts were replaced.
      positives_exist_BM: bool [B, M]; where nothing could be replaced, there is no such history.
      negatives_exist_BN: bool [B, N].
      match_positives: computes the matching loss of each positive, float [B, M].
    """

    positive_BMD: tf.Tensor
    negative_BND: tf.Tensor
    positives_exist_BM: tf.Tensor
    negatives_exist_BN: tf.Tensor
    match_positives: Callable[[], tf.Tensor]


@dataclass(frozen=True)
class LossInputs:
    """What a loss may look at.

    Attributes:
      history_BL: int32 [B, L], item ids, oldest first.
      mask_BL: bool [B, L], which are real.
      history_BLD: float [B, L, d], vectors of the history's items.
      target_B: int32 [B], the target items.
      target_BD: float [B, d], their vectors, as users are matched with them.
      negative_ids_S: int32 [S], the sampled negatives of the matching, which the batch shares.
      negative_SD: float [S, d], their vectors.
      user_BD: float [B, d], the user vector; of several the nearest to the target.
      synthesised: the counterfactuals, or None of a model without them; see `counterfactuals`.
    """

    history_BL: tf.Tensor
    mask_BL: tf.Tensor
    history_BLD: tf.Tensor
    target_B: tf.Tensor
    target_BD: tf.Tensor
    negative_ids_S: tf.Tensor
    negative_SD: tf.Tensor
    user_BD: tf.Tensor
    synthesised: Counterfactuals | None = None

    @property
    def counterfactuals(self) -> Counterfactuals:
        """The counterfactuals.

        Raises:
          InputError: the model synthesises none.
        """
        if self.synthesised is None:
            raise InputError(
                "a loss wants counterfactual histories, and the model has no counterfactual part. Give it"
                " one, such as counterfactual=CounterfactualItems(...), or leave the loss out."
            )
        return self.synthesised


Loss = Callable[[LossInputs], tf.Tensor]


class WeightedLoss(NamedTuple):
    """A term of the objective.

    Attributes:
      name: what records and plots call it.
      weight: above 0.
      loss: `LossInputs` -> float [B].
    """

    name: str
    weight: float
    loss: Loss


def contrast_with_observation(inputs: LossInputs) -> tf.Tensor:
    """L_co, equation 9: a triplet loss over all M x N pairs.

    `sum_m sum_n max(||x - x+_m|| - ||x - x-_n|| + 1, 0)` with the L2 distance.

    Returns:
      float [B]; 0 for an example without a pair.
    """
    user_BD, made = inputs.user_BD, inputs.counterfactuals
    to_positive_BM = _safe_norm(user_BD[:, tf.newaxis] - made.positive_BMD)
    to_negative_BN = _safe_norm(user_BD[:, tf.newaxis] - made.negative_BND)
    triplet_BMN = tf.nn.relu(to_positive_BM[:, :, tf.newaxis] - to_negative_BN[:, tf.newaxis, :] + MARGIN_CO)
    pair_BMN = made.positives_exist_BM[:, :, tf.newaxis] & made.negatives_exist_BN[:, tf.newaxis, :]
    return tf.reduce_sum(tf.where(pair_BMN, triplet_BMN, 0.0), axis=(1, 2))


def contrast_with_items(inputs: LossInputs) -> tf.Tensor:
    """L_ii, equation 10, on vectors of length one.

    `sum_m (1 - x+_m . y) + sum_n max(0, x-_n . y - 0.5)`.

    Returns:
      float [B]; 0 for an example with no counterfactual history.
    """
    target_BD, made = tf.math.l2_normalize(inputs.target_BD, axis=-1), inputs.counterfactuals
    cosine_BM = _cosines(made.positive_BMD, target_BD)
    cosine_BN = _cosines(made.negative_BND, target_BD)
    pull_B = tf.reduce_sum(tf.where(made.positives_exist_BM, 1.0 - cosine_BM, 0.0), axis=-1)
    push_BN = tf.where(made.negatives_exist_BN, tf.nn.relu(cosine_BN - MARGIN_II), 0.0)
    return pull_B + tf.reduce_sum(push_BN, axis=-1)


def match_positives(inputs: LossInputs) -> tf.Tensor:
    """L_cm (ours): counterfactual positives must still find the target; the mean of their matching losses.

    Returns:
      float [B]; 0 for an example without a positive.
    """
    made = inputs.counterfactuals
    losses_BM = made.match_positives()
    exist_BM = tf.cast(made.positives_exist_BM, losses_BM.dtype)
    return tf.math.divide_no_nan(tf.reduce_sum(losses_BM * exist_BM, axis=1), tf.reduce_sum(exist_BM, axis=1))


def _cosines(vectors_BND: tf.Tensor, unit_BD: tf.Tensor) -> tf.Tensor:
    """The cosine of each vector with one of length one, float [B, N]; 0 for a vector of zeros."""
    # The product first: so that no vector is written out again at another length.
    squared_BN = tf.reduce_sum(tf.square(vectors_BND), axis=-1)
    return tf.linalg.matvec(vectors_BND, unit_BD) * tf.math.rsqrt(tf.maximum(squared_BN, 1e-12))


@tf.function(reduce_retracing=True, autograph=False)
def _safe_norm(vectors: tf.Tensor) -> tf.Tensor:
    """The L2 norm over the last axis, with gradient 0 instead of NaN where the vector is 0.

    A function of its own for the same reason as `matching._log_sum_exp_of_products`.
    """

    @tf.custom_gradient
    def norm_of(vectors):
        norm = tf.sqrt(tf.reduce_sum(tf.square(vectors), axis=-1))

        def gradient(upstream):
            return tf.math.divide_no_nan(upstream, norm)[..., tf.newaxis] * vectors

        return norm, gradient

    return norm_of(vectors)

"""The cosine contrastive loss of SimpleX."""

from collections.abc import Callable

import tensorflow as tf

from causerec_tf.matching import Candidates, SampledMatching, accidental_hits
from causerec_tf.negatives import InBatchSampler, Sampler


class CosineContrastive(SampledMatching):
    """Draws targets near, and pushes those negatives away that are nearer than a margin.

        (1 - u . v) + w / S sum_s max(0, u . n_s - m)

    on vectors of length one: Mao et al., SimpleX, CIKM 2021, equation 2. A negative that is the example's own
    target adds nothing. What a sampler is corrected by in a softmax has no place here.
    """

    needs_unit_length = True

    def __init__(
        self,
        sampler: Sampler | InBatchSampler | None = None,
        *,
        margin: float = 0.4,
        negative_weight: float = 150.0,
        choose_interest: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | None = None,
    ):
        """Sets what is drawn and how it is compared.

        Args:
          sampler: see `SampledMatching`.
          margin: m, in [-1, 1).
          negative_weight: w.
          choose_interest: see `SampledMatching`.
        """
        super().__init__(sampler, choose_interest=choose_interest)
        self.margin, self.negative_weight = margin, negative_weight

    def of_each(self, user_BD: tf.Tensor, candidates: Candidates) -> tf.Tensor:
        """As in `SampledMatching`."""
        products_BS = tf.matmul(user_BD, candidates.negative_SD, transpose_b=True)
        hits = accidental_hits(candidates.target_B, candidates.negatives.ids_S)
        farthest = tf.fill([tf.shape(hits)[0]], -1.0)
        products_BS = tf.tensor_scatter_nd_update(products_BS, hits, farthest)
        pushed_B = tf.reduce_mean(tf.nn.relu(products_BS - self.margin), axis=1)
        return 1.0 - tf.reduce_sum(user_BD * candidates.target_BD, axis=1) + self.negative_weight * pushed_B

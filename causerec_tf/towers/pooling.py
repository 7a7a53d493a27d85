"""The paper's base encoder: mean over the real concepts, then an MLP (f of equation 4).

Shapes: as in `base`.
"""

import tensorflow as tf

from causerec_tf.towers.base import Changes, UserTower
from causerec_tf.towers.layers import dense, seed_of


class MeanPoolingTower(UserTower):
    """`f(x) = MLP(mean of the real concepts)`, d -> 256 -> 256 -> d with ReLU, none after the last.

    A mean is linear in its concepts, so that counterfactual histories cost what they change.
    """

    is_causal = True

    def __init__(self, embedding_dim: int, *, hidden_units=(256, 256), seed: int = 0, **kwargs):
        """Makes the MLP.

        Args:
          embedding_dim: d, of the concepts and of the user vector.
          hidden_units: widths of the hidden layers.
          seed: of the initial weights.
          **kwargs: of the Keras layer; a `dtype` of mixed precision holds for the MLP's products.
        """
        super().__init__(**kwargs)
        self.embedding_dim = embedding_dim
        widths = [*hidden_units, embedding_dim]
        activations = [*["relu"] * len(hidden_units), None]
        self._layers = [
            dense(width, seed_of(seed, index), f"dense_{index}", self.dtype_policy, activation=activation)
            for index, (width, activation) in enumerate(zip(widths, activations, strict=True))
        ]

    def build(self, input_shape) -> None:
        """Makes every weight, so that a checkpoint finds them before the first call."""
        width = self.embedding_dim
        for layer in self._layers:
            layer.build([None, width])
            width = layer.units
        super().build(input_shape)

    def call(self, concepts_BLD: tf.Tensor, mask_BL: tf.Tensor) -> tf.Tensor:
        """As in `UserTower`; the MLP of the zero vector where no concept is real."""
        real_BL = tf.cast(mask_BL, concepts_BLD.dtype)
        total_BD = tf.linalg.matvec(concepts_BLD, real_BL, transpose_a=True)
        count_B = tf.maximum(tf.reduce_sum(real_BL, axis=-1), 1.0)
        return self.project(total_BD / count_B[:, tf.newaxis])

    def encode_places(self, places_BL: tf.Tensor, mask_BL: tf.Tensor, vectors_UD: tf.Tensor) -> tf.Tensor:
        """As in `UserTower`; sums what is real where it lies, instead of looking up and masking all."""
        at_N2 = tf.where(mask_BL)
        places_N, rows_N = tf.gather_nd(places_BL, at_N2), at_N2[:, 0]
        num_rows, width = tf.shape(mask_BL)[0], vectors_UD.shape[1]
        # For no entry at all TensorFlow 2.20 leaves the gradient of the mean uninitialised.
        mean_BD = tf.cond(
            tf.size(places_N) > 0,
            lambda: tf.sparse.segment_mean(vectors_UD, places_N, rows_N, num_segments=num_rows),
            lambda: tf.zeros([num_rows, width], vectors_UD.dtype),
        )
        return self.project(mean_BD)

    def encode_every_position(self, concepts_BLD: tf.Tensor, mask_BL: tf.Tensor) -> tf.Tensor:
        """As in `UserTower`, by running sums."""
        real_BL = tf.cast(mask_BL, concepts_BLD.dtype)
        totals_BLD = tf.cumsum(concepts_BLD * real_BL[..., tf.newaxis], axis=1)
        counts_BL = tf.maximum(tf.cumsum(real_BL, axis=1), 1.0)
        return self.project(totals_BLD / counts_BL[..., tf.newaxis])

    def encode_counterfactuals(
        self, history_BL: tf.Tensor, mask_BL: tf.Tensor, changes: Changes, vectors_UD: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """As in `UserTower`; changes the means instead of pooling again.

        The histories are not put into one batch with their counterfactuals: the softmax, which needs no
        others, would wait for the synthesis, much of which keeps one core busy and no more.
        """
        if vectors_UD is None:
            history_BLD, users = history_BL, self(history_BL, mask_BL)
        else:
            history_BLD = tf.gather(vectors_UD, history_BL)
            users = self.encode_places(history_BL, mask_BL, vectors_UD)
        sums_BCD = changes.sums(history_BLD, mask_BL, vectors_UD)
        count_B = tf.maximum(tf.reduce_sum(tf.cast(mask_BL, sums_BCD.dtype), axis=1), 1.0)
        others_BCD = self._project_each(sums_BCD / count_B[:, tf.newaxis, tf.newaxis])
        return users, others_BCD

    def encode_extracted(self, weights_BCLK, has_concepts_B, history_BL, changes, vectors_UD) -> tf.Tensor:
        """As in `UserTower`; the mean of K weighted sums is one sum, by the mean of the K weights."""
        weights_BCL = tf.reduce_mean(weights_BCLK, axis=3)
        return self._project_each(changes.weighted_sums(weights_BCL, history_BL, vectors_UD))

    def _project_each(self, pooled_BCD: tf.Tensor) -> tf.Tensor:
        num_histories, width = pooled_BCD.shape[1:]
        return tf.reshape(self.project(tf.reshape(pooled_BCD, [-1, width])), [-1, num_histories, width])

    def project(self, pooled: tf.Tensor) -> tf.Tensor:
        """The MLP alone, float32 [..., d] -> float32 [..., d]."""
        for layer in self._layers:
            pooled = layer(pooled)
        return tf.cast(pooled, tf.float32)

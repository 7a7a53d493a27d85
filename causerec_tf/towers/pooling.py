"""The paper's base encoder: mean over the real concepts, then an MLP (f of equation 4)."""

import tensorflow as tf

from causerec_tf.towers.seeds import seed_of


class MeanPoolingTower(tf.keras.layers.Layer):
    """`f(x) = MLP(mean of the real concepts)`, d -> 256 -> 256 -> d with ReLU, none after the last.

    A mean is linear in its concepts. Whoever changes a few of them can therefore change the mean
    instead of pooling again, and hand it to `project`; `is_mean_pooling` declares that.
    """

    num_interests = 1
    is_mean_pooling = True

    def __init__(self, embedding_dim: int, *, hidden_units=(256, 256), seed: int = 0, **kwargs):
        """Makes the MLP.

        Args:
          embedding_dim: d, of the concepts and of the user vector.
          hidden_units: widths of the hidden layers.
          seed: of the initial weights.
          **kwargs: of the Keras layer; a `dtype` of mixed precision holds for the MLP's products.
        """
        super().__init__(autocast=False, **kwargs)
        self.embedding_dim = embedding_dim
        widths = [*hidden_units, embedding_dim]
        self._layers = [
            tf.keras.layers.Dense(
                width,
                activation="relu" if index < len(hidden_units) else None,
                kernel_initializer=tf.keras.initializers.GlorotUniform(seed_of(seed, index)),
                name=f"dense_{index}",
                dtype=self.dtype_policy,
            )
            for index, width in enumerate(widths)
        ]

    def build(self, input_shape) -> None:
        """Makes every weight, so that a checkpoint finds them before the first call."""
        width = self.embedding_dim
        for layer in self._layers:
            layer.build([None, width])
            width = layer.units
        super().build(input_shape)

    def call(self, concepts_BLD: tf.Tensor, mask_BL: tf.Tensor) -> tf.Tensor:
        """Encodes histories.

        Args:
          concepts_BLD: float [B, L, d].
          mask_BL: bool [B, L], which concepts are real.

        Returns:
          float [B, d]; the MLP of the zero vector where no concept is real.
        """
        real_BL = tf.cast(mask_BL, concepts_BLD.dtype)
        total_BD = tf.linalg.matvec(concepts_BLD, real_BL, transpose_a=True)
        count_B = tf.maximum(tf.reduce_sum(real_BL, axis=-1), 1.0)
        return self.project(total_BD / count_B[:, tf.newaxis])

    def project(self, pooled: tf.Tensor) -> tf.Tensor:
        """The MLP alone, float32 [..., d] -> float32 [..., d]."""
        for layer in self._layers:
            pooled = layer(pooled)
        return tf.cast(pooled, tf.float32)

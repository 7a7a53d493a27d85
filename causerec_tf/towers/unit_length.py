"""User vectors of length one: with items of length one, their inner product is the cosine."""

import tensorflow as tf


class UnitLengthTower(tf.keras.layers.Layer):
    """Any user tower, its vectors divided by their L2 norm. A vector of zeros stays one."""

    def __init__(self, tower: tf.keras.layers.Layer, **kwargs):
        """Wraps a tower.

        Args:
          tower: concepts [B, L, d] and mask [B, L] to user vectors.
          **kwargs: of the Keras layer.
        """
        super().__init__(autocast=False, **kwargs)
        self.tower = tower
        self.num_interests = tower.num_interests
        self.is_mean_pooling = getattr(tower, "is_mean_pooling", False)

    def build(self, input_shape) -> None:
        """Makes every weight, so that a checkpoint finds them before the first call."""
        self.tower.build(input_shape)
        super().build(input_shape)

    def call(self, concepts_BLD: tf.Tensor, mask_BL: tf.Tensor) -> tf.Tensor:
        """Encodes histories.

        Args:
          concepts_BLD: float [B, L, d].
          mask_BL: bool [B, L], which concepts are real.

        Returns:
          float [B, d] or [B, K, d], of length one along the last axis.
        """
        return tf.math.l2_normalize(self.tower(concepts_BLD, mask_BL), axis=-1)

    def project(self, pooled: tf.Tensor) -> tf.Tensor:
        """What follows the mean, of a tower that declares `is_mean_pooling`; float [..., d] -> [..., d]."""
        return tf.math.l2_normalize(self.tower.project(pooled), axis=-1)

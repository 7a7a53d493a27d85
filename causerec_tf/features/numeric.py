"""A number -> a vector along a learned direction."""

import tensorflow as tf

MOST_DEVIATIONS = 5.0


class NumericEncoder(tf.keras.layers.Layer):
    """`e = clip((value - mean) / deviation, -5, 5) w`, and a learned vector for a value that is missing."""

    def __init__(self, embedding_dim: int, *, mean: float, deviation: float, std: float, seed: int, **kwargs):
        """Sets the sizes.

        Args:
          embedding_dim: d.
          mean: of the training values.
          deviation: their standard deviation.
          std: standard deviation of the initial w.
          seed: of the initial w.
          **kwargs: of the Keras layer.
        """
        super().__init__(**kwargs)
        self._embedding_dim = embedding_dim
        self.mean, self.deviation = mean, deviation
        self._std, self._seed = std, seed

    def build(self, input_shape) -> None:
        """Makes w and the vector of what is missing, which starts at 0."""

        def initial(shape, dtype=None, **_):
            return tf.random.stateless_normal(shape, [self._seed, -1], stddev=self._std, dtype=dtype)

        self.direction = self.add_weight(name="direction", shape=[self._embedding_dim], initializer=initial)
        self.missing = self.add_weight(name="missing", shape=[self._embedding_dim], initializer="zeros")
        super().build(input_shape)

    def call(self, values: tf.Tensor) -> tf.Tensor:
        """Encodes numbers, float32 [...], NaN where one is missing, -> float32 [..., d]."""
        is_missing = tf.math.is_nan(values)
        standardised = (tf.where(is_missing, self.mean, values) - self.mean) / self.deviation
        standardised = tf.clip_by_value(standardised, -MOST_DEVIATIONS, MOST_DEVIATIONS)
        return (
            standardised[..., tf.newaxis] * self.direction
            + tf.cast(is_missing, values.dtype)[..., tf.newaxis] * self.missing
        )

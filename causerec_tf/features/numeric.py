"""A number -> a vector along a learned direction."""

import tensorflow as tf

from causerec_tf.features.entries import Entries, summed

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

    def entries(self, values_N: tf.Tensor) -> Entries:
        """What numbers say, float32 [N], NaN where one is missing."""
        is_missing_N = tf.math.is_nan(values_N)
        standardised_N = (tf.where(is_missing_N, self.mean, values_N) - self.mean) / self.deviation
        standardised_N = tf.clip_by_value(standardised_N, -MOST_DEVIATIONS, MOST_DEVIATIONS)
        weights_N1 = tf.where(is_missing_N, 1.0, standardised_N)[:, tf.newaxis]
        rows_2D = tf.stack([self.direction, self.missing])
        return Entries(rows_2D, tf.cast(is_missing_N, tf.int32)[:, tf.newaxis], weights_N1)

    def call(self, values_N: tf.Tensor) -> tf.Tensor:
        """Encodes numbers, float32 [N] -> float32 [N, d]."""
        return summed([self.entries(values_N)])

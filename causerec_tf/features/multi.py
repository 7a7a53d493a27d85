"""Several values of a vocabulary, or the words of a text -> the mean of their embeddings.

Shapes: N rows of values, W values a row, d vector size.
"""

import tensorflow as tf

from causerec_tf.features.entries import Entries, rows_of, summed
from causerec_tf.features.tables import add_table


class MultiEncoder(tf.keras.layers.Layer):
    """`e = mean of T[value]` over the distinct values of a row; `T[0]` where there is none."""

    def __init__(self, num_rows: int, embedding_dim: int, *, num_zero: int, std: float, seed: int, **kwargs):
        """Sets the table's size.

        Args:
          num_rows: of the table: one more than the largest stored value.
          embedding_dim: d.
          num_zero: so many rows start at 0, the first: 2 of a vocabulary, missing and unknown; 1 of words.
          std: standard deviation of the other initial embeddings.
          seed: of the initial embeddings.
          **kwargs: of the Keras layer.
        """
        super().__init__(**kwargs)
        self._num_rows, self._embedding_dim, self._num_zero = num_rows, embedding_dim, num_zero
        self._std, self._seed = std, seed

    def build(self, input_shape) -> None:
        """Makes the table, [num_rows, d]."""
        self.table = add_table(
            self,
            self._num_rows,
            self._embedding_dim,
            num_zero=self._num_zero,
            std=self._std,
            seed=self._seed,
        )
        super().build(input_shape)

    def entries(self, values_NW: tf.Tensor) -> Entries:
        """What rows say, once a step: int32 [N, W], distinct in a row, filled up with 0 on the right."""
        rows_RD, places_NW = rows_of(self.table, values_NW)
        # A row without any counts as one with the value 0.
        is_read_NW = (values_NW != 0) | (tf.range(values_NW.shape[1]) == 0)
        weights_NW = tf.cast(is_read_NW, tf.float32)
        return Entries(rows_RD, places_NW, weights_NW / tf.reduce_sum(weights_NW, axis=1, keepdims=True))

    def call(self, values_NW: tf.Tensor) -> tf.Tensor:
        """Encodes rows of values, int32 [N, W] -> float32 [N, d]."""
        return summed([self.entries(values_NW)])

"""A value of a vocabulary -> its embedding."""

import tensorflow as tf

from causerec_tf.features.entries import Entries, rows_of, summed
from causerec_tf.features.tables import add_table


class CategoricalEncoder(tf.keras.layers.Layer):
    """`e = T[value]`, with the rows of `missing` and `unknown` starting at 0."""

    def __init__(self, num_values: int, embedding_dim: int, *, std: float, seed: int, **kwargs):
        """Sets the table's size.

        Args:
          num_values: of the vocabulary. Values are 0: missing, 1: not in it, 2 to num_values + 1: one of it.
          embedding_dim: d.
          std: standard deviation of the initial embeddings.
          seed: of the initial embeddings.
          **kwargs: of the Keras layer.
        """
        super().__init__(**kwargs)
        self._num_rows, self._embedding_dim = num_values + 2, embedding_dim
        self._std, self._seed = std, seed

    def build(self, input_shape) -> None:
        """Makes the table, [num_values + 2, d]."""
        self.table = add_table(
            self, self._num_rows, self._embedding_dim, num_zero=2, std=self._std, seed=self._seed
        )
        super().build(input_shape)

    def entries(self, values_N: tf.Tensor) -> Entries:
        """What values say, int32 [N], once a step."""
        rows_RD, places_N = rows_of(self.table, values_N)
        places_N1 = places_N[:, tf.newaxis]
        return Entries(rows_RD, places_N1, tf.ones_like(places_N1, tf.float32))

    def call(self, values_N: tf.Tensor) -> tf.Tensor:
        """Encodes values, int32 [N] -> float32 [N, d]."""
        return summed([self.entries(values_N)])

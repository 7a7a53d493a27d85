"""Several values of a vocabulary, or the words of a text -> the mean of their embeddings.

Shapes: N rows of values, W values a row, P real ones of all rows, d vector size.
"""

import tensorflow as tf

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

    def call(self, values: tf.Tensor) -> tf.Tensor:
        """Encodes rows of values.

        Args:
          values: int32 [..., W], distinct within a row, filled up with 0 on the right.

        Returns:
          float32 [..., d].
        """
        width = values.shape[-1]
        values_NW = tf.reshape(values, [-1, width])
        # A row without any counts as one with the value 0, so that every row has an entry.
        is_read_NW = (values_NW != 0) | (tf.range(width) == 0)
        rows_P = tf.cast(tf.where(is_read_NW)[:, 0], tf.int32)
        distinct, places_P = tf.unique(tf.boolean_mask(values_NW, is_read_NW))
        num_rows = tf.shape(values_NW)[0]
        # Nothing is written out for each value: the sums are made where the rows lie.
        means_ND = tf.sparse.segment_mean(
            tf.gather(self.table, distinct), places_P, rows_P, num_segments=num_rows
        )
        means = tf.reshape(means_ND, tf.concat([tf.shape(values)[:-1], [self._embedding_dim]], axis=0))
        means.set_shape([*values.shape[:-1], self._embedding_dim])
        return means

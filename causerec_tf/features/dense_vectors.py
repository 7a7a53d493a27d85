"""A vector made elsewhere, such as one of a picture or a text -> a vector of ours."""

import tensorflow as tf


class VectorEncoder(tf.keras.layers.Layer):
    """`e = W v`, without a bias: a vector of zeros, which stands for none, adds nothing."""

    def __init__(self, size: int, embedding_dim: int, *, std: float, seed: int, **kwargs):
        """Sets the sizes.

        Args:
          size: of the vectors that come in.
          embedding_dim: d.
          std: standard deviation of the initial W.
          seed: of the initial W.
          **kwargs: of the Keras layer.
        """
        super().__init__(**kwargs)
        self._size, self._embedding_dim = size, embedding_dim
        self._std, self._seed = std, seed

    def build(self, input_shape) -> None:
        """Makes W, [size, d]."""

        def initial(shape, dtype=None, **_):
            return tf.random.stateless_normal(shape, [self._seed, -1], stddev=self._std, dtype=dtype)

        self.kernel = self.add_weight(
            name="kernel", shape=[self._size, self._embedding_dim], initializer=initial
        )
        super().build(input_shape)

    def call(self, vectors_NS: tf.Tensor) -> tf.Tensor:
        """Encodes vectors, float32 [N, size] -> float32 [N, d]."""
        return tf.matmul(vectors_NS, self.kernel)

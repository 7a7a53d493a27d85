"""SASRec (Kang and McAuley, ICDM 2018): causal self-attention.

Shapes: B examples, L history positions, d vector size, H heads, Q positions that ask.
"""

import tensorflow as tf

from causerec_tf.towers import positions
from causerec_tf.towers.base import UserTower
from causerec_tf.towers.layers import dense, seed_of

EPSILON = 1e-8  # of the layer normalisation, as in the published code


class SASRecTower(UserTower):
    """Learned positions, causal self-attention blocks, and the vector of the last real position.

    In the paper's form, which normalises before each part:

        x_1 = sqrt(d) e + p,   x' = x + attention(norm(x)),   x'' = x' + feed_forward(norm(x')),
        user vector = norm(x_last),   feed_forward(h) = W_2 ReLU(W_1 h + b_1) + b_2.

    The scale of the items is that of the published code. Positions are counted from the newest item, as
    there, where padding stands on the left. There is no dropout.
    """

    def __init__(
        self,
        embedding_dim: int,
        *,
        max_history: int,
        num_blocks: int = 2,
        num_heads: int = 1,
        seed: int = 0,
        **kwargs,
    ):
        """Makes the blocks.

        Args:
          embedding_dim: d, of the concepts and of the user vector.
          max_history: how many positions have a vector.
          num_blocks: how many blocks.
          num_heads: H, of each block; it divides d.
          seed: of the initial weights.
          **kwargs: of the Keras layer; a `dtype` of mixed precision holds for the dense layers' products.

        Raises:
          ValueError: d cannot be divided among the heads.
        """
        super().__init__(**kwargs)
        if embedding_dim % num_heads:
            raise ValueError(f"embedding_dim={embedding_dim}: wanted a multiple of num_heads={num_heads}.")
        self.embedding_dim = embedding_dim
        self.max_history = max_history
        self._seed = seed
        self._blocks = [
            _Block(embedding_dim, num_heads, seed=seed_of(seed, number), dtype=self.dtype_policy)
            for number in range(1, num_blocks + 1)
        ]
        self._last_norm = _norm("last_norm")

    def build(self, input_shape) -> None:
        """Makes every weight, so that a checkpoint finds them before the first call."""
        self._positions = self.add_weight(
            name="positions",
            shape=[self.max_history, self.embedding_dim],
            initializer=tf.keras.initializers.RandomNormal(stddev=0.1, seed=seed_of(self._seed, 0)),
            experimental_autocast=False,
        )
        for block in self._blocks:
            block.build(None)
        self._last_norm.build([None, None, self.embedding_dim])
        super().build(input_shape)

    def call(self, concepts_BLD: tf.Tensor, mask_BL: tf.Tensor) -> tf.Tensor:
        """As in `UserTower`; something finite where no concept is real."""
        scaled_BLD = concepts_BLD * self.embedding_dim**0.5
        sequence_BLD = scaled_BLD + positions.from_newest(self._positions, mask_BL)
        sequence_BLD *= tf.cast(mask_BL, sequence_BLD.dtype)[..., tf.newaxis]
        place_L = tf.range(tf.shape(mask_BL)[1])
        causal_LL = place_L[:, tf.newaxis] >= place_L
        for block in self._blocks[:-1]:
            sequence_BLD = block(sequence_BLD, sequence_BLD, causal_LL & mask_BL[:, tf.newaxis])
        # Nothing but the last position is read of the last block, so nothing else is computed.
        length_B = tf.reduce_sum(tf.cast(mask_BL, tf.int32), axis=1)
        last_B1 = tf.maximum(length_B - 1, 0)[:, tf.newaxis]
        user_B1D = tf.gather(sequence_BLD, last_B1, batch_dims=1)
        for block in self._blocks[-1:]:
            user_B1D = block(user_B1D, sequence_BLD, mask_BL[:, tf.newaxis])
        return self._last_norm(user_B1D)[:, 0]


class _Block(tf.keras.layers.Layer):
    """Self-attention and a point-wise feed-forward network, each on normalised input and added to it."""

    def __init__(self, width: int, num_heads: int, *, seed: int, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self._width = width
        self._num_heads = num_heads

        def square(name: str, number: int, activation: str | None = None) -> tf.keras.layers.Dense:
            return dense(width, seed_of(seed, number), name, self.dtype_policy, activation=activation)

        self._attention_norm = _norm("attention_norm")
        self._query, self._key, self._value = square("query", 0), square("key", 1), square("value", 2)
        self._feed_forward_norm = _norm("feed_forward_norm")
        self._hidden, self._output = square("hidden", 3, "relu"), square("output", 4)

    def build(self, input_shape) -> None:
        for layer in (
            *(self._attention_norm, self._query, self._key, self._value),
            *(self._feed_forward_norm, self._hidden, self._output),
        ):
            layer.build([None, None, self._width])
        super().build(input_shape)

    def call(self, asking_BQD: tf.Tensor, sequence_BLD: tf.Tensor, allowed_BQL: tf.Tensor) -> tf.Tensor:
        """New vectors of the positions that ask, float32 [B, Q, d], from those they may look at."""
        normed_BLD = self._attention_norm(sequence_BLD)
        # In all blocks but the last every position asks; normalising costs as much as a product.
        normed_BQD = normed_BLD if asking_BQD is sequence_BLD else self._attention_norm(asking_BQD)
        query_BHQD = self._split(self._query(normed_BQD))
        key_BHLD, value_BHLD = self._split(self._key(normed_BLD)), self._split(self._value(normed_BLD))
        logits_BHQL = tf.matmul(query_BHQD, key_BHLD, transpose_b=True) * key_BHLD.shape[-1] ** -0.5
        logits_BHQL = tf.where(allowed_BQL[:, tf.newaxis], logits_BHQL, logits_BHQL.dtype.min)
        attended_BHQD = tf.matmul(tf.nn.softmax(logits_BHQL), value_BHLD)
        attended_BQD = tf.reshape(tf.transpose(attended_BHQD, [0, 2, 1, 3]), tf.shape(asking_BQD))
        asking_BQD += attended_BQD
        fed_forward_BQD = self._output(self._hidden(self._feed_forward_norm(asking_BQD)))
        return asking_BQD + tf.cast(fed_forward_BQD, tf.float32)

    def _split(self, vectors_BLD: tf.Tensor) -> tf.Tensor:
        """The heads' parts of each vector, float32 [B, H, L, d / H]."""
        batch_size, length = tf.unstack(tf.shape(vectors_BLD)[:2])
        shape = [batch_size, length, self._num_heads, self._width // self._num_heads]
        return tf.transpose(tf.reshape(tf.cast(vectors_BLD, tf.float32), shape), [0, 2, 1, 3])


def _norm(name: str) -> tf.keras.layers.LayerNormalization:
    return tf.keras.layers.LayerNormalization(epsilon=EPSILON, name=name, dtype=tf.float32)

"""Blocks of a self-attentive tower: SASRec's, and LiGR's gated one.

Shapes: B examples, L positions, Q of them that ask, d vector size, H heads.
"""

import tensorflow as tf

from causerec_tf.towers.dropout import dropout
from causerec_tf.towers.layers import dense, seed_of


class AttentionBlock(tf.keras.layers.Layer):
    """What blocks share: masked attention with one or several heads, and what they want around them.

    A subclass writes `layers_and_widths` and `call`.

    Attributes:
      scales_items: whether item vectors come in times sqrt(d).
      normalises_input: whether the sum of item and position is normalised.
      normalises_output: whether what the last block gives is normalised.
      is_causal: whether a position sees only those before it and itself. A block that does not gets
        `max_history` positions with the padding on the left.
      epsilon: of its normalisations.
    """

    scales_items = False
    normalises_input = False
    normalises_output = False
    is_causal = True
    epsilon = 1e-8

    def __init__(
        self,
        width: int,
        num_heads: int,
        *,
        feedforward_dim: int = 0,
        dropout: float = 0.0,
        seed: int = 0,
        **kwargs,
    ):
        """Sets the sizes.

        Args:
          width: d.
          num_heads: H, a divisor of d.
          feedforward_dim: width of the feed-forward network's hidden layer; 0: the block's own.
          dropout: the share of values that is dropped in training.
          seed: of the initial weights.
          **kwargs: of the Keras layer; a `dtype` of mixed precision holds for the products.
        """
        super().__init__(autocast=False, **kwargs)
        self._width = width
        self._num_heads = num_heads
        self._feedforward_dim = feedforward_dim
        self._rate = dropout
        self._seed = seed

    def layers_and_widths(self) -> list[tuple[tf.keras.layers.Layer, int]]:
        """The layers in the order of their weights, with the widths of their inputs."""
        raise NotImplementedError

    def build(self, input_shape) -> None:
        """Makes every weight."""
        for layer, width in self.layers_and_widths():
            layer.build([None, None, width])
        super().build(input_shape)

    def call(self, asking_BQD: tf.Tensor, sequence_BLD: tf.Tensor, allowed_BQL: tf.Tensor) -> tf.Tensor:
        """New vectors of the positions that ask, from those they may look at.

        Args:
          asking_BQD: float32 [B, Q, d]: the sequence itself, or its newest positions.
          sequence_BLD: float32 [B, L, d].
          allowed_BQL: bool [B, Q, L] or [1, Q, L].

        Returns:
          float32 [B, Q, d].
        """
        raise NotImplementedError

    def _dense(self, name: str, number: int, units: int = 0, **options) -> tf.keras.layers.Dense:
        """A dense layer of the block, as wide as it unless said otherwise."""
        return dense(units or self._width, seed_of(self._seed, number), name, self.dtype_policy, **options)

    def _query_key_value(self) -> list[tf.keras.layers.Dense]:
        """What `_attend` needs as `_query`, `_key` and `_value`."""
        return [self._dense(name, number) for number, name in enumerate(("query", "key", "value"))]

    def _norm(self, name: str) -> tf.keras.layers.LayerNormalization:
        return tf.keras.layers.LayerNormalization(epsilon=self.epsilon, name=name, dtype=tf.float32)

    def _drop(self, values: tf.Tensor) -> tf.Tensor:
        return dropout(tf.cast(values, tf.float32), self._rate)

    def _attend(self, asking_BQD: tf.Tensor, sequence_BLD: tf.Tensor, allowed_BQL: tf.Tensor) -> tf.Tensor:
        """The attention's answer to each position that asks, float32 [B, Q, d]."""
        query_BHQD = self._split(self._query(asking_BQD))
        key_BHLD, value_BHLD = self._split(self._key(sequence_BLD)), self._split(self._value(sequence_BLD))
        logits_BHQL = tf.matmul(query_BHQD, key_BHLD, transpose_b=True) * key_BHLD.shape[-1] ** -0.5
        logits_BHQL = tf.where(allowed_BQL[:, tf.newaxis], logits_BHQL, logits_BHQL.dtype.min)
        attended_BHQD = tf.matmul(self._drop(tf.nn.softmax(logits_BHQL)), value_BHLD)
        return tf.reshape(tf.transpose(attended_BHQD, [0, 2, 1, 3]), tf.shape(asking_BQD))

    def _split(self, vectors_BLD: tf.Tensor) -> tf.Tensor:
        """The heads' parts of each vector, float32 [B, H, L, d / H]."""
        batch_size, length = tf.unstack(tf.shape(vectors_BLD)[:2])
        shape = [batch_size, length, self._num_heads, self._width // self._num_heads]
        return tf.transpose(tf.reshape(tf.cast(vectors_BLD, tf.float32), shape), [0, 2, 1, 3])


class PaperBlock(AttentionBlock):
    """SASRec's block, which normalises before each part.

        x' = x + attention(norm(x)),   x'' = x' + feed_forward(norm(x')),
        feed_forward(h) = W_2 ReLU(W_1 h + b_1) + b_2, as wide as the block unless said otherwise.

    Dropout acts where it does in the published code: on the attention's weights, on the hidden layer and on
    what the feed-forward network adds.
    """

    scales_items = True
    normalises_output = True

    def __init__(self, width: int, num_heads: int, **kwargs):
        """Makes the layers; see `AttentionBlock`."""
        super().__init__(width, num_heads, **kwargs)
        self._attention_norm = self._norm("attention_norm")
        self._query, self._key, self._value = self._query_key_value()
        self._feed_forward_norm = self._norm("feed_forward_norm")
        self._hidden = self._dense("hidden", 3, self._feedforward_dim, activation="relu")
        self._output = self._dense("output", 4)

    def layers_and_widths(self) -> list[tuple[tf.keras.layers.Layer, int]]:
        """As in `AttentionBlock`."""
        layers = (
            *(self._attention_norm, self._query, self._key, self._value),
            *(self._feed_forward_norm, self._hidden),
        )
        return [(layer, self._width) for layer in layers] + [(self._output, self._hidden.units)]

    def call(self, asking_BQD: tf.Tensor, sequence_BLD: tf.Tensor, allowed_BQL: tf.Tensor) -> tf.Tensor:
        """As in `AttentionBlock`."""
        normed_BLD = self._attention_norm(sequence_BLD)
        # In all blocks but the last every position asks; normalising costs as much as a product.
        normed_BQD = normed_BLD if asking_BQD is sequence_BLD else self._attention_norm(asking_BQD)
        asking_BQD += self._attend(normed_BQD, normed_BLD, allowed_BQL)
        hidden_BQF = self._drop(self._hidden(self._feed_forward_norm(asking_BQD)))
        return asking_BQD + self._drop(self._output(hidden_BQF))


class LiGRBlock(AttentionBlock):
    """LiGR's gated block (Borisyuk et al., 2025), in the form of eSASRec (Tikhonovich et al., RecSys 2025).

        x' = x + sigmoid(G_1 x + g_1) * (W_o attention(norm(x)) + b_o)
        x'' = x' + sigmoid(G_2 x' + g_2) * V_2 (silu(V_1 norm(x')) * V_3 norm(x'))

    The hidden layer is four times as wide as the block unless said otherwise, and has no biases. Dropout acts
    on the attention's weights, on the hidden layer and on both things that are gated.
    """

    epsilon = 1e-5

    def __init__(self, width: int, num_heads: int, **kwargs):
        """Makes the layers; see `AttentionBlock`."""
        super().__init__(width, num_heads, **kwargs)
        hidden_dim = self._feedforward_dim or 4 * width
        self._attention_norm, self._feed_forward_norm = map(
            self._norm, ("attention_norm", "feed_forward_norm")
        )
        self._query, self._key, self._value = self._query_key_value()
        self._projection = self._dense("projection", 3)
        self._attention_gate = self._dense("attention_gate", 4, activation="sigmoid")
        self._hidden = self._dense("hidden", 5, hidden_dim, activation="swish", use_bias=False)
        self._hidden_gate = self._dense("hidden_gate", 6, hidden_dim, use_bias=False)
        self._output = self._dense("output", 7, use_bias=False)
        self._feed_forward_gate = self._dense("feed_forward_gate", 8, activation="sigmoid")

    def layers_and_widths(self) -> list[tuple[tf.keras.layers.Layer, int]]:
        """As in `AttentionBlock`."""
        layers = (
            *(self._attention_norm, self._query, self._key, self._value, self._projection),
            *(self._attention_gate, self._feed_forward_norm, self._hidden, self._hidden_gate),
            self._feed_forward_gate,
        )
        return [(layer, self._width) for layer in layers] + [(self._output, self._hidden.units)]

    def call(self, asking_BQD: tf.Tensor, sequence_BLD: tf.Tensor, allowed_BQL: tf.Tensor) -> tf.Tensor:
        """As in `AttentionBlock`."""
        normed_BLD = self._attention_norm(sequence_BLD)
        normed_BQD = normed_BLD if asking_BQD is sequence_BLD else self._attention_norm(asking_BQD)
        attended_BQD = self._projection(self._attend(normed_BQD, normed_BLD, allowed_BQL))
        gate_BQD = tf.cast(self._attention_gate(asking_BQD), tf.float32)
        asking_BQD += gate_BQD * self._drop(attended_BQD)
        normed_BQD = self._feed_forward_norm(asking_BQD)
        hidden_BQF = self._drop(self._hidden(normed_BQD) * self._hidden_gate(normed_BQD))
        gate_BQD = tf.cast(self._feed_forward_gate(asking_BQD), tf.float32)
        return asking_BQD + gate_BQD * self._drop(self._output(hidden_BQF))

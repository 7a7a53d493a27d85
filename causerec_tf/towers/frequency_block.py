"""BSARec's block (Shin et al., AAAI 2024): attention beside a filter of frequencies.

Shapes: B examples, L = max_history positions with the padding on the left, Q of them that ask, d vector size.
"""

import numpy as np
import tensorflow as tf

from causerec_tf.towers.attention_blocks import AttentionBlock


class BSARecBlock(AttentionBlock):
    """Attention and a filter that lets low frequencies through and scales the others, mixed.

        filtered = low(x) + beta^2 (x - low(x)),   low(x) = irfft of the first c // 2 + 1 terms of rfft(x)
        x' = alpha norm(x + filtered) + (1 - alpha) norm(x + W_o attention(x) + b_o)
        x'' = norm(x' + W_2 GELU(W_1 x' + b_1) + b_2)

    with the transform along the positions and beta a weight for each of the d components; the hidden layer is
    four times as wide as the block unless said otherwise. What the filter gives at a position depends on all
    others, those behind it and the padding too, which holds the vectors of its positions: so the block
    is not causal. Where nothing may be looked at, as in the padding, the attention looks at everything, which
    is what the published mask of -10,000 comes to. Dropout acts on what comes in, on the attention's weights,
    and on what the filter, the attention and the feed-forward network add.
    """

    normalises_input = True
    is_causal = False
    epsilon = 1e-12

    def __init__(self, width: int, num_heads: int, *, alpha: float = 0.7, c: int = 5, **kwargs):
        """Makes the layers.

        Args:
          width: d.
          num_heads: H.
          alpha: the filter's share, 0 to 1.
          c: of the frequencies, the lowest `c // 2 + 1` pass.
          **kwargs: of `AttentionBlock`.
        """
        super().__init__(width, num_heads, **kwargs)
        self._alpha = alpha
        self._num_low = c // 2 + 1
        hidden_dim = self._feedforward_dim or 4 * width
        self._filter_norm, self._attention_norm, self._feed_forward_norm = map(
            self._norm, ("filter_norm", "attention_norm", "feed_forward_norm")
        )
        self._query, self._key, self._value = self._query_key_value()
        self._projection = self._dense("projection", 3)
        self._hidden = self._dense("hidden", 4, hidden_dim, activation="gelu")
        self._output = self._dense("output", 5)

    def build(self, input_shape) -> None:
        """Makes every weight."""
        self._beta = self.add_weight(
            name="beta",
            shape=[self._width],
            initializer=tf.keras.initializers.RandomNormal(stddev=1.0, seed=self._seed),
            experimental_autocast=False,
        )
        super().build(input_shape)

    def layers_and_widths(self) -> list[tuple[tf.keras.layers.Layer, int]]:
        """As in `AttentionBlock`."""
        layers = (
            *(self._filter_norm, self._query, self._key, self._value, self._projection),
            *(self._attention_norm, self._hidden),
        )
        after = (self._output, self._hidden.units), (self._feed_forward_norm, self._width)
        return [(layer, self._width) for layer in layers] + list(after)

    def call(self, asking_BQD: tf.Tensor, sequence_BLD: tf.Tensor, allowed_BQL: tf.Tensor) -> tf.Tensor:
        """As in `AttentionBlock`; those that ask are all positions, or the newest of them."""
        low_BQD = self._low(asking_BQD, sequence_BLD, allowed_BQL)
        filtered_BQD = low_BQD + tf.square(self._beta) * (asking_BQD - low_BQD)
        filtered_BQD = self._filter_norm(self._drop(filtered_BQD) + asking_BQD)

        nowhere_BQ1 = ~tf.reduce_any(allowed_BQL, axis=-1, keepdims=True)
        attended_BQD = self._projection(self._attend(asking_BQD, sequence_BLD, allowed_BQL | nowhere_BQ1))
        attended_BQD = self._attention_norm(self._drop(attended_BQD) + asking_BQD)

        mixed_BQD = self._alpha * filtered_BQD + (1.0 - self._alpha) * attended_BQD
        fed_forward_BQD = self._drop(self._output(self._hidden(mixed_BQD)))
        return self._feed_forward_norm(fed_forward_BQD + mixed_BQD)

    def _low(self, asking_BQD: tf.Tensor, sequence_BLD: tf.Tensor, allowed_BQL: tf.Tensor) -> tf.Tensor:
        """The low frequencies at the positions that ask, float32 [B, Q, d]."""
        del allowed_BQL
        low_QL = low_pass(sequence_BLD.shape[1], self._num_low)[-asking_BQD.shape[1] :]
        return tf.einsum("ql,bld->bqd", tf.constant(low_QL), sequence_BLD)


class CausalBSARecBlock(BSARecBlock):
    """BSARec's block with a filter that sees what stands before a position, and nothing else (ours).

    At each position it is what the published filter is at the newest one: the same weights by distance, of
    `max_history` positions, with nothing in the place of padding. So it can be trained on whole sequences.
    """

    is_causal = True

    def __init__(self, width: int, num_heads: int, *, max_history: int, **kwargs):
        """Makes the layers; `max_history` is the number of positions that the frequencies are of."""
        super().__init__(width, num_heads, **kwargs)
        self._max_history = max_history

    def _low(self, asking_BQD: tf.Tensor, sequence_BLD: tf.Tensor, allowed_BQL: tf.Tensor) -> tf.Tensor:
        """As in `BSARecBlock`."""
        del asking_BQD
        seen_BQL = tf.cast(allowed_BQL, tf.int32)
        distance_BQL = tf.cumsum(seen_BQL, axis=-1, exclusive=True, reverse=True)
        # Padding may be longer than the filter: what stands there is not seen.
        by_distance = tf.constant(low_pass(self._max_history, self._num_low)[-1, ::-1])
        weights_BQL = tf.gather(by_distance, tf.minimum(distance_BQL, self._max_history - 1))
        return tf.matmul(weights_BQL * tf.cast(seen_BQL, tf.float32), sequence_BLD)


def low_pass(length: int, num_low: int) -> np.ndarray:
    """The filter as a matrix, float32 [L, L]: what each position takes of each, the lowest terms alone."""
    terms = np.fft.rfft(np.eye(length), axis=0)
    terms[num_low:] = 0
    return np.fft.irfft(terms, n=length, axis=0).astype(np.float32)

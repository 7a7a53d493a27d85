"""Interest concepts by self-attention (equations 6 and 7), and a tower that encodes them.

Shapes: B examples, L history positions, d vector size, K interest concepts, d_a width of the attention.
"""

import tensorflow as tf

from causerec_tf.towers.base import Changes, UserTower
from causerec_tf.towers.layers import dense, seed_of


class InterestAttention(tf.keras.layers.Layer):
    """K interest concepts, each a mean of the items weighted by an attention of its own.

        A = softmax(W_2 tanh(W_1 X^T))^T,   C = A^T X

    The softmax runs over the real items. An item's logits depend on nothing but the item: whoever encodes
    many histories of the same items can compute `logits` once for each of them and hand them to `pool` below.
    """

    def __init__(self, embedding_dim: int, *, num_concepts: int, attention_dim: int, seed: int = 0, **kwargs):
        """Makes the two products.

        Args:
          embedding_dim: d.
          num_concepts: K.
          attention_dim: d_a.
          seed: of the initial weights.
          **kwargs: of the Keras layer; a `dtype` of mixed precision holds for the products with W_1 and W_2.
        """
        super().__init__(autocast=False, **kwargs)
        self.embedding_dim = embedding_dim
        self.num_concepts = num_concepts
        self._hidden = dense(
            attention_dim, seed_of(seed, 100), "hidden", self.dtype_policy, activation="tanh", use_bias=False
        )
        self._logits = dense(num_concepts, seed_of(seed, 101), "logits", self.dtype_policy, use_bias=False)

    def build(self, input_shape) -> None:
        """Makes every weight, so that a checkpoint finds them before the first call."""
        self._hidden.build([None, self.embedding_dim])
        self._logits.build([None, self._hidden.units])
        super().build(input_shape)

    def call(self, concepts_BLD: tf.Tensor, mask_BL: tf.Tensor) -> tf.Tensor:
        """Extracts interests from items, float [B, L, d], and which are real: float [B, K, d]."""
        return pool(concepts_BLD, self.logits(concepts_BLD), mask_BL)

    def logits(self, items: tf.Tensor) -> tf.Tensor:
        """`W_2 tanh(W_1 x)` of each item, float [..., d] -> float32 [..., K]."""
        return tf.cast(self._logits(self._hidden(items)), tf.float32)


def pool(concepts_BLD: tf.Tensor, logits_BLK: tf.Tensor, mask_BL: tf.Tensor) -> tf.Tensor:
    """K means of the items, each weighted by the softmax of its logits over the real ones.

    Float [B, L, d] and [B, L, K] -> [B, K, d]; zeros where no item is real.
    """
    return tf.matmul(weights_of(logits_BLK, mask_BL), concepts_BLD, transpose_a=True)


def weights_of(logits_BLK: tf.Tensor, mask_BL: tf.Tensor) -> tf.Tensor:
    """The softmax over the items, float [..., L, K]; zeros for padding, also where all is padding."""
    mask_BL1 = mask_BL[..., tf.newaxis]
    weights_BLK = tf.nn.softmax(tf.where(mask_BL1, logits_BLK, logits_BLK.dtype.min), axis=-2)
    return weights_BLK * tf.cast(mask_BL1, tf.float32)


class InterestTower(UserTower):
    """An encoder that reads the K interest concepts of a history instead of its items (section 3.3.4)."""

    reads_interests = True

    def __init__(self, attention: InterestAttention, encoder: UserTower, **kwargs):
        """Puts the two together.

        Args:
          attention: from items to interest concepts.
          encoder: any user tower; its concepts are the interests.
          **kwargs: of the Keras layer.
        """
        super().__init__(**kwargs)
        self.attention = attention
        self.encoder = encoder
        self.num_interests = encoder.num_interests
        self.has_unit_length = encoder.has_unit_length

    def build(self, input_shape) -> None:
        """Makes every weight."""
        self.attention.build(None)
        self.encoder.build(None)
        super().build(input_shape)

    def call(self, concepts_BLD: tf.Tensor, mask_BL: tf.Tensor) -> tf.Tensor:
        """As in `UserTower`."""
        return self.encoder(self.attention(concepts_BLD, mask_BL), self.interest_mask(mask_BL))

    def interest_mask(self, mask_BL: tf.Tensor) -> tf.Tensor:
        """Which interests are real, bool [B, K]: all of a history with a real item, otherwise none."""
        has_interests_B1 = tf.reduce_any(mask_BL, axis=1, keepdims=True)
        return tf.repeat(has_interests_B1, self.attention.num_concepts, axis=1)

    def encode_counterfactuals(
        self, history_BL: tf.Tensor, mask_BL: tf.Tensor, changes: Changes, vectors_UD: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """As in `UserTower`; the interests of the counterfactuals are extracted anew.

        An item's logits depend on nothing but the item, so they are computed once for each distinct one;
        where concepts are not items alone, all is written out.
        """
        if vectors_UD is None:
            return super().encode_counterfactuals(history_BL, mask_BL, changes)
        users = self(tf.gather(vectors_UD, history_BL), mask_BL)
        written_BCL = changes.write_out(history_BL)
        logits_BCLK = tf.gather(self.attention.logits(vectors_UD), written_BCL)
        weights_BCLK = weights_of(
            logits_BCLK, tf.repeat(mask_BL[:, tf.newaxis], written_BCL.shape[1], axis=1)
        )
        has_interests_B = tf.reduce_any(mask_BL, axis=1)
        given = weights_BCLK, has_interests_B, history_BL, changes, vectors_UD
        return users, self.encoder.encode_extracted(*given)

"""ComiRec-SA (Cen et al., KDD 2020): several interests by self-attentive pooling.

Shapes: B examples, L history positions, d vector size, K interests, d_a width of the attention.
"""

import tensorflow as tf

from causerec_tf.towers import interest_attention, positions
from causerec_tf.towers.base import UserTower
from causerec_tf.towers.layers import dense, seed_of


class SelfAttentiveMultiInterestTower(UserTower):
    """K vectors, each a mean of the items weighted by an attention of its own.

        A = softmax(W_2 tanh(W_1 (X + P)^T))^T,   user vectors = A^T X

    The softmax runs over the real items. The positions P, counted from the oldest item as in the published
    code, take part in the weights and not in what is weighted. d_a is 4 d, as there.
    """

    def __init__(
        self,
        embedding_dim: int,
        *,
        num_interests: int,
        max_history: int,
        use_bias: bool = False,
        seed: int = 0,
        **kwargs,
    ):
        """Makes the attention.

        Args:
          embedding_dim: d, of the concepts and of the user vectors.
          num_interests: K.
          max_history: how many positions have a vector.
          use_bias: whether both products have a bias, as in the published code and not in its paper.
          seed: of the initial weights.
          **kwargs: of the Keras layer; a `dtype` of mixed precision holds for the products with W_1 and W_2.
        """
        super().__init__(**kwargs)
        self.embedding_dim = embedding_dim
        self.num_interests = num_interests
        self.max_history = max_history
        self._seed = seed
        self._hidden = dense(
            4 * embedding_dim,
            seed_of(seed, 0),
            "hidden",
            self.dtype_policy,
            activation="tanh",
            use_bias=use_bias,
        )
        self._logits = dense(num_interests, seed_of(seed, 1), "logits", self.dtype_policy, use_bias=use_bias)

    def build(self, input_shape) -> None:
        """Makes every weight, so that a checkpoint finds them before the first call."""
        self._positions = self.add_weight(
            name="positions",
            shape=[self.max_history, self.embedding_dim],
            initializer=tf.keras.initializers.GlorotUniform(seed_of(self._seed, 2)),
            experimental_autocast=False,
        )
        self._hidden.build([None, None, self.embedding_dim])
        self._logits.build([None, None, 4 * self.embedding_dim])
        super().build(input_shape)

    def call(self, concepts_BLD: tf.Tensor, mask_BL: tf.Tensor) -> tf.Tensor:
        """As in `UserTower`; zeros where no concept is real."""
        placed_BLD = concepts_BLD + positions.from_oldest(self._positions, tf.shape(mask_BL)[1])
        logits_BLK = tf.cast(self._logits(self._hidden(placed_BLD)), tf.float32)
        return interest_attention.pool(concepts_BLD, logits_BLK, mask_BL)

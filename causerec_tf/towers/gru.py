"""GRU4Rec (Hidasi et al., ICLR 2016): a recurrent encoder."""

import tensorflow as tf

from causerec_tf.towers.base import UserTower
from causerec_tf.towers.layers import dense, seed_of


class GRU4RecTower(UserTower):
    """One GRU layer over the history; its state after the last real item, then a linear layer, d -> d.

    The GRU is that of Cho et al. (2014) in the form that cuDNN computes: the reset gate is applied to the
    product of state and weights,

        z = sigmoid(W_z x + U_z h + b_z)        r = sigmoid(W_r x + U_r h + b_r)
        c = tanh(W_c x + b_c + r (U_c h + a))   h' = z h + (1 - z) c.

    Hidasi et al. train with a ranking loss on parallel sessions; here all systems share the data and the
    loss.
    """

    is_causal = True

    def __init__(self, embedding_dim: int, *, seed: int = 0, **kwargs):
        """Makes the layers.

        Args:
          embedding_dim: d, of the concepts, of the state and of the user vector.
          seed: of the initial weights.
          **kwargs: of the Keras layer; a `dtype` of mixed precision holds for the products.
        """
        super().__init__(**kwargs)
        self.embedding_dim = embedding_dim
        self._recurrent = tf.keras.layers.GRU(
            embedding_dim,
            return_sequences=True,
            return_state=True,
            kernel_initializer=tf.keras.initializers.GlorotUniform(seed_of(seed, 0)),
            recurrent_initializer=tf.keras.initializers.Orthogonal(seed=seed_of(seed, 1)),
            name="gru",
            dtype=self.dtype_policy,
        )
        self._project = dense(embedding_dim, seed_of(seed, 2), "dense", self.dtype_policy)

    def build(self, input_shape) -> None:
        """Makes every weight, so that a checkpoint finds them before the first call."""
        self._recurrent.build(tf.TensorShape([None, None, self.embedding_dim]))
        self._project.build([None, self.embedding_dim])
        super().build(input_shape)

    def call(self, concepts_BLD: tf.Tensor, mask_BL: tf.Tensor) -> tf.Tensor:
        """As in `UserTower`; the linear layer of the zero state where no concept is real."""
        _, state_BD = self._recurrent(concepts_BLD, mask=mask_BL)
        return tf.cast(self._project(state_BD), tf.float32)

    def encode_every_position(self, concepts_BLD: tf.Tensor, mask_BL: tf.Tensor) -> tf.Tensor:
        """As in `UserTower`: the state after each item."""
        states_BLD, _ = self._recurrent(concepts_BLD, mask=mask_BL)
        return tf.cast(self._project(states_BLD), tf.float32)

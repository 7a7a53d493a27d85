"""What a user likes in all, and what comes next: a mean and SASRec over the same history.

Shapes: as in `base`.
"""

from collections.abc import Callable

import tensorflow as tf

from causerec_tf.towers.attention_blocks import AttentionBlock, PaperBlock
from causerec_tf.towers.base import UserTower
from causerec_tf.towers.layers import seed_of
from causerec_tf.towers.self_attention import SASRecTower
from causerec_tf.towers.youtube_dnn import YouTubeDNNTower

_FIRST_GATE = 0.1


class MeanSASRecTower(UserTower):
    """`f(x) = W mean(x) + b + g * SASRec(x)`, with a learned gate g for each dimension that starts at .1.

    The mean does not see the order and needs little data; what the order adds, attention learns beside it. So
    it starts near YouTube DNN.
    """

    def __init__(
        self,
        embedding_dim: int,
        *,
        max_history: int,
        num_blocks: int = 2,
        num_heads: int = 1,
        feedforward_dim: int = 0,
        dropout: float = 0.0,
        block: Callable[..., AttentionBlock] = PaperBlock,
        seed: int = 0,
        **kwargs,
    ):
        """Makes both parts; the arguments are those of `SASRecTower`."""
        super().__init__(**kwargs)
        self.embedding_dim = embedding_dim
        self.max_history: int = max_history
        self.mean = YouTubeDNNTower(embedding_dim, seed=seed, dtype=self.dtype_policy)
        self.attention = SASRecTower(
            embedding_dim,
            max_history=max_history,
            num_blocks=num_blocks,
            num_heads=num_heads,
            feedforward_dim=feedforward_dim,
            dropout=dropout,
            block=block,
            seed=seed_of(seed, 1),
            dtype=self.dtype_policy,
        )
        self.is_causal = self.attention.is_causal

    def build(self, input_shape) -> None:
        """Makes every weight, so that a checkpoint finds them before the first call."""
        self.mean.build(input_shape)
        self.attention.build(input_shape)
        self.gate = self.add_weight(
            name="gate",
            shape=[self.embedding_dim],
            initializer=tf.keras.initializers.Constant(_FIRST_GATE),
            experimental_autocast=False,
        )
        super().build(input_shape)

    def call(self, concepts_BLD: tf.Tensor, mask_BL: tf.Tensor) -> tf.Tensor:
        """As in `UserTower`."""
        return self.mean(concepts_BLD, mask_BL) + self.gate * self.attention(concepts_BLD, mask_BL)

    def encode_every_position(self, concepts_BLD: tf.Tensor, mask_BL: tf.Tensor) -> tf.Tensor:
        """As in `UserTower`, of causal blocks."""
        attended_BLD = self.attention.encode_every_position(concepts_BLD, mask_BL)
        return self.mean.encode_every_position(concepts_BLD, mask_BL) + self.gate * attended_BLD

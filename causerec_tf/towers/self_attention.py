"""SASRec (Kang and McAuley, ICDM 2018): causal self-attention.

Shapes: B examples, L history positions, d vector size.
"""

from collections.abc import Callable

import tensorflow as tf

from causerec_tf.towers import positions
from causerec_tf.towers.attention_blocks import AttentionBlock, PaperBlock
from causerec_tf.towers.base import UserTower
from causerec_tf.towers.dropout import dropout
from causerec_tf.towers.layers import seed_of


class SASRecTower(UserTower):
    """Learned positions, self-attention blocks, and the vector of the last real position.

    With the blocks of the paper:

        x = sqrt(d) e + p,   user vector = norm(blocks(x)_last).

    The scale of the items is that of the published code. Positions are counted from the newest item, as
    there, where padding stands on the left. Other blocks may want other things around them
    (`AttentionBlock`). Dropout acts in training alone, on x and within the blocks.
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
        """Makes the blocks.

        Args:
          embedding_dim: d, of the concepts and of the user vector.
          max_history: how many positions have a vector.
          num_blocks: how many blocks, one or more.
          num_heads: H, of each block; it divides d.
          feedforward_dim: width of the hidden layer of each block's feed-forward network; 0: the block's own.
          dropout: the share of values that is dropped in training, in [0, 1).
          block: makes a block, as `PaperBlock` does.
          seed: of the initial weights.
          **kwargs: of the Keras layer; a `dtype` of mixed precision holds for the dense layers' products.

        Raises:
          ValueError: d cannot be divided among the heads.
        """
        super().__init__(**kwargs)
        if embedding_dim % num_heads:
            raise ValueError(f"embedding_dim={embedding_dim}: wanted a multiple of num_heads={num_heads}.")
        self.embedding_dim = embedding_dim
        self.max_history: int = max_history
        self._rate = dropout
        self._seed = seed
        self._blocks = [
            block(
                embedding_dim,
                num_heads,
                feedforward_dim=feedforward_dim,
                dropout=dropout,
                seed=seed_of(seed, number),
                dtype=self.dtype_policy,
            )
            for number in range(1, num_blocks + 1)
        ]
        wanted = self._blocks[0]
        self.is_causal = wanted.is_causal
        self._scale = embedding_dim**0.5 if wanted.scales_items else 1.0
        norms = [wanted.normalises_input, wanted.normalises_output]
        self._first_norm, self._last_norm = (
            _norm(name, wanted.epsilon) if is_there else None
            for name, is_there in zip(("first_norm", "last_norm"), norms, strict=True)
        )

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
        for norm in (self._first_norm, self._last_norm):
            if norm is not None:
                norm.build([None, None, self.embedding_dim])
        super().build(input_shape)

    def call(self, concepts_BLD: tf.Tensor, mask_BL: tf.Tensor) -> tf.Tensor:
        """As in `UserTower`; something finite where no concept is real."""
        length_B = tf.reduce_sum(tf.cast(mask_BL, tf.int32), axis=1)
        last_B1 = tf.maximum(length_B - 1, 0)[:, tf.newaxis]
        if not self.is_causal:
            concepts_BLD, mask_BL = positions.padded_on_the_left(concepts_BLD, mask_BL, self.max_history)
            last_B1 = tf.fill(tf.shape(last_B1), self.max_history - 1)
        sequence_BLD = self._embed(concepts_BLD, mask_BL)
        causal_LL = _causal(tf.shape(mask_BL)[1])
        for block in self._blocks[:-1]:
            sequence_BLD = block(sequence_BLD, sequence_BLD, causal_LL & mask_BL[:, tf.newaxis])
        # Nothing but the last position is read of the last block, so nothing else is computed.
        user_B1D = tf.gather(sequence_BLD, last_B1, batch_dims=1)
        for block in self._blocks[-1:]:
            user_B1D = block(user_B1D, sequence_BLD, mask_BL[:, tf.newaxis])
        return self._finish(user_B1D)[:, 0]

    def encode_every_position(self, concepts_BLD: tf.Tensor, mask_BL: tf.Tensor) -> tf.Tensor:
        """As in `UserTower`, of causal blocks."""
        if not self.is_causal:
            return super().encode_every_position(concepts_BLD, mask_BL)
        sequence_BLD = self._embed(concepts_BLD, mask_BL)
        # The padding stands behind what is real, where no real position looks.
        causal_1LL = _causal(tf.shape(mask_BL)[1])[tf.newaxis]
        for block in self._blocks:
            sequence_BLD = block(sequence_BLD, sequence_BLD, causal_1LL)
        return self._finish(sequence_BLD)

    def _embed(self, concepts_BLD: tf.Tensor, mask_BL: tf.Tensor) -> tf.Tensor:
        """What goes into the first block, float32 [B, L, d]."""
        real_BL1 = tf.cast(mask_BL, concepts_BLD.dtype)[..., tf.newaxis]
        if self.is_causal:
            sequence_BLD = concepts_BLD * self._scale + positions.from_newest(self._positions, mask_BL)
            sequence_BLD *= real_BL1
        else:
            sequence_BLD = concepts_BLD * real_BL1 * self._scale + self._positions
        if self._first_norm is not None:
            sequence_BLD = self._first_norm(sequence_BLD)
        return dropout(sequence_BLD, self._rate)

    def _finish(self, vectors: tf.Tensor) -> tf.Tensor:
        return vectors if self._last_norm is None else self._last_norm(vectors)


def _causal(length: tf.Tensor) -> tf.Tensor:
    """Which positions each may look at, bool [L, L]: itself and those before it."""
    place_L = tf.range(length)
    return place_L[:, tf.newaxis] >= place_L


def _norm(name: str, epsilon: float) -> tf.keras.layers.LayerNormalization:
    return tf.keras.layers.LayerNormalization(epsilon=epsilon, name=name, dtype=tf.float32)

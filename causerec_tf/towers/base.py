"""What a user tower must offer.

Shapes: B histories, L concepts of a history, d vector size, I vectors a user, K extracted concepts,
C counterfactual histories of each, U distinct items of a step.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import tensorflow as tf

from causerec_tf.errors import InputError


class Changes(Protocol):
    """What counterfactual histories change in the originals; `counterfactual.replacements` makes them."""

    def of_rows(self, rows_G: tf.Tensor) -> "Changes":
        """The same of some of the examples, int32 [G], in their order."""

    def write_out(self, history_BL: tf.Tensor) -> tf.Tensor:
        """The counterfactual histories, [B, L] or [B, L, d] -> [B, C, L] or [B, C, L, d]."""

    def sums(
        self, concepts_BLD: tf.Tensor, mask_BL: tf.Tensor, vectors_UD: tf.Tensor | None = None
    ) -> tf.Tensor:
        """The sum of each counterfactual history's real concepts, float [B, C, d]."""

    def weighted_sums(
        self, weights_BCL: tf.Tensor, history_BL: tf.Tensor, vectors_UD: tf.Tensor
    ) -> tf.Tensor:
        """The sum of each counterfactual history's items, weighted, float [B, C, d]."""


class UserTower(tf.keras.layers.Layer):
    """Concepts of a history -> user vectors. A subclass writes `__init__`, `build` and `call`.

    Concepts are item vectors, or interests that were extracted from them. They are oldest first and padded on
    the right; the mask says which are real, and what is masked must change nothing. `build` makes every
    weight, so that a checkpoint finds them before the first call.

    Attributes:
      num_interests: I, how many vectors a user gets. For 1 the tower gives [B, d], otherwise [B, I, d].
      max_history: how many of the last concepts it can read; None: any number.
      has_unit_length: whether its vectors have length one.
      reads_interests: whether it extracts interests and encodes these.
      is_causal: whether it reads causally, and offers `encode_every_position`.
    """

    num_interests: int = 1
    max_history: int | None = None
    has_unit_length: bool = False
    reads_interests: bool = False
    is_causal: bool = False

    def __init__(self, **kwargs):
        """Sets Keras's options.

        Args:
          **kwargs: of the Keras layer. With a `dtype` of mixed precision the tower's products are computed in
            it; it casts by itself, and gives float32.
        """
        super().__init__(autocast=False, **kwargs)
        # Not of the class: Keras tracks no layer under a name that the class has, and nothing would train it.
        self.features: Any = None

    def call(self, concepts_BLD: tf.Tensor, mask_BL: tf.Tensor) -> tf.Tensor:
        """Encodes histories.

        Args:
          concepts_BLD: float32 [B, L, d].
          mask_BL: bool [B, L], which concepts are real.

        Returns:
          float32 [B, d], or [B, I, d] of a tower with several vectors.
        """
        raise NotImplementedError

    def encode_places(self, places_BL: tf.Tensor, mask_BL: tf.Tensor, vectors_UD: tf.Tensor) -> tf.Tensor:
        """Encodes histories that are given as places among the vectors of a step's distinct items.

        This looks all of them up. A tower that knows a cheaper way to the same vectors overrides it.

        Args:
          places_BL: int32 [B, L].
          mask_BL: bool [B, L], which concepts are real.
          vectors_UD: float32 [U, d].

        Returns:
          float32 [B, d] or [B, I, d], what `call` gives for the concepts.
        """
        return self(tf.gather(vectors_UD, places_BL), mask_BL)

    @property
    def beside_histories(self) -> Any:
        """The layer that gives the vectors of what else it reads; None: it reads nothing else."""
        return None

    @property
    def of_histories(self) -> "UserTower":
        """The part that encodes histories; of a tower that reads nothing else, itself."""
        return self

    def given(
        self, context: Mapping[str, tf.Tensor], mask_BL: tf.Tensor, *, every_position: bool = False
    ) -> Any:
        """The tower as it encodes histories in their context; one that reads no other things is itself.

        Args:
          context: what a batch has beside the histories, by key; more than is read may be in it.
          mask_BL: bool [B, L], which concepts are real.
          every_position: whether each position has a context of its own, as in whole sequences.

        Returns:
          What offers the methods of a `UserTower` for these histories.
        """
        del context, mask_BL, every_position
        return self

    def of_rows(self, rows_G: tf.Tensor, width: int) -> Any:
        """What `given` gave, for some of its rows, int32 [G], and their first positions."""
        del rows_G, width
        return self

    def at_positions(self, rows_Q: tf.Tensor, positions_Q: tf.Tensor) -> Any:
        """What `given` gave for every position, for the prefixes that end at some, int32 [Q] both."""
        del rows_Q, positions_Q
        return self

    def encode_every_position(self, concepts_BLD: tf.Tensor, mask_BL: tf.Tensor) -> tf.Tensor:
        """Encodes the prefix of each history that ends at each of its positions, in one pass.

        Of a causal tower alone: what stands behind a position must not change its vector. The vector of the
        last real position is that of `call`. Where a tower counts positions from the newest concept, the
        newest is that of the whole history for each of its prefixes, as where SASRec is trained.

        Args:
          concepts_BLD: float32 [B, L, d].
          mask_BL: bool [B, L], which concepts are real.

        Returns:
          float32 [B, L, d]; anything finite where no concept is.

        Raises:
          InputError: the tower is not causal.
        """
        raise InputError(
            f"{type(self).__name__} does not read causally, so it cannot be trained on whole sequences: train"
            " it on windows, or take a causal tower such as SASRecTower or GRU4RecTower."
        )

    def encode_counterfactuals(
        self, history_BL: tf.Tensor, mask_BL: tf.Tensor, changes: Changes, vectors_UD: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Encodes histories and their counterfactuals.

        This writes all of them out and encodes them as one batch. A tower that knows a cheaper way to the
        same vectors overrides it.

        Args:
          history_BL: int32 [B, L], places in `vectors_UD`; without that float [B, L, d], the concepts.
          mask_BL: bool [B, L], which concepts are real. Counterfactuals share it: they replace,
            and neither add nor remove.
          changes: what the counterfactuals change.
          vectors_UD: float [U, d], the vectors of the step's distinct items.

        Returns:
          The vectors of the histories, float32 [B, d] or [B, I, d], and of their counterfactuals, float32
          [B, C, d] or [B, C, I, d].
        """
        all_BEL = tf.concat([history_BL[:, tf.newaxis], changes.write_out(history_BL)], axis=1)
        num_encoded = all_BEL.shape[1]
        flat = tf.reshape(all_BEL, [-1, *all_BEL.shape[2:]])
        concepts = flat if vectors_UD is None else tf.gather(vectors_UD, flat)
        vectors = self(concepts, tf.repeat(mask_BL, num_encoded, axis=0))
        vectors = tf.reshape(vectors, [-1, num_encoded, *vectors.shape[1:]])
        # A slice's gradient would be as large as all of them.
        users, others = tf.split(vectors, [1, num_encoded - 1], axis=1)
        return tf.squeeze(users, axis=1), others

    def encode_extracted(
        self,
        weights_BCLK: tf.Tensor,
        has_concepts_B: tf.Tensor,
        history_BL: tf.Tensor,
        changes: Changes,
        vectors_UD: tf.Tensor,
    ) -> tf.Tensor:
        """Encodes K concepts that are extracted from counterfactual histories, each a weighted sum of items.

        This writes the concepts out. A tower that knows a cheaper way to the same vectors overrides it.

        Args:
          weights_BCLK: float [B, C, L, K], of each item in each concept; 0 for padding.
          has_concepts_B: bool [B]: all concepts of a user are real, or none is.
          history_BL: int32 [B, L], the original histories, as places in `vectors_UD`.
          changes: what the counterfactuals change.
          vectors_UD: float [U, d], the vectors of the step's distinct items.

        Returns:
          float32 [B, C, d] or [B, C, I, d].
        """
        num_histories, length, num_concepts = weights_BCLK.shape[1:]
        written_NL = tf.reshape(changes.write_out(history_BL), [-1, length])
        weights_NLK = tf.reshape(weights_BCLK, [-1, length, num_concepts])
        concepts_NKD = tf.matmul(weights_NLK, tf.gather(vectors_UD, written_NL), transpose_a=True)
        real_BK = tf.repeat(has_concepts_B[:, tf.newaxis], num_concepts, axis=1)
        vectors = self(concepts_NKD, tf.repeat(real_BK, num_histories, axis=0))
        return tf.reshape(vectors, [-1, num_histories, *vectors.shape[1:]])


class KerasTower(UserTower):
    """Any Keras layer or model as the user tower, such as a Sequential of layers that know masks.

    The layer is called as `layer(concepts_BLD, mask=mask_BL)` and must give float [B, d].
    """

    def __init__(self, layer: tf.keras.layers.Layer, embedding_dim: int, **kwargs):
        """Wraps a layer.

        Args:
          layer: the layer or model.
          embedding_dim: d.
          **kwargs: of the Keras layer.
        """
        super().__init__(**kwargs)
        self.layer = layer
        self.embedding_dim = embedding_dim

    def build(self, input_shape) -> None:
        """Makes the layer's weights by a call."""
        self.layer(tf.zeros([1, 1, self.embedding_dim]), mask=tf.ones([1, 1], tf.bool))
        super().build(input_shape)

    def call(self, concepts_BLD: tf.Tensor, mask_BL: tf.Tensor) -> tf.Tensor:
        """Encodes histories; see `UserTower`."""
        return tf.cast(self.layer(concepts_BLD, mask=mask_BL), tf.float32)

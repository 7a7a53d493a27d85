"""The synthesis of counterfactual histories on the item level (sections 3.3.2 and 3.3.3).

Shapes: B examples, L history positions, C = M + N counterfactual histories (the M positives first),
R replacements at most in one of them.
"""

import math
from fractions import Fraction
from typing import NamedTuple

import tensorflow as tf

from causerec_tf.counterfactual import concepts
from causerec_tf.counterfactual.memory import ItemMemory

# How many substitutes are drawn for a position before it is given up and keeps its item.
CANDIDATES_PER_POSITION = 3


class Replacements(NamedTuple):
    """What the C counterfactual histories change in the original, and nothing of what they keep.

    Attributes:
      positions_BCR: int32 [B, C, R], positions in the history.
      substitutes_BCR: int32 [B, C, R], the items put there.
      replaced_BCR: bool [B, C, R], which of these replacements take place. The positions of those are
        distinct within a history; the others mean nothing.
    """

    positions_BCR: tf.Tensor
    substitutes_BCR: tf.Tensor
    replaced_BCR: tf.Tensor

    @property
    def exists_BC(self) -> tf.Tensor:
        """Which counterfactual histories had something replaced, bool [B, C]."""
        return tf.reduce_any(self.replaced_BCR, axis=-1)


class CounterfactualSynthesis(tf.keras.layers.Layer):
    """Makes M counterfactually positive and N counterfactually negative histories of each history.

    A positive has a share of its dispensable concepts replaced, a negative a share of its indispensable
    ones: `ceil(replacement_rate * size of the half)` positions, drawn uniformly without replacement and
    independently for each history. Substitutes come from a first-in-first-out memory of the items of
    earlier batches; those of this batch are enqueued afterwards. Each history is made from the original
    one. Where nothing could be replaced (an empty half, an empty memory), the history does not exist.
    """

    def __init__(
        self,
        *,
        num_positives: int,
        num_negatives: int,
        replacement_rate: float,
        memory_size: int,
        **kwargs,
    ):
        """Sets the sizes.

        Args:
          num_positives: M.
          num_negatives: N.
          replacement_rate: r_rep, the share of a half that is replaced, in (0, 1].
          memory_size: capacity of the concept memory, in item ids.
          **kwargs: of the Keras layer.
        """
        super().__init__(**kwargs)
        self.num_positives = num_positives
        self.num_negatives = num_negatives
        self.replacement_rate = replacement_rate
        self.memory = ItemMemory(memory_size)

    def call(
        self,
        history_BL: tf.Tensor,
        mask_BL: tf.Tensor,
        target_B: tf.Tensor,
        scores_BL: tf.Tensor,
        seed: tf.Tensor,
    ) -> Replacements:
        """Chooses positions and substitutes, then remembers the batch.

        Args:
          history_BL: int32 [B, L], item ids.
          mask_BL: bool [B, L], which are real.
          target_B: int32 [B], the target items: never used as substitutes.
          scores_BL: float [B, L], of the concepts (equation 5).
          seed: int [2], of this step's draws.

        Returns:
          The replacements of the M + N histories, positives first.
        """
        seeds = tf.random.split(seed, 2)
        positions_BCR, chosen_BCR = self._choose_positions(
            concepts.rank(scores_BL, mask_BL),
            tf.shape(history_BL)[0],
            history_BL.shape[1],
            seeds[0],
        )
        original_BCR = tf.gather(history_BL, positions_BCR, batch_dims=1)
        substitutes_BCR, found_BCR = self._choose_substitutes(
            original_BCR, target_B[:, tf.newaxis, tf.newaxis], seeds[1]
        )
        self.memory.enqueue(tf.boolean_mask(history_BL, mask_BL))
        return Replacements(positions_BCR, substitutes_BCR, chosen_BCR & found_BCR)

    def _choose_positions(self, ranked, batch_size, length, seed) -> tuple[tf.Tensor, tf.Tensor]:
        """Draws distinct ranks within a half; returns their positions and which are within the count."""
        half = (length + 1) // 2
        # Exact: in binary floating point ceil(.6 * 5) may come out as 4.
        rate = Fraction(str(self.replacement_rate))
        counts = tf.constant([math.ceil(rate * size) for size in range(half + 1)], tf.int32)
        most = math.ceil(rate * half)

        num_histories = self.num_positives + self.num_negatives
        is_positive_C = tf.range(num_histories) < self.num_positives
        size_BC = tf.where(
            is_positive_C[tf.newaxis, :],
            ranked.num_dispensable_B[:, tf.newaxis],
            ranked.num_indispensable_B[:, tf.newaxis],
        )
        # The ranks with the largest of independent uniform keys are a uniform draw without replacement.
        keys_BCH = tf.random.stateless_uniform([batch_size, num_histories, half], seed)
        in_half_BCH = tf.range(half) < size_BC[..., tf.newaxis]
        _, ranks_BCR = tf.math.top_k(tf.where(in_half_BCH, keys_BCH, -1.0), k=most)
        chosen_BCR = tf.range(most) < tf.gather(counts, size_BC)[..., tf.newaxis]

        first_BC = tf.where(is_positive_C[tf.newaxis, :], ranked.num_indispensable_B[:, tf.newaxis], 0)
        # Ranks of draws that do not count may point past the end.
        ranks_BCR = tf.minimum(ranks_BCR + first_BC[..., tf.newaxis], length - 1)
        return tf.gather(ranked.order_BL, ranks_BCR, batch_dims=1), chosen_BCR

    def _choose_substitutes(self, original_BCR, target_B11, seed) -> tuple[tf.Tensor, tf.Tensor]:
        """Takes the first candidate that is neither the original nor the target; says if there was one."""
        shape = tf.concat([[CANDIDATES_PER_POSITION], tf.shape(original_BCR)], axis=0)
        candidates_TBCR = self.memory.draw(shape, seed)
        substitutes_BCR = original_BCR
        found_BCR = tf.fill(tf.shape(original_BCR), False)
        for candidate_BCR in tf.unstack(candidates_TBCR):
            # An empty memory gives padding, which fits nowhere.
            fits_BCR = (
                (candidate_BCR != original_BCR)
                & (candidate_BCR != target_B11)
                & (candidate_BCR != 0)
                & ~found_BCR
            )
            substitutes_BCR = tf.where(fits_BCR, candidate_BCR, substitutes_BCR)
            found_BCR |= fits_BCR
        return substitutes_BCR, found_BCR


def apply(history_BL: tf.Tensor, replacements: Replacements) -> tf.Tensor:
    """Writes the counterfactual histories out.

    Args:
      history_BL: int32 [B, L], the original histories.
      replacements: what the C histories change.

    Returns:
      int32 [B, C, L].
    """
    num_histories = tf.shape(replacements.positions_BCR)[1]
    histories_BCL = tf.repeat(history_BL[:, tf.newaxis], num_histories, axis=1)
    replaced = tf.where(replacements.replaced_BCR)
    rows_and_histories = tf.cast(replaced[:, :2], tf.int32)
    positions = tf.gather_nd(replacements.positions_BCR, replaced)
    return tf.tensor_scatter_nd_update(
        histories_BCL,
        tf.concat([rows_and_histories, positions[:, tf.newaxis]], axis=1),
        tf.gather_nd(replacements.substitutes_BCR, replaced),
    )

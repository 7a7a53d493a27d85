"""What counterfactual histories change, and what an encoder needs to know of it.

Shapes: B examples, L history positions or interests, d vector size, C = M + N counterfactual histories (the M
positives first), R replacements at most in one of them, U distinct items of a step, G runs of R candidates.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf


class Runs(NamedTuple):
    """Runs of candidates, int32 [G, R], and which of them each counterfactual, int32 [B, C], begins with."""

    items_GR: tf.Tensor
    taken_BC: tf.Tensor


class Replacements(NamedTuple):
    """What the C counterfactual histories change in the original, and nothing of what they keep.

    Attributes:
      positions_BCR: int32 [B, C, R], positions in the history, or among the interests.
      substitutes_BCR: int32 [B, C, R], which of the candidates are put there, or what `naming` made of that:
        item ids, or places; or float [B, C, R, d], interests.
      replaced_BCR: bool [B, C, R], which of these replacements take place. The positions of those are
        distinct within a history; the others mean nothing.
      runs: where the substitutes are the beginnings of runs, these: what only needs the sum of a history's
        substitutes finds it in them without going through all of these.
    """

    positions_BCR: tf.Tensor
    substitutes_BCR: tf.Tensor
    replaced_BCR: tf.Tensor
    runs: Runs | None = None

    @property
    def exists_BC(self) -> tf.Tensor:
        """Which counterfactual histories had something replaced, bool [B, C]."""
        return tf.reduce_any(self.replaced_BCR, axis=-1)

    def naming(self, candidates_P: tf.Tensor) -> "Replacements":
        """The same with each substitute named by what stands at its number in `candidates_P`, int32 [P]."""
        runs = self.runs
        if runs is not None:
            runs = runs._replace(items_GR=tf.gather(candidates_P, runs.items_GR))
        return self._replace(substitutes_BCR=tf.gather(candidates_P, self.substitutes_BCR), runs=runs)

    def of_rows(self, rows_G: tf.Tensor) -> "Replacements":
        """The same of some of the examples, int32 [G], in their order."""
        positions, substitutes, replaced = (tf.gather(one, rows_G) for one in self[:3])
        runs = self.runs
        if runs is not None:
            runs = runs._replace(taken_BC=tf.gather(runs.taken_BC, rows_G))
        return Replacements(positions, substitutes, replaced, runs)

    def write_out(self, history_BL: tf.Tensor) -> tf.Tensor:
        """Writes the counterfactual histories out, [B, L] or [B, L, d] -> [B, C, L] or [B, C, L, d]."""
        num_histories = self.replaced_BCR.shape[1]
        histories_BCL = tf.repeat(history_BL[:, tf.newaxis], num_histories, axis=1)
        replaced = tf.where(self.replaced_BCR)
        rows_and_histories = tf.cast(replaced[:, :2], tf.int32)
        positions = tf.gather_nd(self.positions_BCR, replaced)
        return tf.tensor_scatter_nd_update(
            histories_BCL,
            tf.concat([rows_and_histories, positions[:, tf.newaxis]], axis=1),
            tf.gather_nd(self.substitutes_BCR, replaced),
        )

    def sums(
        self, concepts_BLD: tf.Tensor, mask_BL: tf.Tensor, vectors_UD: tf.Tensor | None = None
    ) -> tf.Tensor:
        """The sum of each counterfactual history's real concepts: of what stays, and of the substitutes.

        Args:
          concepts_BLD: float [B, L, d], the concepts of the original histories.
          mask_BL: bool [B, L], which of them are real.
          vectors_UD: float [U, d], what the substitutes are places in; None where they are vectors.
        """
        real_B1L = tf.cast(mask_BL, concepts_BLD.dtype)[:, tf.newaxis]
        stays_BCD = tf.matmul(real_B1L - self._leaves(mask_BL.shape[1]), concepts_BLD)
        if vectors_UD is None:
            replaced_BCR = tf.cast(self.replaced_BCR, concepts_BLD.dtype)
            return stays_BCD + tf.linalg.matvec(self.substitutes_BCR, replaced_BCR, transpose_a=True)
        if self.runs is None:
            return stays_BCD + self._sums_of_substitutes(vectors_UD)
        return stays_BCD + self._sums_of_runs(vectors_UD)

    def weighted_sums(
        self, weights_BCL: tf.Tensor, history_BL: tf.Tensor, vectors_UD: tf.Tensor
    ) -> tf.Tensor:
        """The weighted sum of each counterfactual history's items; only substitutes are gathered again.

        Args:
          weights_BCL: float [B, C, L]; 0 for padding.
          history_BL: int32 [B, L], places in `vectors_UD`.
          vectors_UD: float [U, d], the vectors of the step's distinct items.

        Returns:
          float [B, C, d].
        """
        num_histories, length = weights_BCL.shape[1:]
        width = vectors_UD.shape[1]
        is_new_BCL = self._leaves(length)
        kept_BCD = tf.matmul(weights_BCL * (1.0 - is_new_BCL), tf.gather(vectors_UD, history_BL))
        kept_ND = tf.reshape(kept_BCD, [-1, width])

        places_P2 = tf.where(tf.reshape(is_new_BCL, [-1, length]) > 0)
        written_NL = tf.reshape(self.write_out(history_BL), [-1, length])
        weights_P1 = tf.gather_nd(tf.reshape(weights_BCL, [-1, length]), places_P2)[:, tf.newaxis]
        new_PD = tf.gather(vectors_UD, tf.gather_nd(written_NL, places_P2)) * weights_P1
        sums_ND = kept_ND + tf.math.unsorted_segment_sum(new_PD, places_P2[:, 0], tf.shape(kept_ND)[0])
        return tf.reshape(sums_ND, [-1, num_histories, width])

    def _leaves(self, length: int) -> tf.Tensor:
        """1 where a counterfactual replaces, float [B, C, L]."""
        # The positions that are replaced are distinct, so the sum of their one-hot rows is 0 or 1.
        places_BCR = tf.where(self.replaced_BCR, self.positions_BCR, -1)
        return tf.reduce_sum(tf.one_hot(places_BCR, length, dtype=tf.float32), axis=2)

    def _sums_of_runs(self, vectors_UD: tf.Tensor) -> tf.Tensor:
        """The sum of each counterfactual's substitutes, which are the beginning of a run, float [B, C, d].

        All beginnings of the G runs are added up once; a counterfactual takes one of them.
        """
        assert self.runs is not None
        items_GR, run_BC = self.runs
        most, width = items_GR.shape[1], vectors_UD.shape[1]
        # Row q of it adds up the first q; row 0 stands for a counterfactual without any.
        triangle_QR = tf.constant(np.tri(most + 1, most, -1), vectors_UD.dtype)
        sums_GQD = tf.matmul(triangle_QR, tf.gather(vectors_UD, items_GR))
        count_BC = tf.reduce_sum(tf.cast(self.replaced_BCR, tf.int32), axis=2)
        return tf.gather(tf.reshape(sums_GQD, [-1, width]), run_BC * (most + 1) + count_BC)

    def _sums_of_substitutes(self, vectors_UD: tf.Tensor) -> tf.Tensor:
        """The same for any substitutes; only those that count are gathered."""
        num_histories, most = self.replaced_BCR.shape[1:]
        num_segments, width = tf.shape(self.replaced_BCR)[0] * num_histories, vectors_UD.shape[1]
        segments_S = tf.cast(tf.where(tf.reshape(self.replaced_BCR, [-1, most]))[:, 0], tf.int32)
        substitutes_S = tf.boolean_mask(self.substitutes_BCR, self.replaced_BCR)
        # For no entry at all (an empty memory) TensorFlow 2.20 leaves the gradient of the sum uninitialised.
        sums_ND = tf.cond(
            tf.size(substitutes_S) > 0,
            lambda: tf.sparse.segment_sum(vectors_UD, substitutes_S, segments_S, num_segments=num_segments),
            lambda: tf.zeros([num_segments, width], vectors_UD.dtype),
        )
        return tf.reshape(sums_ND, [-1, num_histories, width])

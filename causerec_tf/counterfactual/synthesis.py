"""The synthesis of counterfactual histories on the item and on the interest level (3.3.2 and 3.3.3).

Shapes: B examples, L history positions, K interest concepts, d vector size, C = M + N counterfactual
histories (the M positives first), R replacements at most in one of them, P candidates of a step, which are
cut into G runs of R or G blocks of T, Q positions that a block is for.
"""

import tensorflow as tf

from causerec_tf.counterfactual import concepts, replaced_positions
from causerec_tf.counterfactual.memory import ConceptMemory
from causerec_tf.counterfactual.replacements import Replacements, Runs

# How many runs of candidates are tried for a history.
RUNS_PER_HISTORY = 4
# How many items of the memory are candidates in a step. The batch shares them, as it shares the negatives of
# the softmax: each candidate is still a uniform draw from the memory, the step touches thousands of rows of
# the item table less, and they can be looked up before anything is chosen. For the optimiser all of them
# are touched: one that nothing takes has the gradient 0, but still decays and moves on by its momentum. Of
# 16,376 rows of a step these were 73 (batches of 1,024, nearest-neighbour substitutes, Yelp2018's size).
CANDIDATES_A_STEP = 4096


class _Synthesis(tf.keras.layers.Layer):
    """What both levels share: how many counterfactuals, and which positions they replace."""

    def __init__(self, *, num_positives: int, num_negatives: int, replacement_rate: float, **kwargs):
        super().__init__(**kwargs)
        self.num_positives = num_positives
        self.num_negatives = num_negatives
        self.replacement_rate = replacement_rate

    def choose(
        self, scores_BL: tf.Tensor, mask_BL: tf.Tensor, seed: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Which positions the M + N counterfactuals replace; see `replaced_positions.choose`."""
        return replaced_positions.choose(
            concepts.rank(scores_BL, mask_BL),
            num_positives=self.num_positives,
            num_negatives=self.num_negatives,
            replacement_rate=self.replacement_rate,
            seed=seed,
        )


class ItemSynthesis(_Synthesis):
    """Makes M counterfactually positive and N counterfactually negative histories of each, item by item.

    A positive has a share of its dispensable concepts replaced, a negative a share of its indispensable
    ones: `ceil(replacement_rate * size of the half)` positions, drawn uniformly without replacement and
    independently for each history. Substitutes come from a first-in-first-out memory of the items of
    earlier batches, P of which are the candidates of a step; those of this batch are enqueued afterwards.
    Each history is made from the original one. Where nothing could be replaced (an empty half, an empty
    memory), the history does not exist.
    """

    def __init__(self, *, memory_size: int, nearest_of: int = 1, **sizes):
        """Sets the sizes.

        Args:
          memory_size: capacity of the concept memory, in item ids.
          nearest_of: T; of so many candidates for each position the one whose vector has the largest
            cosine with that of the replaced item becomes its substitute (ours). 1: the paper's, any.
          **sizes: `num_positives`, M, `num_negatives`, N, and `replacement_rate`, r_rep, the share of a half
            that is replaced, in (0, 1].
        """
        super().__init__(**sizes)
        self.memory = ConceptMemory(memory_size)
        self.nearest_of = nearest_of

    def draw_candidates(self, seed: tf.Tensor) -> tf.Tensor:
        """Draws what may come in, from the items of earlier batches.

        Returns:
          int32 [P], item ids, with repeats; padding from an empty memory.
        """
        return self.memory.draw([max(CANDIDATES_A_STEP, self.nearest_of)], tf.random.fold_in(seed, 3))

    def call(
        self,
        history_BL: tf.Tensor,
        mask_BL: tf.Tensor,
        target_B: tf.Tensor,
        scores_BL: tf.Tensor,
        candidates_P: tf.Tensor,
        seed: tf.Tensor,
        history_vectors_BLD: tf.Tensor | None = None,
        candidate_vectors_PD: tf.Tensor | None = None,
    ) -> Replacements:
        """Chooses positions and substitutes, then remembers the batch.

        Args:
          history_BL: int32 [B, L], item ids.
          mask_BL: bool [B, L], which are real.
          target_B: int32 [B], the target items: never used as substitutes.
          scores_BL: float [B, L], of the concepts (equation 5).
          candidates_P: int32 [P], of `draw_candidates`.
          seed: int [2], of this step's draws.
          history_vectors_BLD: float [B, L, d], of the history's items; only used if `nearest_of` > 1.
          candidate_vectors_PD: float [P, d], of the candidates; likewise.

        Returns:
          The replacements of the M + N histories, positives first; their substitutes are numbers among the
          candidates.
        """
        seeds = tf.random.split(seed, 2)
        positions_BCR, chosen_BCR = self.choose(scores_BL, mask_BL, seeds[0])
        original_BCR = tf.gather(history_BL, positions_BCR, batch_dims=1)
        target_B11 = target_B[:, tf.newaxis, tf.newaxis]
        if self.nearest_of == 1:
            runs, found_BCR = self._any_runs(chosen_BCR, original_BCR, target_B11, candidates_P, seeds[1])
            substitutes_BCR = tf.gather(runs.items_GR, runs.taken_BC)
        else:
            runs = None
            substitutes_BCR, found_BCR = self._nearest_substitutes(
                positions_BCR,
                original_BCR,
                target_B11,
                candidates_P,
                history_vectors_BLD,
                candidate_vectors_PD,
            )
        self.memory.enqueue(tf.boolean_mask(history_BL, mask_BL))
        return Replacements(positions_BCR, substitutes_BCR, chosen_BCR & found_BCR, runs)

    def _any_runs(self, chosen_BCR, original_BCR, target_B11, candidates_P, seed) -> tuple[Runs, tf.Tensor]:
        """Takes, of a few runs of candidates, the one that fits for longest; says which of it come in.

        The candidates, each an independent draw, are cut into G runs of R, and a history that replaces q
        items takes the first q of a run, up to the first that is the target or its position's original: from
        there on positions keep their items. So what comes in is a beginning of a run, and the sums that a
        mean needs are made once for all histories (`Replacements.sums`).
        """
        num_rows, (num_histories, most) = tf.shape(chosen_BCR)[0], chosen_BCR.shape[1:]
        # Of a history that replaces more than there are candidates, some come in several times.
        num_runs = tf.maximum(tf.size(candidates_P) // most, 1)
        numbers_GR = tf.reshape(tf.range(num_runs * most) % tf.size(candidates_P), [num_runs, most])
        items_GR = tf.gather(candidates_P, numbers_GR)
        shape = [RUNS_PER_HISTORY, num_rows, num_histories]
        drawn_TBC = tf.random.stateless_uniform(shape, seed, maxval=num_runs, dtype=tf.int32)
        taken_BC = length_BC = tf.zeros([num_rows, num_histories], tf.int32)
        for run_BC in tf.unstack(drawn_TBC):
            comes_in_BCR = chosen_BCR & _fits(tf.gather(items_GR, run_BC), original_BCR, target_B11)
            fitting_BC = tf.reduce_min(tf.where(comes_in_BCR, most, tf.range(most)), axis=2)
            taken_BC = tf.where(fitting_BC > length_BC, run_BC, taken_BC)
            length_BC = tf.maximum(fitting_BC, length_BC)
        return Runs(numbers_GR, taken_BC), tf.range(most) < length_BC[..., tf.newaxis]

    def _nearest_substitutes(
        self, positions_BCR, original_BCR, target_B11, candidates_P, history_vectors_BLD, candidate_vectors_PD
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Takes, of the candidates that fit, the nearest to the original; says if there was one.

        The candidates, each an independent draw, are cut into G blocks of T, and the Q * G positions are
        dealt to the blocks in turn. So those of one history meet different blocks, and all comparisons
        are one batched product; T gathers of vectors, [B, C, R, d] each, took four times as long.
        """
        num_blocks = tf.size(candidates_P) // self.nearest_of
        used = num_blocks * self.nearest_of
        blocks_G1T = tf.reshape(candidates_P[:used], [-1, 1, self.nearest_of])
        # The original's length changes no order.
        directions_PD = tf.math.l2_normalize(candidate_vectors_PD[:used], axis=-1)
        directions_GTD = tf.reshape(directions_PD, [num_blocks, self.nearest_of, directions_PD.shape[1]])

        num_rows, length, size = tf.unstack(tf.shape(history_vectors_BLD))
        row_starts_B11 = (tf.range(num_rows) * length)[:, tf.newaxis, tf.newaxis]
        original_GQD = tf.gather(
            tf.reshape(history_vectors_BLD, [-1, size]), _deal(positions_BCR + row_starts_B11, num_blocks)
        )
        original_GQ1 = _deal(original_BCR, num_blocks)[..., tf.newaxis]
        target_GQ1 = _deal(tf.broadcast_to(target_B11, tf.shape(original_BCR)), num_blocks)[..., tf.newaxis]

        nearness_GQT = tf.where(
            _fits(blocks_G1T, original_GQ1, target_GQ1),
            tf.matmul(original_GQD, directions_GTD, transpose_b=True),
            float("-inf"),
        )
        starts_G1 = tf.range(num_blocks)[:, tf.newaxis] * self.nearest_of
        nearest_GQ = starts_G1 + tf.argmax(nearness_GQT, axis=-1, output_type=tf.int32)
        found_GQ = tf.reduce_max(nearness_GQT, axis=-1) > float("-inf")
        shape = tf.shape(original_BCR)
        return _collect(nearest_GQ, shape), _collect(found_GQ, shape)


class InterestSynthesis(_Synthesis):
    """The same on the interest level: what is replaced and what replaces are vectors of interests.

    Substitutes come from a first-in-first-out memory of the interests of earlier batches; no gradient passes
    into them. A user has all K interests or, without a single real item, none.
    """

    def __init__(self, *, memory_size: int, embedding_dim: int, **sizes):
        """Sets the sizes: those of `ItemSynthesis`, the memory's in interests, and d."""
        super().__init__(**sizes)
        self.memory = ConceptMemory(memory_size, (embedding_dim,), tf.float32)

    def call(
        self, interests_BKD: tf.Tensor, has_interests_B: tf.Tensor, scores_BK: tf.Tensor, seed: tf.Tensor
    ) -> Replacements:
        """Chooses positions and substitutes as `ItemSynthesis`, then remembers the batch.

        Args:
          interests_BKD: float [B, K, d].
          has_interests_B: bool [B], whether the user has any.
          scores_BK: float [B, K], of the interests (equation 8).
          seed: int [2], of this step's draws.
        """
        seeds = tf.random.split(seed, 2)
        real_BK = tf.repeat(has_interests_B[:, tf.newaxis], interests_BKD.shape[1], axis=1)
        positions_BCR, chosen_BCR = self.choose(scores_BK, real_BK, seeds[0])
        substitutes_BCRD = self.memory.draw(tf.shape(positions_BCR), seeds[1])
        replaced_BCR = chosen_BCR & (self.memory.filled > 0)
        seen_BKD = tf.stop_gradient(tf.boolean_mask(interests_BKD, has_interests_B))
        self.memory.enqueue(tf.reshape(seen_BKD, [-1, interests_BKD.shape[2]]))
        return Replacements(positions_BCR, substitutes_BCRD, replaced_BCR)


def _deal(values_BCR: tf.Tensor, num_blocks: tf.Tensor) -> tf.Tensor:
    """One after the other to each block in turn, [G, Q], filled up with zeros; `_collect` undoes it."""
    values = tf.reshape(values_BCR, [-1])
    missing = -tf.size(values) % num_blocks
    return tf.transpose(tf.reshape(tf.pad(values, [[0, missing]]), [-1, num_blocks]))


def _collect(values_GQ: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
    return tf.reshape(tf.reshape(tf.transpose(values_GQ), [-1])[: tf.reduce_prod(shape)], shape)


def _fits(item_BCR, original_BCR, target_B11) -> tf.Tensor:
    # An empty memory gives padding, which fits nowhere.
    return (item_BCR != original_BCR) & (item_BCR != target_B11) & (item_BCR != 0)

"""The retriever: item tower, user tower, sampled softmax and, in training, the counterfactual part.

Shapes: B examples, L history positions, d vector size, V items, S sampled negatives, U distinct items of
a step, C = M + N counterfactual histories, E = 1 + C encoded histories, I vectors a user.
"""

import enum
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

from causerec_tf import encoding, losses, negatives
from causerec_tf.counterfactual import concepts, synthesis
from causerec_tf.errors import InputError
from causerec_tf.settings import Settings
from causerec_tf.towers.item import PADDING, ItemTower
from causerec_tf.user_towers import user_tower

_MOST_LOGITS = 1 << 28  # 1 GiB each for logits and exponentials


class _Draw(enum.IntEnum):
    """What a step draws random numbers for; each purpose has its own stream."""

    NEGATIVES = 0
    SYNTHESIS = 1


class _Encoded(NamedTuple):
    """User vectors, [B, d] or [B, I, d], and those of the counterfactuals, where there are any."""

    user: tf.Tensor
    positives: tf.Tensor | None = None
    negatives: tf.Tensor | None = None
    positives_exist_BM: tf.Tensor | None = None
    negatives_exist_BN: tf.Tensor | None = None


class CauseRec(tfrs.Model):
    """A two-tower retriever that trains with counterfactual histories (equation 11).

        L = L_matching + lambda_co L_co + lambda_ii L_ii + lambda_cm L_cm + lambda_cn L_cn

    L_cm and L_cn are ours, 0 by default. L_cm is the matching loss of the counterfactual positives, which
    keep what their target rests on and so should still find it. L_cn ranks the history over its
    counterfactual negatives, which have lost that. Both are means over those of an example.

    `method="base"` leaves the counterfactual part out; a weight of 0, or M or N of 0, leaves out the
    terms that need it. What is served is `encode`: it knows nothing of the counterfactual part.

    Where the user tower gives several vectors, the losses need one: L_matching takes MIND's label-aware
    attention for MIND and otherwise, as L_co and L_ii do for each history, the vector with the largest
    inner product with the target.

    CauseRec-Item replaces items, CauseRec-Interest interest concepts, and CauseRec-H does half of its
    counterfactuals on each level (the larger half of an odd number on the items), never both in one.
    """

    def __init__(self, settings: Settings, num_items: int):
        """Composes the parts and makes their variables.

        Args:
          settings: of the run.
          num_items: V, the catalogue's size without padding.

        Raises:
          InputError: the full softmax of these settings does not fit a machine.
        """
        super().__init__()
        self.num_items = num_items
        self.item_tower = ItemTower(num_items, settings.embedding_dim, seed=settings.seed)
        self.user_tower = user_tower(settings)
        weights = {"matching": 1.0}
        if settings.method != "base":
            weights |= {name: getattr(settings, f"lambda_{name}") for name in ("co", "ii", "cm", "cn")}
        self._weights = {name: weight for name, weight in weights.items() if weight > 0}
        num_matched = settings.batch_size * (1 + settings.num_positives * ("cm" in self._weights))
        if settings.sampler == "full" and num_matched * num_items > _MOST_LOGITS:
            raise InputError(
                f"--sampler=full with {num_matched:,} histories a step and {num_items:,} items makes"
                f" {num_matched * num_items:,} logits (at most {_MOST_LOGITS:,}): sample with"
                f" --sampler=uniform, or take smaller batches than --batch_size={settings.batch_size}."
            )
        self.settings = settings
        self._means = {name: tf.keras.metrics.Mean(name) for name in self._weights}
        self.item_synthesis = self.interest_synthesis = None
        if len(self._weights) > 1:
            on_items, on_interests = _counts_by_level(settings)
            if sum(on_items):
                self.item_synthesis = synthesis.ItemSynthesis(
                    **_synthesis_settings(settings, on_items), nearest_of=settings.nearest_of
                )
            if sum(on_interests):
                self.interest_synthesis = synthesis.InterestSynthesis(
                    **_synthesis_settings(settings, on_interests), embedding_dim=settings.embedding_dim
                )
        # Built now, so that a checkpoint can be restored before the first call.
        self.item_tower.build(None)

    @tf.function(reduce_retracing=True)
    def encode(self, history_BL: tf.Tensor) -> tf.Tensor:
        """User vectors of histories.

        Args:
          history_BL: int [B, L], item indices, oldest first, 0 is padding.

        Returns:
          float [B, d], or [B, I, d] where the tower gives several vectors.
        """
        return self.user_tower(self.item_tower(history_BL), history_BL != PADDING)

    def item_embeddings(self) -> np.ndarray:
        """The item table, float32 [V + 1, d]; row 0 is padding."""
        return self.item_tower.table.numpy()

    def item_vectors(self) -> np.ndarray:
        """What user vectors are ranked against by inner product, float32 [V, d]; for cosine of length one."""
        return np.concatenate(list(self.item_vectors_in_parts()))

    def item_vectors_in_parts(self) -> Iterator[np.ndarray]:
        """`item_vectors`, one at a time of the parts in which the table lies, maybe on other machines."""
        for number, part in enumerate(self.item_tower.parts):
            vectors = part.numpy()[1 if number == 0 else 0 :]
            if self.settings.similarity == "cosine":
                vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
            yield vectors

    def compute_loss(self, inputs: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """The training loss of a batch.

        Args:
          inputs: `history` int32 [B, L] and `target` int32 [B]; where steps overlap, asynchronously, also
            `step` int64 [], the number that its draws go by.
          training: not used: the loss exists only in training.

        Returns:
          float [], the mean over the batch; of synchronous replicas the share of this one in it.

        Raises:
          tf.errors.InvalidArgumentError: the loss is not finite; see `training.explain_non_finite`.
        """
        history_BL, target_B = inputs["history"], inputs["target"]
        mask_BL = history_BL != PADDING
        step = inputs.get("step", self.optimizer.iterations)
        # Replicas share the negatives, as the examples of a batch do: a step is that of one device.
        drawn = self._draw_negatives(step)
        seed = self._seed(_Draw.SYNTHESIS, step)
        replica = tf.distribute.get_replica_context()
        if replica.num_replicas_in_sync > 1:
            seed = tf.random.fold_in(seed, replica.replica_id_in_sync_group)
        needed = [history_BL, target_B, drawn.ids_S]
        if self.item_synthesis is not None:
            candidates_P = self.item_synthesis.draw_candidates(seed)
            needed.append(candidates_P)
        # Where the items of each stand among the distinct vectors.
        vectors_UD, (places_BL, places_B, places_S, *places) = self.item_tower.look_up_once(*needed)
        target_BD, negative_SD = tf.gather(vectors_UD, places_B), tf.gather(vectors_UD, places_S)
        changes = None
        if self.item_synthesis is not None:
            (places_P,) = places
            history_BLD, candidates_PD = (
                tf.stop_gradient(tf.gather(vectors_UD, place)) for place in (places_BL, places_P)
            )
            changes = self.item_synthesis(
                history_BL,
                mask_BL,
                target_B,
                scores_BL=self._scores(history_BLD, target_BD, seed),
                candidates_P=candidates_P,
                seed=seed,
                history_vectors_BLD=history_BLD,
                candidate_vectors_PD=candidates_PD,
            ).naming(places_P)

        if self.interest_synthesis is not None:
            encoded = self._encode_on_interests(vectors_UD, places_BL, mask_BL, changes, target_BD, seed)
        elif changes is not None:
            encoded = self._encode_on_items(vectors_UD, places_BL, mask_BL, changes)
        else:
            encoded = _Encoded(self.user_tower(tf.gather(vectors_UD, places_BL), mask_BL))

        target_BD, negative_SD = self._matched(target_BD), self._matched(negative_SD)
        parts_B = {} if encoded.positives is None else self._contrasts(target_BD, encoded)
        parts_B |= self._matchings(encoded, target_BD, negative_SD, target_B, drawn)
        return self._total(*_means_and_shares(parts_B))

    def train_step(self, inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """One step; answers with the means of the loss parts over the epoch so far."""
        with tf.GradientTape() as tape:
            loss = self.compute_loss(inputs, training=True)
        gradients = tape.gradient(loss, self.trainable_variables)
        # After the checks: a step that is not finite must not reach the variables.
        with tf.control_dependencies([loss, self._check_gradients(gradients)]):
            self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return {name: mean.result() for name, mean in self._means.items()}

    @property
    def metrics(self) -> list[tf.keras.metrics.Metric]:
        """The means that Keras resets at the start of an epoch."""
        return list(self._means.values())

    def _draw_negatives(self, step: tf.Tensor) -> negatives.Negatives:
        return negatives.draw(
            self.settings.sampler,
            num_items=self.num_items,
            num_sampled=self.settings.num_sampled,
            seed=self._seed(_Draw.NEGATIVES, step),
        )

    def _scores(self, concepts_BLD, target_BD, seed) -> tf.Tensor:
        """What tells the indispensable concepts from the dispensable ones, float [B, L]."""
        if self.settings.concept_scores == "random":
            return tf.random.stateless_uniform(tf.shape(concepts_BLD)[:2], tf.random.fold_in(seed, 2))
        return concepts.scores(concepts_BLD, target_BD)

    def _encode_on_items(self, vectors_UD, history_BL, mask_BL, changes) -> _Encoded:
        """Histories, given by their items' places, and counterfactuals on the item level."""
        counts = [self.settings.num_positives, self.settings.num_negatives]
        given = self.user_tower, vectors_UD, history_BL, mask_BL, changes
        if self.settings.reads_interests:
            user = self.user_tower(tf.gather(vectors_UD, history_BL), mask_BL)
            others = encoding.encode_items_as_interests(*given)
        else:
            user, others = encoding.encode_items(*given)
        return _Encoded(user, *_by_sign(others, changes.exists_BC, counts))

    def _encode_on_interests(
        self, vectors_UD, history_BL, mask_BL, item_changes, target_BD, seed
    ) -> _Encoded:
        """The same with counterfactuals on the interest level, and on both (CauseRec-H)."""
        assert self.interest_synthesis is not None
        tower, has_interests_B = self.user_tower, tf.reduce_any(mask_BL, axis=1)
        interests_BKD = tower.attention(tf.gather(vectors_UD, history_BL), mask_BL)
        seed = tf.random.fold_in(seed, 1)
        scores_BK = self._scores(interests_BKD, target_BD, seed)
        changes = self.interest_synthesis(interests_BKD, has_interests_B, scores_BK, seed)
        user, others = encoding.encode_interests(tower.encoder, interests_BKD, has_interests_B, changes)
        item_counts, interest_counts = _counts_by_level(self.settings)
        on_interests = _by_sign(others, changes.exists_BC, interest_counts)
        if item_changes is None:
            return _Encoded(user, *on_interests)
        others = encoding.encode_items_as_interests(tower, vectors_UD, history_BL, mask_BL, item_changes)
        on_items = _by_sign(others, item_changes.exists_BC, item_counts)
        return _Encoded(user, *(tf.concat(pair, axis=1) for pair in zip(on_items, on_interests, strict=True)))

    def _matched(self, item_vectors: tf.Tensor) -> tf.Tensor:
        """Item vectors as users are matched with them."""
        if self.settings.similarity == "cosine":
            return tf.math.l2_normalize(item_vectors, axis=-1)
        return item_vectors

    def _matching_vector(self, user, target_BD) -> tf.Tensor:
        """The one vector a user that L_matching takes, float [B, d], of [B, d] or [B, I, d]."""
        if user.shape.rank == 2:
            return user
        if self.settings.tower == "mind":
            return losses.label_aware_attention(user, target_BD, self.settings.attention_power)
        return losses.nearest_interest(user, target_BD)

    def _contrasts(self, target_BD, encoded: _Encoded) -> dict[str, tf.Tensor]:
        """L_co, L_ii and L_cn of each example, those that have a weight."""
        user_BD, positive_BMD, negative_BND = encoded.user, encoded.positives, encoded.negatives
        if user_BD.shape.rank == 3:
            user_BD = losses.nearest_interest(user_BD, target_BD)
            positive_BMD = losses.nearest_interest(positive_BMD, target_BD[:, tf.newaxis])
            negative_BND = losses.nearest_interest(negative_BND, target_BD[:, tf.newaxis])
        contrasted = positive_BMD, negative_BND, encoded.positives_exist_BM, encoded.negatives_exist_BN
        parts_B = {}
        if "co" in self._weights:
            parts_B["co"] = losses.contrast_with_observation(user_BD, *contrasted)
        if "ii" in self._weights:
            parts_B["ii"] = losses.contrast_with_items(target_BD, *contrasted)
        if "cn" in self._weights:
            parts_B["cn"] = losses.rank_over_negatives(
                user_BD,
                target_BD,
                negative_BND,
                encoded.negatives_exist_BN,
                temperature=self.settings.temperature,
            )
        return parts_B

    def _matchings(self, encoded: _Encoded, target_BD, negative_SD, target_B, drawn) -> dict[str, tf.Tensor]:
        """L_matching of each example and, if it has a weight, L_cm."""
        if "cm" not in self._weights:
            user_BD = self._matching_vector(encoded.user, target_BD)
            return {"matching": self._matching(user_BD, target_BD, negative_SD, target_B, drawn)}
        num_matched = 1 + self.settings.num_positives
        target_ND, target_N = (tf.repeat(one, num_matched, axis=0) for one in (target_BD, target_B))
        vectors = tf.concat([encoded.user[:, tf.newaxis], encoded.positives], axis=1)
        user_ND = self._matching_vector(tf.reshape(vectors, [-1, *vectors.shape[2:]]), target_ND)
        losses_N = self._matching(user_ND, target_ND, negative_SD, target_N, drawn)
        matching_B1, losses_BM = tf.split(
            tf.reshape(losses_N, [-1, num_matched]), [1, num_matched - 1], axis=1
        )
        exist_BM = tf.cast(encoded.positives_exist_BM, losses_BM.dtype)
        mean_B = tf.math.divide_no_nan(
            tf.reduce_sum(losses_BM * exist_BM, axis=1), tf.reduce_sum(exist_BM, axis=1)
        )
        return {"matching": tf.squeeze(matching_B1, axis=1), "cm": mean_B}

    def _matching(self, user_BD, target_BD, negative_SD, target_B, drawn) -> tf.Tensor:
        """L_matching of each example (equations 2 and 3)."""
        target_log_count_B = None
        if drawn.log_expected_count_S is not None:
            target_log_count_B = negatives.log_uniform_log_expected_count(
                target_B, self.num_items, self.settings.num_sampled
            )
        return losses.sampled_softmax(
            user_BD,
            target_BD,
            negative_SD,
            target_ids_B=target_B,
            negative_ids_S=drawn.ids_S,
            target_log_expected_count_B=target_log_count_B,
            negative_log_expected_count_S=drawn.log_expected_count_S,
            temperature=self.settings.temperature,
        )

    def _total(self, means: dict[str, tf.Tensor], shares: dict[str, tf.Tensor]) -> tf.Tensor:
        """The weighted sum of the shares; stops the step, on every replica, if the means are not finite."""
        total = tf.add_n([self._weights[name] * mean for name, mean in means.items()])
        report: list = ["loss is not finite at step", self.optimizer.iterations + 1]
        for name, mean in means.items():
            report += [f"{name}=", mean]
        with tf.control_dependencies([tf.debugging.Assert(tf.math.is_finite(total), report)]):
            share = tf.add_n([self._weights[name] * share for name, share in shares.items()])
        for name, mean in means.items():
            self._means[name].update_state(mean)
        return share

    def _check_gradients(self, gradients) -> tf.Operation:
        """Stops the step, on every replica, if a gradient is not finite where the loss still was."""
        norm = tf.linalg.global_norm(gradients)
        replica = tf.distribute.get_replica_context()
        if replica.num_replicas_in_sync > 1:
            norm = replica.all_reduce(tf.distribute.ReduceOp.SUM, norm)
        report = ["the gradient is not finite at step", self.optimizer.iterations + 1]
        return tf.debugging.Assert(tf.math.is_finite(norm), report)

    def _seed(self, draw: _Draw, step: tf.Tensor) -> tf.Tensor:
        """The seed of a draw, int64 [2]: a function of the run's seed, the step and the purpose."""
        streams = len(_Draw)
        number = tf.cast(step, tf.int64) * streams + int(draw)
        return tf.stack([tf.constant(self.settings.seed, tf.int64), number])


def _by_sign(vectors: tf.Tensor, exists_BC: tf.Tensor, counts: Sequence[int]) -> list[tf.Tensor]:
    """Positives and negatives of [B, C, d] or [B, C, I, d], then which of both exist, taken apart at once."""
    return [*tf.split(vectors, counts, axis=1), *tf.split(exists_BC, counts, axis=1)]


def _means_and_shares(parts_B: dict[str, tf.Tensor]) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
    """The means of the loss parts over the examples of all replicas, and this replica's share of each.

    The shares of all replicas sum to the mean, and so do their gradients; no gradient passes the means of
    several replicas. A replica may have no example of an epoch's last batch: its share is 0.
    """
    replica = tf.distribute.get_replica_context()
    if replica.num_replicas_in_sync == 1:
        means = {name: tf.reduce_mean(part_B) for name, part_B in parts_B.items()}
        return means, means
    sums = {name: tf.reduce_sum(part_B) for name, part_B in parts_B.items()}
    count = tf.cast(tf.size(parts_B["matching"]), tf.float32)
    own = tf.stop_gradient(tf.stack([count, *sums.values()]))
    count, *totals = tf.unstack(replica.all_reduce(tf.distribute.ReduceOp.SUM, own))
    means = {name: total / count for name, total in zip(sums, totals, strict=True)}
    return means, {name: one / count for name, one in sums.items()}


def _counts_by_level(settings: Settings) -> tuple[tuple[int, int], tuple[int, int]]:
    """(M, N) of the counterfactuals on the item level, and of those on the interest level."""
    counts = settings.num_positives, settings.num_negatives
    if settings.method == "item":
        return counts, (0, 0)
    if settings.method == "interest":
        return (0, 0), counts
    return ((counts[0] + 1) // 2, (counts[1] + 1) // 2), (counts[0] // 2, counts[1] // 2)


def _synthesis_settings(settings: Settings, counts: tuple[int, int]) -> dict[str, Any]:
    return {
        "num_positives": counts[0],
        "num_negatives": counts[1],
        "replacement_rate": settings.replacement_rate,
        "memory_size": settings.memory_size,
    }

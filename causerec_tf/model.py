"""The retriever, composed of its parts: item tower, user tower, retrieval and, in training, counterfactuals.

Shapes: B examples, L history positions, d vector size, V items, S sampled negatives, U distinct items of a
step, M counterfactual positives, N counterfactual negatives, I vectors a user. Of whole sequences: R of them,
P predictions at all of their positions, and B windows drawn from them.
"""

import enum
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

from causerec_tf import every_position
from causerec_tf.counterfactual.methods import (
    CounterfactualHierarchy,
    CounterfactualInterests,
    CounterfactualItems,
    Encoded,
    Histories,
)
from causerec_tf.errors import InputError
from causerec_tf.losses import Counterfactuals, LossInputs, WeightedLoss
from causerec_tf.matching import (
    Candidates,
    SampledMatching,
    SampledSoftmax,
    TaskMatching,
    nearest_interest,
)
from causerec_tf.returns import HistoryScores, Returns, own_similarities
from causerec_tf.shares import means_and_shares
from causerec_tf.towers.base import KerasTower, UserTower
from causerec_tf.towers.dropout import drawn_by
from causerec_tf.towers.item import PADDING, ItemTower

MATCHING = "matching"


class _Draw(enum.IntEnum):
    """What a step draws random numbers for; each purpose has its own stream."""

    NEGATIVES = 0
    SYNTHESIS = 1


# What the stream of the synthesis is folded with for other purposes. (One more in `_Draw` would give each of
# them other numbers.)
_DROPOUT, _WINDOWS, _HISTORIES = 101, 102, 103


class CauseRec(tfrs.Model):
    """A two-tower retriever that trains with counterfactual histories (equation 11).

        L = L_matching + sum of the weighted losses, such as lambda_co L_co + lambda_ii L_ii

    Every part is an object that is handed in; `recipes.compose` makes them from settings. What is served is
    `encode`: it knows nothing of the counterfactual part.
    """

    def __init__(
        self,
        item_tower: ItemTower,
        user_tower: UserTower | tf.keras.layers.Layer,
        retrieval: SampledMatching | tfrs.tasks.Retrieval,
        *,
        counterfactual: CounterfactualItems | CounterfactualInterests | CounterfactualHierarchy | None = None,
        losses: Sequence[WeightedLoss] = (),
        max_history: int = 20,
        seed: int = 0,
        whole_sequences: bool = False,
        counterfactual_positions: int = 1,
        returns: Returns | None = None,
        history_dropout: float = 0.0,
    ):
        """Composes the parts and makes their variables.

        Args:
          item_tower: item ids to vectors.
          user_tower: item vectors of a history to user vectors. Any Keras layer is taken as `KerasTower`.
          retrieval: L_matching. A `tfrs.tasks.Retrieval` ranks against the other targets of the batch.
          counterfactual: synthesises the counterfactual histories that losses need; None: none.
          losses: what is added to L_matching.
          max_history: how many of the last items of a history are read.
          seed: of negatives, synthesis and dropout.
          whole_sequences: whether it trains on whole sequences, with a target at every position, and not on
            windows; of a causal tower.
          counterfactual_positions: at how many positions, drawn of each whole sequence, counterfactuals are
            made and losses added.
          returns: learns how likely a user comes back to an item; None: items of the history are ranked as
            the others are.
          history_dropout: the share of training examples whose history is left out, so that a user without
            one is answered by what else is known, in [0, 1). Of a model that trains on windows.

        Raises:
          InputError: the parts do not go together.
        """
        super().__init__()
        if not isinstance(user_tower, UserTower):
            user_tower = KerasTower(user_tower, item_tower.embedding_dim)
        if isinstance(retrieval, tfrs.tasks.Retrieval):
            retrieval = TaskMatching(retrieval)
        if user_tower.max_history is not None and user_tower.max_history < max_history:
            raise InputError(
                f"the user tower reads {user_tower.max_history} items of a history, and max_history is"
                f" {max_history}: make them alike."
            )
        if item_tower.has_unit_length != user_tower.has_unit_length:
            lengths = [one.has_unit_length for one in (item_tower, user_tower)]
            raise InputError(
                "the cosine needs vectors of length one of both towers, the inner product of neither; got"
                f" has_unit_length={lengths[0]} of the item tower and {lengths[1]} of the user tower. For the"
                ' cosine give ItemTower(..., similarity="cosine") and UnitLengthTower(user_tower).'
            )
        if whole_sequences and not user_tower.is_causal:
            raise InputError(
                f"{type(user_tower).__name__} does not read causally, and whole_sequences wants a tower that"
                " does, such as SASRecTower or GRU4RecTower: train on windows, or take one of these."
            )
        if retrieval.needs_unit_length and not user_tower.has_unit_length:
            raise InputError(
                f"{type(retrieval).__name__} compares by the cosine, and these towers by the inner product:"
                ' give --similarity=cosine, or ItemTower(..., similarity="cosine") and a UnitLengthTower.'
            )
        if whole_sequences and retrieval.wants_targets:
            raise InputError(
                "in-batch negatives are of windows, and the targets of whole sequences are too many: take"
                " uniform ones (--sampler=uniform), or train on windows."
            )
        if counterfactual is not None:
            counterfactual.check(user_tower)
        names = [MATCHING, *(loss.name for loss in losses)]
        if len(set(names)) < len(names):
            raise InputError(f"the losses are named {', '.join(names)}: wanted a name for each.")
        if history_dropout and whole_sequences:
            raise InputError("histories are left out of windows: train without whole_sequences.")
        self.returns, self.scores_of_history = returns, None
        if returns is not None:
            if not isinstance(retrieval, SampledSoftmax):
                raise InputError(f"returns are learned by SampledSoftmax, not by {type(retrieval).__name__}.")
            self.scores_of_history = HistoryScores(
                returns, as_candidates=item_tower.as_candidates, temperature=retrieval.temperature
            )
        self.item_tower = item_tower
        self.user_tower = user_tower
        self.retrieval = retrieval
        self.counterfactual = counterfactual
        self.losses_added = tuple(losses)
        self.max_history = max_history
        self.seed = seed
        self.whole_sequences = whole_sequences
        self.counterfactual_positions = counterfactual_positions
        self.history_dropout = history_dropout
        self.num_trained_items = item_tower.num_items
        self.trained_items: np.ndarray | None = None
        self._means = {name: tf.keras.metrics.Mean(name) for name in names}
        # Built now, so that a checkpoint can be restored before the first call.
        layers: list[tf.keras.layers.Layer] = [self.item_tower, self.user_tower]
        if returns is not None:
            layers.append(returns)
        for layer in layers:
            if not layer.built:
                layer.build(None)

    def describe(self) -> str:
        """The parts in words, a line each: what a run of a model that was composed by hand is known by."""
        shapes = " ".join(str(tuple(weight.shape)) for weight in self.user_tower.weights)
        losses = ", ".join(f"{loss.weight:g} {loss.name}" for loss in self.losses_added) or "none"
        items = f"{self.num_items} x {self.item_tower.embedding_dim}"
        rows = ", whole sequences" if self.whole_sequences else ""
        return "\n".join(
            [
                f"item tower: {type(self.item_tower).__name__}, {items}",
                f"user tower: {type(self.user_tower).__name__}, weights {shapes or 'none'}",
                f"retrieval: {type(self.retrieval).__name__}",
                f"counterfactual: {type(self.counterfactual).__name__ if self.counterfactual else 'none'}",
                f"losses: {losses}",
                *(["returns: learned"] if self.returns else []),
                f"max_history: {self.max_history}, seed: {self.seed}{rows}",
            ]
        )

    @property
    def num_items(self) -> int:
        """V, the catalogue's size without padding."""
        return self.item_tower.num_items

    def know_items_of(self, num_trained_items: int, trained_items: np.ndarray | None) -> None:
        """Says which items training may know; without it, all. To be called before training.

        Args:
          num_trained_items: negatives are drawn from so many items, the first.
          trained_items: int, ascending: only these are ranked, for nothing trains the vectors of the others;
            None: all. Where items have features all are ranked: the others are what their features say.
        """
        self.num_trained_items, self.trained_items = num_trained_items, trained_items
        if self.item_tower.features is not None and trained_items is not None:
            is_known = np.zeros(self.num_items + 1, bool)
            is_known[trained_items] = True
            self.item_tower.start_from_features(is_known)
            self.trained_items = None

    @property
    def wants_targets(self) -> bool:
        """Whether training wants `know_targets`."""
        return self.retrieval.wants_targets

    def know_targets(self, counts_V1: np.ndarray) -> None:
        """Says how often each item is a target of training, int [V + 1], for in-batch negatives."""
        self.retrieval.know_targets(counts_V1)

    @tf.function(reduce_retracing=True, autograph=False)
    def encode(self, history_BL: tf.Tensor, context: dict[str, tf.Tensor] | None = None) -> tf.Tensor:
        """User vectors of histories.

        Args:
          history_BL: int [B, L], item indices, oldest first, 0 is padding.
          context: what is known beside the histories, by the keys of training batches; what is not there is
            missing. A model without columns of users, events and requests reads nothing of it.

        Returns:
          float [B, d], or [B, I, d] where the tower gives several vectors.
        """
        mask_BL = history_BL != PADDING
        tower = self.user_tower.given(context or {}, mask_BL)
        return tower(self.item_tower(history_BL), mask_BL)

    @tf.function(reduce_retracing=True, autograph=False)
    def history_scores(self, history_BL: tf.Tensor, users: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """What `scores_of_history`, which a model that learns returns has, gives for histories.

        Args:
          history_BL: int [B, L], oldest first, 0 is padding.
          users: float [B, d] or [B, I, d], what `encode` gives for them.
        """
        assert self.scores_of_history is not None
        return self.scores_of_history(history_BL, self.item_tower(history_BL), users)

    def feature_encoders(self) -> dict[str, tf.keras.layers.Layer]:
        """What encodes each column that is read, by its key, such as `item/category`."""
        of_items = self.item_tower.features
        found = {} if of_items is None else {f"item/{name}": one for name, one in of_items.encoders.items()}
        beside = self.user_tower.beside_histories
        return found if beside is None else found | dict(beside.encoders)

    def item_embeddings(self) -> np.ndarray:
        """The item table, float32 [V + 1, d]; row 0 is padding."""
        return self.item_tower.embeddings()

    def item_vectors(self) -> np.ndarray:
        """What user vectors are ranked against by inner product, float32 [V, d]; for cosine of length one."""
        return np.concatenate(list(self.item_vectors_in_parts()))

    def item_vectors_in_parts(self) -> Iterator[np.ndarray]:
        """`item_vectors`, one at a time of the parts in which the table lies, maybe on other machines."""
        return self.item_tower.candidate_parts()

    def compute_loss(self, inputs: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """The training loss of a batch.

        Args:
          inputs: `history` int32 [B, L] and `target` int32 [B], or of whole sequences `history` and
            `targets`, both int32 [R, L]; where steps overlap, asynchronously, also `step` int64 [], the
            number that its draws go by. What is known beside the histories, by column: `event/<name>`
            [B, L], `user/<name>` [B, ...], `request/<name>` [B] or [R, L], and `time` int64 [B, L] and
            `request_time` int64 [B] or [R, L]. And `weight` float32 [B] or [R, L]: that of each example in
            the losses.
          training: not used: the loss exists only in training.

        Returns:
          float [], the mean over the batch; of synchronous replicas the share of this one in it. Of whole
          sequences L_matching is a mean over all predictions, and the other losses over the windows drawn.

        Raises:
          tf.errors.InvalidArgumentError: the loss is not finite; see `training.explain_non_finite`.
        """
        step = inputs.get("step", self.optimizer.iterations)
        # Replicas share the negatives, as the examples of a batch do: a step is that of one device.
        seed_of_negatives = self._seed(_Draw.NEGATIVES, step)
        seed = self._seed(_Draw.SYNTHESIS, step)
        replica = tf.distribute.get_replica_context()
        if replica.num_replicas_in_sync > 1:
            seed = tf.random.fold_in(seed, replica.replica_id_in_sync_group)
        with drawn_by(tf.random.fold_in(seed, _DROPOUT)):
            return self._total(*means_and_shares(self._parts(inputs, seed_of_negatives, seed)))

    def _parts(
        self, inputs: dict[str, tf.Tensor], seed_of_negatives: tf.Tensor, seed: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """The losses by their names, each float [examples that it is a mean over]."""
        sequences = [inputs["history"], inputs["targets"]] if self.whole_sequences else []
        weights = inputs.get("weight")
        if self.whole_sequences:
            count = self.counterfactual_positions if self.losses_added else 0
            window_seed = tf.random.fold_in(seed, _WINDOWS)
            drawn_windows = every_position.draw_windows(
                inputs["history"], inputs["targets"], count, window_seed
            )
            history_BL, target_B, *drawn_at = drawn_windows
            # Once for all: a table that is looked up twice would have rows twice in its gradient.
            tower_of_sequences = self.user_tower.given(inputs, sequences[0] != PADDING, every_position=True)
            tower = tower_of_sequences.at_positions(*drawn_at)
            mask_BL = history_BL != PADDING
        else:
            history_BL, target_B = inputs["history"], inputs["target"]
            if self.history_dropout:
                history_BL = self._without_histories(history_BL, seed)
            mask_BL = history_BL != PADDING
            tower = self.user_tower.given(inputs, mask_BL)
        drawn = self.retrieval.draw(self.num_trained_items, seed_of_negatives, target_B)
        candidates_P = tf.zeros([0], tf.int32)
        if self.counterfactual is not None:
            candidates_P = self.counterfactual.draw_candidates(seed)
        # Where the items of each stand among the distinct vectors.
        vectors_UD, (places_BL, places_B, places_S, candidate_places, *places_RL) = (
            self.item_tower.look_up_once(history_BL, target_B, drawn.ids_S, candidates_P, *sequences)
        )
        negative_SD = self.item_tower.as_candidates(tf.gather(vectors_UD, places_S))

        def candidates(target_ids, target_places) -> Candidates:
            vectors = self.item_tower.as_candidates(tf.gather(vectors_UD, target_places))
            return Candidates(target_ids, vectors, drawn, negative_SD, self.num_trained_items)

        parts: dict[str, tf.Tensor] = {}
        if self.whole_sequences:
            targets_RL = sequences[1]
            users_PD, numbers_P = every_position.encode(
                tower_of_sequences, vectors_UD, places_RL[0], targets_RL
            )
            targets = (tf.gather(tf.reshape(one, [-1]), numbers_P) for one in (targets_RL, places_RL[1]))
            of_predictions = candidates(*targets)
            if self.returns is not None:
                prefix_PL = every_position.prefixes(sequences[0], numbers_P)
                as_candidates_UD = self.item_tower.as_candidates(vectors_UD)
                similarities_PL = every_position.own_similarities(
                    users_PD, numbers_P, as_candidates_UD, places_RL[0]
                )
                of_predictions = of_predictions._replace(own=self.returns(prefix_PL, similarities_PL))
            matched_P = self.retrieval(users_PD, of_predictions)
            if weights is not None:
                matched_P *= tf.gather(tf.reshape(weights, [-1]), numbers_P)
                weights = tf.gather_nd(weights, tf.stack(drawn_at, axis=1))
            parts[MATCHING] = matched_P
            if not self.losses_added:
                return parts
        if self.counterfactual is None:
            encoded = Encoded(tower.encode_places(places_BL, mask_BL, vectors_UD))
        else:
            encoded = self.counterfactual(
                every_position.ByLength(tower) if self.whole_sequences else tower,
                Histories(
                    history_BL=history_BL,
                    mask_BL=mask_BL,
                    target_B=target_B,
                    target_BD=tf.gather(vectors_UD, places_B),
                    vectors_UD=vectors_UD,
                    places_BL=places_BL,
                    candidates_P=candidates_P,
                    candidate_places_P=candidate_places,
                    seed=seed,
                ),
            )
        of_windows = candidates(target_B, places_B)
        if self.returns is not None:
            as_candidates_UD = self.item_tower.as_candidates(vectors_UD)
            similarities_BL = own_similarities(encoded.users, history_BL, as_candidates_UD, places_BL)
            of_windows = of_windows._replace(own=self.returns(history_BL, similarities_BL))
        if self.losses_added:
            loss_inputs = LossInputs(
                history_BL=history_BL,
                mask_BL=mask_BL,
                history_BLD=tf.gather(vectors_UD, places_BL),
                target_B=target_B,
                target_BD=of_windows.target_BD,
                negative_ids_S=drawn.ids_S,
                negative_SD=negative_SD,
                user_BD=_nearest(encoded.users, of_windows.target_BD),
                synthesised=self._counterfactuals(encoded, of_windows),
            )
            parts |= {name: _weighted(loss(loss_inputs), weights) for name, _, loss in self.losses_added}
        if not self.whole_sequences:
            parts[MATCHING] = _weighted(self.retrieval(encoded.users, of_windows), weights)
        return parts

    def _without_histories(self, history_BL: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Leaves a share of the histories out, whole."""
        shape = [tf.shape(history_BL)[0], 1]
        share_B1 = tf.random.stateless_uniform(shape, tf.random.fold_in(seed, _HISTORIES))
        return tf.where(share_B1 >= self.history_dropout, history_BL, PADDING)

    @tf.autograph.experimental.do_not_convert
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

    def _counterfactuals(self, encoded: Encoded, candidates: Candidates) -> Counterfactuals | None:
        if encoded.positives is None:
            return None
        target_B1D = candidates.target_BD[:, tf.newaxis]
        return Counterfactuals(
            _nearest(encoded.positives, target_B1D),
            _nearest(encoded.negatives, target_B1D),
            encoded.positives_exist_BM,
            encoded.negatives_exist_BN,
            match_positives=lambda: self.retrieval.match_each(encoded.positives, candidates),
        )

    def _total(self, means: dict[str, tf.Tensor], shares: dict[str, tf.Tensor]) -> tf.Tensor:
        """The weighted sum of the shares; stops the step, on every replica, if the means are not finite."""
        weights = {MATCHING: 1.0} | {loss.name: loss.weight for loss in self.losses_added}
        total = tf.add_n([weights[name] * mean for name, mean in means.items()])
        report: list = ["loss is not finite at step", self.optimizer.iterations + 1]
        for name, mean in means.items():
            report += [f"{name}=", mean]
        with tf.control_dependencies([tf.debugging.Assert(tf.math.is_finite(total), report)]):
            share = tf.add_n([weights[name] * share for name, share in shares.items()])
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
        return tf.stack([tf.constant(self.seed, tf.int64), number])


def _weighted(losses_B: tf.Tensor, weights_B: tf.Tensor | None) -> tf.Tensor:
    return losses_B if weights_B is None else losses_B * weights_B


def _nearest(users: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """The vector nearest to the target of each history, [..., d] or [..., I, d] -> [..., d]."""
    return users if users.shape.rank == target.shape.rank else nearest_interest(users, target)

"""CauseRec-Item, CauseRec-Interest and CauseRec-H: histories -> vectors of them and their counterfactuals.

Shapes: B examples, L history positions, d vector size, I vectors a user, U distinct items of a step, P
candidate substitutes, M counterfactual positives, N counterfactual negatives.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from causerec_tf.counterfactual import concepts
from causerec_tf.counterfactual.replacements import Replacements
from causerec_tf.counterfactual.synthesis import InterestSynthesis, ItemSynthesis
from causerec_tf.errors import InputError

# Concepts [B, L, d], target [B, d] and seed [2] -> scores [B, L]: the best half is indispensable.
ConceptScores = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]


class Histories(NamedTuple):
    """The examples of a step, as the synthesis needs them.

    Attributes:
      history_BL: int32 [B, L], item ids.
      mask_BL: bool [B, L], which are real.
      target_B: int32 [B], the target items.
      target_BD: float [B, d], their vectors.
      vectors_UD: float [U, d], the vectors of the step's distinct items.
      places_BL: int32 [B, L], where the histories' items are among these.
      candidates_P: int32 [P], the ids that `draw_candidates` gave.
      candidate_places_P: int32 [P], where these are among the distinct items.
      seed: int64 [2], of this step's draws.
    """

    history_BL: tf.Tensor
    mask_BL: tf.Tensor
    target_B: tf.Tensor
    target_BD: tf.Tensor
    vectors_UD: tf.Tensor
    places_BL: tf.Tensor
    candidates_P: tf.Tensor
    candidate_places_P: tf.Tensor
    seed: tf.Tensor


class Encoded(NamedTuple):
    """User vectors of the histories and, where there are any, of their counterfactuals.

    Attributes:
      users: float [B, d] or [B, I, d].
      positives: float [B, M, d] or [B, M, I, d].
      negatives: float [B, N, d] or [B, N, I, d].
      positives_exist_BM: bool [B, M]; where nothing could be replaced there is no counterfactual.
      negatives_exist_BN: bool [B, N].
    """

    users: tf.Tensor
    positives: tf.Tensor | None = None
    negatives: tf.Tensor | None = None
    positives_exist_BM: tf.Tensor | None = None
    negatives_exist_BN: tf.Tensor | None = None


class CounterfactualItems(tf.keras.layers.Layer):
    """CauseRec-Item: items are replaced, around any user tower."""

    def __init__(
        self,
        *,
        num_positives: int = 1,
        num_negatives: int = 8,
        replacement_rate: float = 0.5,
        memory_size: int = 65536,
        nearest_of: int = 1,
        scores: ConceptScores = concepts.scores_by_target,
    ):
        """Makes the synthesis; `ItemSynthesis` says what the sizes mean.

        Args:
          num_positives: M.
          num_negatives: N.
          replacement_rate: r_rep, in (0, 1].
          memory_size: in item ids.
          nearest_of: how many candidates the nearest substitute is chosen from; 1: any.
          scores: what tells indispensable items from dispensable ones.
        """
        super().__init__()
        self.scores = scores
        self.synthesis = ItemSynthesis(
            num_positives=num_positives,
            num_negatives=num_negatives,
            replacement_rate=replacement_rate,
            memory_size=memory_size,
            nearest_of=nearest_of,
        )

    def check(self, user_tower) -> None:
        """Any tower will do."""

    def draw_candidates(self, seed: tf.Tensor) -> tf.Tensor:
        """Draws the step's candidate substitutes from the memory, int32 [P], item ids."""
        return self.synthesis.draw_candidates(seed)

    def call(self, user_tower, step: Histories) -> Encoded:
        """Synthesises and encodes.

        Args:
          user_tower: a `towers.base.UserTower`.
          step: the histories.
        """
        changes = self.synthesise(step)
        users, others = user_tower.encode_counterfactuals(
            step.places_BL, step.mask_BL, changes.naming(step.candidate_places_P), step.vectors_UD
        )
        return Encoded(users, *_by_sign(self.synthesis, others, changes))

    def synthesise(self, step: Histories) -> Replacements:
        """What is replaced; substitutes are numbers among the candidates."""
        history_BLD, candidates_PD = (
            tf.stop_gradient(tf.gather(step.vectors_UD, places))
            for places in (step.places_BL, step.candidate_places_P)
        )
        return self.synthesis(
            step.history_BL,
            step.mask_BL,
            step.target_B,
            scores_BL=self.scores(history_BLD, step.target_BD, step.seed),
            candidates_P=step.candidates_P,
            seed=step.seed,
            history_vectors_BLD=history_BLD,
            candidate_vectors_PD=candidates_PD,
        )


class CounterfactualInterests(tf.keras.layers.Layer):
    """CauseRec-Interest: interest concepts are replaced, of a tower that reads them."""

    def __init__(
        self,
        *,
        embedding_dim: int,
        num_positives: int = 1,
        num_negatives: int = 8,
        replacement_rate: float = 0.5,
        memory_size: int = 65536,
        scores: ConceptScores = concepts.scores_by_target,
    ):
        """Makes the synthesis; `InterestSynthesis` says what the sizes mean.

        Args:
          embedding_dim: d.
          num_positives: M.
          num_negatives: N.
          replacement_rate: r_rep, in (0, 1].
          memory_size: in interests.
          scores: what tells indispensable interests from dispensable ones.
        """
        super().__init__()
        self.scores = scores
        self.synthesis = InterestSynthesis(
            num_positives=num_positives,
            num_negatives=num_negatives,
            replacement_rate=replacement_rate,
            memory_size=memory_size,
            embedding_dim=embedding_dim,
        )

    def check(self, user_tower) -> None:
        """Raises `InputError` where the tower does not read interests."""
        _check_reads_interests(self, user_tower)

    def draw_candidates(self, seed: tf.Tensor) -> tf.Tensor:
        """No items: substitutes are interests, which the memory has."""
        del seed
        return tf.zeros([0], tf.int32)

    def call(self, user_tower, step: Histories) -> Encoded:
        """Synthesises and encodes; see `CounterfactualItems`."""
        interests_BKD = user_tower.attention(tf.gather(step.vectors_UD, step.places_BL), step.mask_BL)
        interest_mask_BK = user_tower.interest_mask(step.mask_BL)
        seed = tf.random.fold_in(step.seed, 1)
        scores_BK = self.scores(interests_BKD, step.target_BD, seed)
        changes = self.synthesis(interests_BKD, interest_mask_BK[:, 0], scores_BK, seed)
        users, others = user_tower.encoder.encode_counterfactuals(interests_BKD, interest_mask_BK, changes)
        return Encoded(users, *_by_sign(self.synthesis, others, changes))


class CounterfactualHierarchy(tf.keras.layers.Layer):
    """CauseRec-H: half of the counterfactuals on each level, never both in one.

    Of an odd number the larger half goes to the items. Where items were replaced, the interests are extracted
    anew.
    """

    def __init__(
        self,
        *,
        embedding_dim: int,
        num_positives: int = 2,
        num_negatives: int = 16,
        replacement_rate: float = 0.5,
        memory_size: int = 65536,
        nearest_of: int = 1,
        scores: ConceptScores = concepts.scores_by_target,
    ):
        """Makes the syntheses.

        Args:
          embedding_dim: d.
          num_positives: M, of both levels together.
          num_negatives: N, likewise.
          replacement_rate: r_rep, in (0, 1].
          memory_size: of each level's memory, in concepts.
          nearest_of: of the items' substitutes; see `CounterfactualItems`.
          scores: what tells indispensable concepts from dispensable ones, on both levels.
        """
        super().__init__()
        both: dict[str, Any] = {
            "replacement_rate": replacement_rate,
            "memory_size": memory_size,
            "scores": scores,
        }
        counts = num_positives, num_negatives
        self.items: CounterfactualItems | None = None
        self.interests: CounterfactualInterests | None = None
        on_items = _counts((count + 1) // 2 for count in counts)
        if any(on_items.values()):
            self.items = CounterfactualItems(nearest_of=nearest_of, **on_items, **both)
        on_interests = _counts(count // 2 for count in counts)
        if any(on_interests.values()):
            self.interests = CounterfactualInterests(embedding_dim=embedding_dim, **on_interests, **both)

    def check(self, user_tower) -> None:
        """Raises `InputError` where the tower does not read interests."""
        _check_reads_interests(self, user_tower)

    def draw_candidates(self, seed: tf.Tensor) -> tf.Tensor:
        """Draws the step's candidate substitutes for items, int32 [P], item ids."""
        return tf.zeros([0], tf.int32) if self.items is None else self.items.draw_candidates(seed)

    def call(self, user_tower, step: Histories) -> Encoded:
        """Synthesises and encodes; see `CounterfactualItems`."""
        made = [one(user_tower, step) for one in (self.items, self.interests) if one is not None]
        # Both have encoded the histories, to the same vectors; what is not used is not computed.
        users, others = made[-1].users, [one[1:] for one in made]
        return Encoded(users, *(tf.concat(parts, axis=1) for parts in zip(*others, strict=True)))


def _counts(of_signs) -> dict[str, Any]:
    return dict(zip(("num_positives", "num_negatives"), of_signs, strict=True))


def _by_sign(synthesis, others: tf.Tensor, changes: Replacements) -> Sequence[tf.Tensor]:
    """Positives and negatives of [B, C, d] or [B, C, I, d], then which of both exist, taken apart at once."""
    counts = [synthesis.num_positives, synthesis.num_negatives]
    return [*tf.split(others, counts, axis=1), *tf.split(changes.exists_BC, counts, axis=1)]


def _check_reads_interests(method: tf.keras.layers.Layer, user_tower) -> None:
    if not user_tower.reads_interests:
        raise InputError(
            f"{type(method).__name__} replaces interests, and {type(user_tower).__name__} reads none: wanted"
            " InterestTower(attention, encoder), or CounterfactualItems around this tower."
        )

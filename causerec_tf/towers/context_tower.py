"""A user tower that also reads what is known beside a history: of its events, of the user, of the request.

Shapes: as in `base`; W positions and G rows of a part of a batch.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import tensorflow as tf

from causerec_tf.towers.base import Changes, UserTower


class BesideHistories(Protocol):
    """What gives the vectors that are added; `features.context` makes them."""

    knows_users: bool

    def events(self, context: Mapping[str, tf.Tensor], mask_BL: tf.Tensor) -> tf.Tensor | None:
        """What is added to the items, float32 [B, L, d]; None: nothing."""

    def users(
        self, context: Mapping[str, tf.Tensor], mask_BL: tf.Tensor, *, every_position: bool = False
    ) -> tf.Tensor | None:
        """What is added to the user vectors, float32 [B, d] or [B, L, d]; None: nothing."""


class ContextTower(UserTower):
    """Any user tower, with vectors added to what goes into it and to what comes out.

        user vectors = tower(item vectors + event vectors) + user's vector + request's vector

    Of a tower with several vectors each gets the same. For the cosine the sums are then divided by their
    length. Called without a context, all of it is missing.
    """

    def __init__(self, tower: UserTower, features, *, unit_length: bool = False, **kwargs):
        """Wraps a tower.

        Args:
          tower: one whose vectors are not of length one.
          features: a Keras layer that offers `BesideHistories`.
          unit_length: whether the vectors are made of length one.
          **kwargs: of the Keras layer.
        """
        super().__init__(**kwargs)
        self.tower = tower
        self.features = features
        self.has_unit_length = unit_length
        self.num_interests = tower.num_interests
        self.max_history = tower.max_history
        self.reads_interests = tower.reads_interests
        self.is_causal = tower.is_causal

    def build(self, input_shape) -> None:
        """Makes every weight."""
        self.tower.build(input_shape)
        self.features.build(input_shape)
        super().build(input_shape)

    def call(
        self,
        concepts_BLD: tf.Tensor,
        mask_BL: tf.Tensor,
        context: Mapping[str, tf.Tensor] | None = None,
    ) -> tf.Tensor:
        """As in `UserTower`; the context is that of `given`."""
        return self.given(context or {}, mask_BL)(concepts_BLD, mask_BL)

    @property
    def beside_histories(self) -> tf.keras.layers.Layer:
        """As in `UserTower`."""
        return self.features

    @property
    def of_histories(self) -> UserTower:
        """As in `UserTower`."""
        return self.tower

    def given(
        self, context: Mapping[str, tf.Tensor], mask_BL: tf.Tensor, *, every_position: bool = False
    ) -> "TowerInContext":
        """As in `UserTower`."""
        events_BLD = self.features.events(context, mask_BL)
        users = self.features.users(context, mask_BL, every_position=every_position)
        return TowerInContext(self.tower, events_BLD, users, unit_length=self.has_unit_length)

    def encode_every_position(self, concepts_BLD: tf.Tensor, mask_BL: tf.Tensor) -> tf.Tensor:
        """As in `UserTower`, without a context."""
        return self.given({}, mask_BL, every_position=True).encode_every_position(concepts_BLD, mask_BL)

    def encode_counterfactuals(
        self, history_BL: tf.Tensor, mask_BL: tf.Tensor, changes: Changes, vectors_UD: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """As in `UserTower`, without a context."""
        return self.given({}, mask_BL).encode_counterfactuals(history_BL, mask_BL, changes, vectors_UD)


class TowerInContext:
    """A user tower with the context of the histories of a step, which is looked up once.

    It offers what the objective and the counterfactuals ask of a `UserTower`.
    """

    def __init__(
        self,
        tower: Any,
        events_BLD: tf.Tensor | None,
        added: tf.Tensor | None,
        *,
        unit_length: bool,
    ):
        """Puts a tower and its context together.

        Args:
          tower: a `UserTower` whose vectors are not of length one.
          events_BLD: float32 [B, L, d], added to the items; a replaced item's stays with its position.
          added: float32 [B, d], added to the user vectors; [B, L, d] of a context for every position.
          unit_length: whether the sums are made of length one.
        """
        self._tower = tower
        self._events_BLD = events_BLD
        self._added = added
        self._unit_length = unit_length

    def __call__(self, concepts_BLD: tf.Tensor, mask_BL: tf.Tensor) -> tf.Tensor:
        """As in `UserTower`."""
        return self._finish(self._tower(self._with_events(concepts_BLD), mask_BL))

    def encode_places(self, places_BL: tf.Tensor, mask_BL: tf.Tensor, vectors_UD: tf.Tensor) -> tf.Tensor:
        """As in `UserTower`."""
        if self._events_BLD is None:
            return self._finish(self._tower.encode_places(places_BL, mask_BL, vectors_UD))
        return self(tf.gather(vectors_UD, places_BL), mask_BL)

    def encode_every_position(self, concepts_BLD: tf.Tensor, mask_BL: tf.Tensor) -> tf.Tensor:
        """As in `UserTower`."""
        vectors_BLD = self._tower.encode_every_position(self._with_events(concepts_BLD), mask_BL)
        if self._added is None or self._added.shape.rank == 3:
            added = 0.0 if self._added is None else self._added
            return self._to_length(vectors_BLD + added)
        return self._finish(vectors_BLD)

    def encode_counterfactuals(
        self, history_BL: tf.Tensor, mask_BL: tf.Tensor, changes: Changes, vectors_UD: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """As in `UserTower`."""
        if self._events_BLD is None:
            made = self._tower.encode_counterfactuals(history_BL, mask_BL, changes, vectors_UD)
        else:
            history_BLD = history_BL if vectors_UD is None else tf.gather(vectors_UD, history_BL)
            beside = _ChangesBesideEvents(changes, history_BL, vectors_UD, self._events_BLD)
            made = self._tower.encode_counterfactuals(self._with_events(history_BLD), mask_BL, beside)
        return tuple(self._finish(one) for one in made)

    def of_rows(self, rows_G: tf.Tensor, width: int) -> "TowerInContext":
        """As in `UserTower`."""
        events, added = self._events_BLD, self._added
        if events is not None:
            events = tf.gather(events[:, :width], rows_G)
        if added is not None:
            added = tf.gather(added[:, :width] if added.shape.rank == 3 else added, rows_G)
        return self._with(events, added)

    def at_positions(self, rows_Q: tf.Tensor, positions_Q: tf.Tensor) -> "TowerInContext":
        """As in `UserTower`."""
        events, added = self._events_BLD, self._added
        if events is not None:
            events = tf.gather(events, rows_Q)
        if added is not None:
            added = tf.gather_nd(added, tf.stack([rows_Q, positions_Q], axis=1))
        return self._with(events, added)

    def attention(self, concepts_BLD: tf.Tensor, mask_BL: tf.Tensor) -> tf.Tensor:
        """The interests of histories, of a tower that reads interests, float32 [B, K, d]."""
        return self._tower.attention(self._with_events(concepts_BLD), mask_BL)

    def interest_mask(self, mask_BL: tf.Tensor) -> tf.Tensor:
        """Which interests are real, bool [B, K]."""
        return self._tower.interest_mask(mask_BL)

    @property
    def encoder(self) -> "TowerInContext":
        """What encodes these interests; the events have been read by then."""
        return TowerInContext(self._tower.encoder, None, self._added, unit_length=self._unit_length)

    def _with(self, events: tf.Tensor | None, added: tf.Tensor | None) -> "TowerInContext":
        return TowerInContext(self._tower, events, added, unit_length=self._unit_length)

    def _with_events(self, concepts_BLD: tf.Tensor) -> tf.Tensor:
        return concepts_BLD if self._events_BLD is None else concepts_BLD + self._events_BLD

    def _finish(self, vectors: tf.Tensor) -> tf.Tensor:
        """With what is added to each user vector, float32 [B, ..., d]."""
        if self._added is not None:
            between = [1] * (vectors.shape.rank - 2)
            width = self._added.shape[1]
            vectors += tf.reshape(self._added, [-1, *between, width])
        return self._to_length(vectors)

    def _to_length(self, vectors: tf.Tensor) -> tf.Tensor:
        return tf.math.l2_normalize(vectors, axis=-1) if self._unit_length else vectors


class _ChangesBesideEvents:
    """The changes of histories to whose items the vectors of their events were added."""

    def __init__(
        self, changes: Changes, history: tf.Tensor, vectors_UD: tf.Tensor | None, events_BLD: tf.Tensor
    ):
        """Takes the changes, what they are of, and the vectors.

        Args:
          changes: of the items alone.
          history: int32 [B, L], places in `vectors_UD`; without that float [B, L, d].
          vectors_UD: float [U, d], or None.
          events_BLD: float32 [B, L, d].
        """
        self._changes, self._history, self._vectors_UD = changes, history, vectors_UD
        self._events_BLD = events_BLD

    def write_out(self, history_BLD: tf.Tensor) -> tf.Tensor:
        """As in `Changes`, of histories with their events."""
        del history_BLD  # which has the events of what is replaced in it
        written = self._changes.write_out(self._history)
        concepts_BCLD = written if self._vectors_UD is None else tf.gather(self._vectors_UD, written)
        return concepts_BCLD + self._events_BLD[:, tf.newaxis]

    def sums(
        self, concepts_BLD: tf.Tensor, mask_BL: tf.Tensor, vectors_UD: tf.Tensor | None = None
    ) -> tf.Tensor:
        """As in `Changes`; what events add to a sum is the same for each counterfactual of a history."""
        del vectors_UD
        real_BL = tf.cast(mask_BL, concepts_BLD.dtype)
        of_events_BD = tf.linalg.matvec(self._events_BLD, real_BL, transpose_a=True)
        items_BLD = concepts_BLD - self._events_BLD
        return self._changes.sums(items_BLD, mask_BL, self._vectors_UD) + of_events_BD[:, tf.newaxis]

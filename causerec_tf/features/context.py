"""What is known beside a history: of its events, of the user, of the request.

Shapes: B histories, L positions, d vector size.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import tensorflow as tf

from causerec_tf.features.sums import encoded
from causerec_tf.schema import Column

EVENT_TIMES, REQUEST_TIMES = "time", "request_time"


class ContextFeatures(tf.keras.layers.Layer):
    """The sum of the event columns for each item of a history, and of the other columns for each history.

    What a context does not have is missing.
    """

    def __init__(
        self,
        columns: Sequence[Column],
        encoders: Mapping[str, tf.keras.layers.Layer],
        missing: Mapping[str, int | float] | None = None,
        **kwargs,
    ):
        """Puts columns and encoders together.

        Args:
          columns: of users, events and requests.
          encoders: key of each column -> what encodes its stored values, int32 or float32 [N, ...], as
            float32 [N, d]; of one that is computed of times a `MomentEncoder`.
          missing: key of a column -> what is stored where it is missing, where the schema says it.
          **kwargs: of the Keras layer.
        """
        super().__init__(autocast=False, **kwargs)
        # A plain dictionary would be looked for in checkpoints.
        self._missing = MappingProxyType(dict(missing or {}))
        self.encoders = {column.key: encoders[column.key] for column in columns}
        self.columns = tuple(columns)

    def build(self, input_shape) -> None:
        """Makes every weight."""
        for encoder in self.encoders.values():
            encoder.build(None)
        super().build(input_shape)

    @property
    def has_events(self) -> bool:
        """Whether there is a column of events."""
        return any(column.owner == "event" for column in self.columns)

    @property
    def knows_users(self) -> bool:
        """Whether there is a column of the user or the request: something is known without a history."""
        return any(column.owner != "event" for column in self.columns)

    def events(self, context: Mapping[str, tf.Tensor], mask_BL: tf.Tensor) -> tf.Tensor | None:
        """Vectors beside the items of histories, once a step.

        Args:
          context: by key, int32 or float32 [B, L, ...]; times int64 [B, L] and [B].
          mask_BL: bool [B, L], which positions are real.

        Returns:
          float32 [B, L, d], 0 for padding; None if there is no column of events.
        """
        if not self.has_events:
            return None
        shape = tf.shape(mask_BL)
        given: list[tuple[Any, tuple[tf.Tensor, ...]]] = []
        for column in self._of("event"):
            if column.is_of_time:
                times_BL = _given(context, EVENT_TIMES, shape, (), tf.int64)
                request_B = _given(context, REQUEST_TIMES, shape[:1], (), tf.int64)
                given.append((self.encoders[column.key], (times_BL, request_B)))
            else:
                given.append(
                    (self.encoders[column.key], (tf.reshape(self._values(context, column, shape), [-1]),))
                )
        vectors_ND = encoded(given)
        vectors_BLD = tf.reshape(vectors_ND, [shape[0], shape[1], vectors_ND.shape[1]])
        return vectors_BLD * tf.cast(mask_BL, tf.float32)[..., tf.newaxis]

    def users(
        self, context: Mapping[str, tf.Tensor], mask_BL: tf.Tensor, *, every_position: bool = False
    ) -> tf.Tensor | None:
        """Vectors of the user and the request, once a step.

        Args:
          context: by key, int32 or float32 [B, ...]; times int64 [B]. With `every_position` what is of the
            request is [B, L, ...].
          mask_BL: bool [B, L], which positions are real.
          every_position: whether each position has a request of its own.

        Returns:
          float32 [B, d], or [B, L, d] with `every_position`; None if there is no column of either.
        """
        shape = tf.shape(mask_BL)
        total = None
        for owner, of_owner in (("user", shape[:1]), ("request", shape if every_position else shape[:1])):
            given: list[tuple[Any, tuple[tf.Tensor, ...]]] = []
            for column in self._of(owner):
                if column.is_of_time:
                    values = _given(context, REQUEST_TIMES, of_owner, (), tf.int64)
                else:
                    values = self._values(context, column, of_owner)
                given.append((self.encoders[column.key], (tf.reshape(values, [-1, *column.shape]),)))
            if not given:
                continue
            part_ND = encoded(given)
            part = part_ND
            if every_position:
                part = tf.reshape(part_ND, tf.concat([of_owner, [part_ND.shape[1]]], axis=0))
                if owner == "user":
                    part = tf.repeat(part[:, tf.newaxis], shape[1], axis=1)
            total = part if total is None else total + part
        return total

    def _of(self, owner: str) -> list[Column]:
        return [column for column in self.columns if column.owner == owner]

    def _values(self, context: Mapping[str, tf.Tensor], column: Column, shape: tf.Tensor) -> tf.Tensor:
        # A number is missing where it is not one; a vector made elsewhere where it is zeros.
        missing = self._missing.get(column.key, float("nan") if column.kind == "numeric" else 0)
        dtype = tf.int32 if column.is_integer else tf.float32
        return _given(context, column.key, shape, column.shape, dtype, missing)


def _given(
    context, key: str, shape: tf.Tensor, rest: tuple[int, ...], dtype: tf.DType, missing: int | float = 0
) -> tf.Tensor:
    """What a context has of a key, or missing values of its shape."""
    if key in context:
        return tf.cast(context[key], dtype)
    whole = tf.concat([shape, tf.constant(rest, tf.int32)], axis=0)
    values = tf.fill(whole, tf.constant(missing, dtype))
    values.set_shape([*[None] * shape.shape[0], *rest])
    return values

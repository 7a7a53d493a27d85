"""Moments and spans of time -> embeddings: the hour, the weekday, the gap before an event, its age.

Times are whole seconds since 1970-01-01, UTC; 0 stands for a time that is not known.

Shapes: B histories, L positions, d vector size.
"""

import tensorflow as tf

from causerec_tf.features.entries import Entries, rows_of, summed
from causerec_tf.features.tables import add_table

_HOUR, _DAY = 3600, 86400
_THURSDAY = 3  # of 1970-01-01, with Monday as 0
# A span of s seconds has the number of binary digits of s, at most that of 136 years.
_MOST_DIGITS = 32
# How many different moments a kind tells apart.
SIZES = {"hour": 24, "weekday": 7, "gap": _MOST_DIGITS + 1, "age": _MOST_DIGITS + 1}


class MomentEncoder(tf.keras.layers.Layer):
    """`e = T[moment]`, with the row of a moment that is not known starting at 0."""

    def __init__(self, kind: str, embedding_dim: int, *, std: float, seed: int, **kwargs):
        """Sets the table's size.

        Args:
          kind: one of `SIZES`.
          embedding_dim: d.
          std: standard deviation of the initial embeddings.
          seed: of the initial embeddings.
          **kwargs: of the Keras layer.
        """
        super().__init__(**kwargs)
        self.kind = kind
        self._embedding_dim, self._std, self._seed = embedding_dim, std, seed

    def build(self, input_shape) -> None:
        """Makes the table: a row for what is not known, and one for each moment."""
        num_rows = SIZES[self.kind] + 1
        self.table = add_table(
            self, num_rows, self._embedding_dim, num_zero=1, std=self._std, seed=self._seed
        )
        super().build(input_shape)

    def entries(self, times: tf.Tensor, request_times_B: tf.Tensor | None = None) -> Entries:
        """What times say, once a step.

        Args:
          times: int64 of any shape, N together; for a gap or an age [B, L], oldest first.
          request_times_B: int64 [B], for an age.
        """
        if self.kind == "hour":
            rows = hours(times)
        elif self.kind == "weekday":
            rows = weekdays(times)
        elif self.kind == "gap":
            rows = gaps(times)
        else:
            assert request_times_B is not None, "an age is the time to a request"
            rows = ages(times, request_times_B)
        rows_RD, places_N1 = rows_of(self.table, tf.reshape(rows, [-1, 1]))
        return Entries(rows_RD, places_N1, tf.ones_like(places_N1, tf.float32))

    def call(self, times: tf.Tensor, request_times_B: tf.Tensor | None = None) -> tf.Tensor:
        """Encodes times, as `entries` takes them -> float32 [N, d]."""
        return summed([self.entries(times, request_times_B)])


def hours(times: tf.Tensor) -> tf.Tensor:
    """1 to 24 for 0 to 23 h, 0 where the time is not known, int32 [...]."""
    return _known(times // _HOUR % 24 + 1, times != 0)


def weekdays(times: tf.Tensor) -> tf.Tensor:
    """1 for Monday to 7 for Sunday, 0 where the time is not known, int32 [...]."""
    return _known((times // _DAY + _THURSDAY) % 7 + 1, times != 0)


def gaps(times_BL: tf.Tensor) -> tf.Tensor:
    """The span since the event before, as `_span` has it, int32 [B, L]; 0 for the first of a history."""
    before_BL = tf.pad(times_BL[:, :-1], [[0, 0], [1, 0]])
    return _known(_span(times_BL - before_BL), (times_BL != 0) & (before_BL != 0))


def ages(times_BL: tf.Tensor, request_times_B: tf.Tensor) -> tf.Tensor:
    """The span from the event to the request, as `_span` has it, int32 [B, L]."""
    request_B1 = request_times_B[:, tf.newaxis]
    return _known(_span(request_B1 - times_BL), (times_BL != 0) & (request_B1 != 0))


def _span(seconds: tf.Tensor) -> tf.Tensor:
    """1 for no second or less, and 1 more for each binary digit of their number, int64 [...]."""
    powers = tf.constant([1 << digit for digit in range(_MOST_DIGITS)], tf.int64)
    digits = tf.searchsorted(powers, tf.reshape(seconds, [-1]), side="right")
    return tf.cast(tf.reshape(digits, tf.shape(seconds)), tf.int64) + 1


def _known(rows: tf.Tensor, is_known: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.where(is_known, rows, 0), tf.int32)

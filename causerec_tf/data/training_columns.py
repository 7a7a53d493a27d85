"""tf.data: the columns of users, events and requests, and times, beside the rows of a training batch."""

from typing import Any

import tensorflow as tf

from causerec_tf.data.columns.feature_records import (
    in_records,
    missing_value,
    record_features,
    values_of_users,
)
from causerec_tf.data.sequences import ITEMS_FEATURE, Dataset
from causerec_tf.data.target_counts import mean_weight
from causerec_tf.data.training_records import rows_of_entries

_USER_ROWS, _SECONDS = "user_rows", "seconds"


class ColumnsBeside:
    """What a dataset's schema has beside the histories and targets of a batch; without a schema, nothing.

    By key, of B rows and L places of a history:

      user/<name>      int32 or float32 [B, *column.shape]
      event/<name>     [B, L], beside the items of the history; missing where it is padded
      request/<name>   [B], of the target's event; of whole sequences [B, L], of each target's
      time             int64 [B, L], in seconds, 0 where it is padded, where columns are computed of times
      request_time     int64 [B], the target's event's time; of whole sequences [B, L]
      weight           float32 [B], where targets are weighted: 1 on average, and where none is known; of
                       whole sequences [B, L]

    Shapes: E events of a chunk, B rows, L places, T targets: [B], or of whole sequences [B, L].

    Attributes:
      features: what of a record is parsed beside its items.
      targets: which events may be targets, and how much they count.
    """

    def __init__(self, dataset: Dataset):
        """Reads the schema."""
        columns = in_records(dataset.schema.columns)
        self._columns = {
            owner: [column for column in columns if column.owner == owner]
            for owner in ("user", "event", "request")
        }
        self.targets = dataset.target_columns
        self._mean_weight = mean_weight(dataset) if self.targets.weight else 1.0
        self._needs_times, self._per_second = dataset.schema.needs_times, dataset.per_second
        self.features: dict[str, Any] = dict(record_features(columns))
        if self._needs_times:
            self.features["timestamps"] = ITEMS_FEATURE

    def of_chunk(self, parsed: dict[str, tf.RaggedTensor]) -> dict[str, tf.Tensor]:
        """The values of a chunk of users, and where they are: each [E] but those of users, [users, ...]."""
        found = {}
        for column in (*self._columns["event"], *self._columns["request"]):
            values = parsed[column.key].flat_values
            found[column.key] = tf.cast(values, tf.int32) if column.is_integer else values
        for column in self._columns["user"]:
            found[column.key] = values_of_users(column, parsed[column.key])
        if self._columns["user"]:
            found[_USER_ROWS] = rows_of_entries(parsed["items"])
        if self._needs_times:
            found[_SECONDS] = parsed["timestamps"].flat_values // self._per_second
        return found

    def may_be_targets(self, chunk: dict[str, tf.Tensor], positions: tf.Tensor) -> tf.Tensor:
        """Those of some events, int32 [any number], that may be targets."""
        if not self.targets.kind:
            return positions
        kinds = tf.gather(chunk[self.targets.kind], positions)
        codes = tf.constant(self.targets.codes, tf.int32)
        return tf.boolean_mask(positions, tf.reduce_any(kinds[:, tf.newaxis] == codes, axis=1))

    def of_rows(
        self,
        chunk: dict[str, tf.Tensor],
        positions: tf.Tensor,
        index: tf.Tensor,
        is_history: tf.Tensor,
        targets: tf.Tensor,
        is_target: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """The columns of some rows.

        Args:
          chunk: with what `of_chunk` gave.
          positions: int32 [B], an event of each row's user.
          index: int32 [B, L], the events of the histories.
          is_history: bool [B, L], which of them are there.
          targets: int32 [T], the targets' events.
          is_target: bool [T], which of them are there.
        """
        found = {}
        for column in self._columns["user"]:
            found[column.key] = tf.gather(chunk[column.key], tf.gather(chunk[_USER_ROWS], positions))
        for column in self._columns["event"]:
            found[column.key] = _at(chunk[column.key], index, is_history, missing_value(column))
        for column in self._columns["request"]:
            found[column.key] = _at(chunk[column.key], targets, is_target, missing_value(column))
        if self.targets.weight:
            weights = _at(chunk[self.targets.weight], targets, is_target, 0.0) / self._mean_weight
            found["weight"] = tf.where(tf.math.is_nan(weights), 1.0, weights)
        if self._needs_times:
            found["time"] = _at(chunk[_SECONDS], index, is_history, 0)
            found["request_time"] = _at(chunk[_SECONDS], targets, is_target, 0)
        return found


def _at(values: tf.Tensor, places: tf.Tensor, is_there: tf.Tensor, missing: float) -> tf.Tensor:
    found = tf.gather(values, tf.where(is_there, places, 0))
    return tf.where(is_there, found, tf.cast(missing, values.dtype))

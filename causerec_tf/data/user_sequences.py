"""The sequences of users as a dataset holds them, in memory. No TensorFlow."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from causerec_tf.data.ragged import ItemLists


@dataclass(frozen=True)
class UserSequences:
    """The sequences of some users, ragged.

    Attributes:
      user_ids: [users] object (str).
      items: int32 [events], vocabulary indices; the first item of the vocabulary is 1.
      timestamps: int64 [events].
      row_splits: int64 [users + 1]; user `u` owns the events from `row_splits[u]` on, up to but
        without `row_splits[u + 1]`.
      num_history: int64 [users], how many of the first events of each user are history, the rest being
        targets; None where the reader cuts.
      num_before_test: int64 [users], see `protocols.SplitRecords`; None as above.
      columns: of a schema, by key, as stored: of users int32 or float32 [users, *column.shape], of events and
        requests [events].
      seconds: int64 [events], the times in whole seconds, where a column of the schema is computed of times;
        else None.
      asked_at: where the histories end at a moment and not with an event: the time, in seconds, at which all
        lists are asked for; else None.
      is_target: bool [events], which events may be targets; None: every one.
    """

    user_ids: np.ndarray
    items: np.ndarray
    timestamps: np.ndarray
    row_splits: np.ndarray
    num_history: np.ndarray | None = None
    num_before_test: np.ndarray | None = None
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    seconds: np.ndarray | None = None
    asked_at: int | None = None
    is_target: np.ndarray | None = None

    def __len__(self) -> int:
        """The number of users."""
        return len(self.user_ids)

    def rows(self) -> ItemLists:
        """The items of each user, int32 [events of the user], to iterate over or to index."""
        return ItemLists(self.items, self.row_splits)

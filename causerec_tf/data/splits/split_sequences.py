"""The events of a log -> sequences, user by user and in order, split by a protocol. No TensorFlow.

Whatever engine prepares a log, these are the rules.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from causerec_tf.data import ragged
from causerec_tf.data.logs.interactions import TEST_COLUMN
from causerec_tf.data.splits.protocols import HeldOutUsers, Protocol, SplitRecords, UserEvents
from causerec_tf.data.splits.text_codes import text_codes
from causerec_tf.data.splits.user_split import place_users


@dataclass(frozen=True)
class SplitSequences:
    """All users' sequences, each user with its shard, and the records that each split has of them.

    Users are in the order of their ids' UTF-8 bytes. A user's events are in the order of time; ties
    keep the order of the log.

    Attributes:
      vocabulary: the item ids by descending training frequency, then id bytes.
      user_ids: [users] text.
      items: int32 [events], position in `vocabulary` plus 1.
      times: int64 [events].
      row_splits: int64 [users + 1]; user `u` owns the events from `row_splits[u]` on, up to but
        without `row_splits[u + 1]`.
      shard: int64 [users].
      records: split -> its records.
      columns: [events], the schema's columns of the events by their keys, as `column_values` gives them;
        without a schema none.
    """

    vocabulary: list[str]
    user_ids: list[str]
    items: np.ndarray
    times: np.ndarray
    row_splits: np.ndarray
    shard: np.ndarray
    records: Mapping[str, SplitRecords]
    columns: pl.DataFrame = field(default_factory=pl.DataFrame)

    def in_records(self, split: str) -> np.ndarray:
        """Where the events of a split's records stand among all events, int64 [events of the split]."""
        records = self.records[split]
        rows, positions = ragged.rows_and_positions(records.lengths)
        return self.row_splits[records.users[rows]] + positions


def build_sequences(
    events: pl.DataFrame, *, split_seed: int, num_shards: int, protocol: Protocol | None = None
) -> SplitSequences:
    """Orders the events user by user, splits them and numbers the items.

    Args:
      events: columns `user`, `item` and `time`, `is_test` where there are published test lists, and those
        of a schema.
      split_seed: any integer; another one puts users elsewhere.
      num_shards: number of shards of each split.
      protocol: how to split; None: by users.
    """
    item_ids, items = text_codes(events["item"])
    sequences = ordered_sequences(events.drop("item"), items, split_seed, num_shards, protocol)
    in_training = sequences.items[sequences.in_records("train")]
    ranking = rank_items(np.bincount(in_training, minlength=len(item_ids)))
    index = np.empty(len(item_ids), np.int32)
    index[ranking] = np.arange(1, len(item_ids) + 1, dtype=np.int32)
    vocabulary = [item_ids[position] for position in ranking]
    return dataclasses.replace(sequences, vocabulary=vocabulary, items=index[sequences.items])


def ordered_sequences(
    events: pl.DataFrame,
    items: np.ndarray,
    split_seed: int,
    num_shards: int,
    protocol: Protocol | None,
) -> SplitSequences:
    """`build_sequences` with the items as they are numbered already, [events], and no vocabulary."""
    user_ids, users = text_codes(events["user"])
    # A user's test list comes behind the training list, whatever its times.
    has_lists = TEST_COLUMN in events.columns
    lists = users * 2 + events[TEST_COLUMN].to_numpy() if has_lists else users
    columns = events.select(name for name in events.columns if "/" in name)
    if columns.width:
        rows = np.arange(len(items), dtype=np.uint32)
        lists, moments, rows = in_order(lists, events["time"].to_numpy(), rows)
        items, columns = items[rows], columns[rows]
    else:
        lists, moments, items = in_order(lists, events["time"].to_numpy(), items)
    users, is_test = (lists // 2, lists % 2) if has_lists else (lists, np.zeros(0, np.uint32))
    row_splits = ragged.row_splits(np.bincount(users, minlength=len(user_ids)))
    num_test = np.bincount(users[: len(is_test)][is_test == 1], minlength=len(user_ids))
    place, shard = place_users(user_ids, split_seed, num_shards)
    records = (protocol or HeldOutUsers()).records(UserEvents(moments, row_splits, place, num_test))
    return SplitSequences([], user_ids, items, moments, row_splits, shard, records, columns)


def in_order(
    users: np.ndarray, moments: np.ndarray, items: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sorts events by user, uint32 [events], then time, int64 [events]; ties keep their order."""
    first, span = int(moments.min()), int(moments.max()) - int(moments.min()) + 1
    if (int(users.max()) + 1) * span >= 1 << 63:  # as dates in nanoseconds may have it
        order = np.lexsort((moments, users))
        return users[order], moments[order], items[order]
    # User and time as one number: sorting that, with the item beside it, is several times as fast.
    key = users.astype(np.int64)
    key *= span
    key += moments - first
    frame = pl.DataFrame({"key": key, "item": items}).sort("key", maintain_order=True)
    key = frame["key"].to_numpy()
    users = (key // span).astype(np.uint32)
    moments = key % span
    moments += first
    return users, moments, frame["item"].to_numpy()


def rank_items(frequency: np.ndarray) -> np.ndarray:
    """The order of the vocabulary: by descending training frequency, [items], ties as they stand."""
    return np.argsort(-frequency, kind="stable")

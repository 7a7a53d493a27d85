"""What `dataset.json` counts, of whole sequences or of parts that are added up. No TensorFlow here."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from causerec_tf.data.ragged import row_splits
from causerec_tf.data.splits.protocols import HeldOutUsers, Protocol, SplitRecords
from causerec_tf.data.splits.split_sequences import SplitSequences
from causerec_tf.data.splits.user_split import SPLITS

LOG = "log"  # beside the splits: all users with all their events


@dataclass(frozen=True)
class Tally:
    """Counts of the records of a split, or of some of them.

    Attributes:
      users: how many, one a record.
      interactions: their events.
      repeats: events that have user, item and time of an earlier one.
      returns: events that have user and item of an earlier one.
      windows: pairs of a history and its target.
      windows_before_test: the same of the events before the targets of the test split.
      evaluation_users: users with a history and a target.
      new_users: users without a record in training.
      first_time: of their events, as the dataset has it, like `last_time`; None without users.
    """

    users: int = 0
    interactions: int = 0
    repeats: int = 0
    returns: int = 0
    windows: int = 0
    windows_before_test: int = 0
    evaluation_users: int = 0
    new_users: int = 0
    first_time: int | None = None
    last_time: int | None = None


_COUNTS = tuple(name for name, kind in Tally.__annotations__.items() if kind is int)


@dataclass(frozen=True)
class ItemCounts:
    """Counts of the items, which no part of the users knows.

    Attributes:
      in_split: split -> items that occur in its records.
      trained: items that occur in training.
      new_targets: split -> number of distinct items among its targets that training does not have, and of
        the targets that are such an item.
    """

    in_split: Mapping[str, int]
    trained: int
    new_targets: Mapping[str, tuple[int, int]]


def tally_by_split(sequences: SplitSequences) -> dict[str, Tally]:
    """Counts the records of each split, and under `LOG` all users."""
    repeats, returns = _repeats(sequences), _returns(sequences)
    in_training = np.zeros(len(sequences.user_ids), bool)
    in_training[sequences.records["train"].users] = True
    everybody = SplitRecords(np.arange(len(sequences.user_ids)), np.diff(sequences.row_splits))
    return {
        name: _tally(sequences, records, repeats, returns, in_training)
        for name, records in {**sequences.records, LOG: everybody}.items()
    }


def _tally(
    sequences: SplitSequences,
    records: SplitRecords,
    repeats: np.ndarray,
    returns: np.ndarray,
    in_training: np.ndarray,
) -> Tally:
    """Counts records; `repeats` and `returns` count the events before each, int64 [events + 1]."""
    starts = sequences.row_splits[records.users]
    ends = starts + records.lengths
    num_history, before_test = records.num_history, records.num_before_test
    has_both = records.lengths >= 2 if num_history is None else num_history >= 1
    if num_history is not None:
        has_both &= num_history < records.lengths
    return Tally(
        users=len(records.users),
        interactions=int(records.lengths.sum()),
        repeats=int((repeats[ends] - repeats[starts]).sum()),
        returns=int((returns[ends] - returns[starts]).sum()),
        windows=int((records.lengths - 1).sum()),
        windows_before_test=0 if before_test is None else int(np.maximum(before_test - 1, 0).sum()),
        evaluation_users=int(has_both.sum()),
        new_users=int((~in_training[records.users]).sum()),
        first_time=int(sequences.times[starts].min()) if len(starts) else None,
        last_time=int(sequences.times[ends - 1].max()) if len(starts) else None,
    )


def count_returns(sequences: SplitSequences) -> int:
    """How many events have user and item of an earlier one."""
    return int(_returns(sequences)[-1])


def add_up(tallies: Iterable[Tally]) -> Tally:
    """The counts of all together, of different records each."""
    parts = list(tallies)
    with_users = [part for part in parts if part.users]
    return Tally(
        **{name: sum(getattr(part, name) for part in parts) for name in _COUNTS},
        first_time=min((part.first_time for part in with_users), default=None),  # type: ignore[type-var]
        last_time=max((part.last_time for part in with_users), default=None),  # type: ignore[type-var]
    )


def count_items(events: Mapping[str, np.ndarray], targets: Mapping[str, np.ndarray]) -> ItemCounts:
    """Counts items by how often each occurs.

    Args:
      events: split -> number of events of each item in its records, int [items].
      targets: validation and test -> number of targets of each item, int [items].
    """
    is_new = events["train"] == 0
    return ItemCounts(
        {split: int(np.count_nonzero(events[split])) for split in SPLITS},
        int(np.count_nonzero(events["train"])),
        {
            split: (int(np.count_nonzero(counts[is_new])), int(counts[is_new].sum()))
            for split, counts in targets.items()
        },
    )


def items_of(sequences: SplitSequences) -> ItemCounts:
    """Counts the items of whole sequences."""
    size = len(sequences.vocabulary) + 1
    events, targets = {}, {}
    for split in SPLITS:
        items = sequences.items[sequences.in_records(split)]
        events[split] = np.bincount(items, minlength=size)
        if split != SPLITS[0]:
            targets[split] = np.bincount(items[are_targets(sequences.records[split])], minlength=size)
    return count_items(events, targets)


def are_targets(records: SplitRecords) -> np.ndarray:
    """Which events of a split's records are targets, bool [events]; where the reader cuts, none."""
    if records.num_history is None:
        return np.zeros(int(records.lengths.sum()), bool)
    starts = row_splits(records.lengths)[:-1]
    positions = np.arange(int(records.lengths.sum())) - np.repeat(starts, records.lengths)
    return positions >= np.repeat(records.num_history, records.lengths)


def describe_counts(tallies: Mapping[str, Tally], items: ItemCounts, protocol: Protocol) -> dict[str, Any]:
    """What `dataset.json` says of the tallies of each of `SPLITS` and of `LOG`, and of the items.

    Where users are held out it says what it always did.
    """

    def of(name: str, splits: Iterable[str] = SPLITS) -> dict[str, int]:
        return {split: getattr(tallies[split], name) for split in splits}

    counts: dict[str, Any] = {
        "users": of("users"),
        "interactions": of("interactions"),
        "repeats": of("repeats"),
        "items": dict(items.in_split),
        "training_windows": tallies["train"].windows,
        "evaluation_users": of("evaluation_users", SPLITS[1:]),
    }
    log = tallies[LOG]
    times = {"first_time": log.first_time, "last_time": log.last_time}
    if isinstance(protocol, HeldOutUsers):
        return {"counts": counts, **times}
    counts["windows_before_test"] = sum(tallies[split].windows_before_test for split in SPLITS)
    counts["new_in"] = {
        split: {
            "users": tallies[split].new_users,
            "items": items.new_targets[split][0],
            "targets": items.new_targets[split][1],
        }
        for split in SPLITS[1:]
    }
    counts[LOG] = {name: getattr(log, name) for name in ("users", "interactions", "repeats", "returns")}
    return {
        "num_trained_items": items.trained,
        "protocol": protocol.description(),
        "counts": counts,
        **times,
    }


def _repeats(sequences: SplitSequences) -> np.ndarray:
    """How many events before each have user, item and time of an earlier one, int64 [events + 1]."""
    users = _users(sequences)
    # Events of one user and time lie side by side; most stand alone, and need not be compared.
    tied = (users[1:] == users[:-1]) & (sequences.times[1:] == sequences.times[:-1])
    is_tied = np.append(tied, False) | np.insert(tied, 0, False)
    events = pl.DataFrame(
        {"user": users[is_tied], "time": sequences.times[is_tied], "item": sequences.items[is_tied]}
    )
    is_repeat = np.zeros(len(users), bool)
    is_repeat[is_tied] = ~events.select(pl.struct(pl.all()).is_first_distinct()).to_series().to_numpy()
    return row_splits(is_repeat)


def _returns(sequences: SplitSequences) -> np.ndarray:
    """How many events before each have user and item of an earlier one, int64 [events + 1]."""
    pairs = _users(sequences) << 32 | sequences.items
    return row_splits(~pl.Series(pairs).is_first_distinct().to_numpy())


def _users(sequences: SplitSequences) -> np.ndarray:
    """The user of each event, int64 [events]."""
    return np.repeat(np.arange(len(sequences.user_ids)), np.diff(sequences.row_splits))

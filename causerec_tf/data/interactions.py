"""A raw log -> validated, ordered and split sequences of events; `filters` stands between the two.

No TensorFlow here: whatever engine prepares a log, these are the rules. Ids are text from here on;
an integer id is its decimal text.
"""

import dataclasses
import glob
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path, PurePath
from typing import TypeVar

import numpy as np
import polars as pl

from causerec_tf.data import ragged, times
from causerec_tf.data.frames import Frame
from causerec_tf.data.json_lines import JsonLinesFile
from causerec_tf.data.log_files import LogFile, open_log_file
from causerec_tf.data.log_rows import read_rows
from causerec_tf.data.log_settings import LogSettings
from causerec_tf.data.protocols import HeldOutUsers, Protocol, SplitRecords, UserEvents
from causerec_tf.data.text_codes import text_codes
from causerec_tf.data.time_units import UnitCounts, check_one_unit, count_units
from causerec_tf.data.user_split import place_users
from causerec_tf.errors import InputError

_FILES_NAMED = 5
TEST_COLUMN = "is_test"
PathT = TypeVar("PathT", Path, str)


@dataclass(frozen=True)
class Log:
    """The rows of a log that could be read, in the order of the files.

    Attributes:
      events: columns `user` (text), `item` (text) and `time` (int64); `is_test` (bool) where published test
        lists were read beside the training lists; and those of the schema by their keys.
      time_unit: `times.AS_GIVEN`, `times.MICROSECONDS` or `times.ORDER`.
      rows_read: rows met, the bad ones included.
      skipped: reason -> number of bad rows left out for it.
      files: the names of the files, without their folders.
      test_files: the same of those with test lists.
      kind: `log` of files, `frame` of data frames, or `generated`.
      unreadable: key of a column of the schema -> values that could not be used and count as missing.
    """

    events: pl.DataFrame
    time_unit: str
    rows_read: int
    skipped: dict[str, int]
    files: tuple[str, ...]
    test_files: tuple[str, ...] = ()
    kind: str = "log"
    unreadable: Mapping[str, int] = field(default_factory=dict)


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
      columns: [events], the schema's columns of the events by their keys, as `feature_values` gives them;
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


def read_log(patterns: Sequence[str], settings: LogSettings, test_patterns: Sequence[str] = ()) -> Log:
    """Reads the files of a log, those of each glob in sorted order.

    Args:
      patterns: globs and paths.
      settings: how the files are read.
      test_patterns: the same of published test lists, which go on where the lists of `patterns` end.

    Raises:
      InputError: a file, a column or a row cannot be used; the message says where and why.
    """
    settings.roles()  # what is wrong with them is said before a file is missed
    lists = find_files(patterns)
    paths = with_test_files(lists, find_files(test_patterns))
    files = (open_log_file(path, settings.file_format, settings.header) for path in paths)
    return _read(files, [str(path) for path in paths], settings, len(lists))


def read_frame(frame: pl.DataFrame, settings: LogSettings, test: pl.DataFrame | None = None) -> Log:
    """Reads a log that is a data frame, by the rules of files; see `read_log`."""
    settings.roles()
    sources = [Frame(frame)] if test is None else [Frame(frame), Frame(test, "the data frame of test lists")]
    log = _read(sources, [one.path for one in sources], settings, 1)
    return dataclasses.replace(log, files=(), test_files=(), kind="frame")


def with_test_files(paths: Sequence[PathT], test_paths: Sequence[PathT]) -> list[PathT]:
    """The files of training lists and then those of test lists; an `InputError` if one is both."""
    lists = {Path(path).resolve() for path in paths}
    for path in test_paths:
        if Path(path).resolve() in lists:
            raise InputError(f"{path} is named as training lists and as test lists: wanted two files.")
    return list(paths) + list(test_paths)


def _read(
    files: Iterable[LogFile | JsonLinesFile | Frame],
    paths: Sequence[str],
    settings: LogSettings,
    num_lists: int,
) -> Log:
    """Reads files, of which those behind the first `num_lists` hold test lists."""
    frames: list[pl.DataFrame] = []
    notations: dict[str, str] = {}
    units: list[UnitCounts] = []
    skipped: Counter[str] = Counter()
    unreadable: Counter[str] = Counter()
    rows_read: Counter[str] = Counter()
    num_events = 0
    for number, (path, file) in enumerate(zip(paths, files, strict=True)):
        rows = read_rows(file, settings, events_above=num_events)
        rows_read[path] += rows.rows_read
        num_events += len(rows.events)
        skipped.update(rows.skipped)
        unreadable.update(rows.unreadable)
        if len(rows.events):
            notations[path] = rows.notation
            units.append(count_units(rows.events["time"], rows.notation, path))
            events = rows.events
            if num_lists < len(paths):
                events = events.with_columns(pl.lit(number >= num_lists).alias(TEST_COLUMN))
            frames.append(events)
    for some in (paths[:num_lists], paths[num_lists:]):
        if some and not any(path in notations for path in some):
            raise no_usable_rows(some, sum(rows_read[path] for path in some))
    try:
        time_unit = times.combine_notations(notations)
    except ValueError as error:
        raise InputError(str(error)) from error
    check_one_unit(units)
    if time_unit == times.MICROSECONDS:
        for place, (path_text, notation) in enumerate(notations.items()):
            if notation == times.INTEGER:
                frames[place] = in_microseconds(frames[place], path_text)
    names, events = tuple(Path(path).name for path in paths), pl.concat(frames, rechunk=True)
    read = rows_read.total()
    listed, tested = names[:num_lists], names[num_lists:]
    return Log(events, time_unit, read, dict(skipped), listed, tested, unreadable=dict(unreadable))


def no_usable_rows(paths: Sequence[Path | str], rows_read: int) -> InputError:
    """The error of a log that holds nothing to prepare."""
    found = f"{rows_read} rows, none of them usable" if rows_read else "no rows"
    more = f" and {len(paths) - _FILES_NAMED:,} more" if len(paths) > _FILES_NAMED else ""
    named = ", ".join(map(str, paths[:_FILES_NAMED])) + more
    return InputError(f"{named}: {found}; a log needs at least one.")


def find_files(patterns: Sequence[str]) -> list[Path]:
    """The files that match: pattern by pattern, sorted within one, none twice under whatever names.

    Names that begin with `_` or `.` are left out; see `with_data`.

    Raises:
      InputError: a pattern matches no file, or is a directory.
    """
    named: dict[Path, Path] = {}  # by what it is, since one file may have several names
    for pattern in patterns:
        matches = [pattern] if Path(pattern).is_file() else sorted(glob.glob(pattern))  # noqa: PTH207
        files = [Path(match) for match in matches if Path(match).is_file()]
        if not files and Path(pattern).is_dir():
            raise InputError(
                f"{pattern!r} is a directory: name its files, such as '{pattern.rstrip('/')}/*'."
            )
        if not files:
            raise InputError(f"no file matches {pattern!r}. Check the path, and quote a glob.")
        for file in with_data(files, pattern):
            named.setdefault(file.resolve(), file)
    return list(named.values())


def with_data(matches: Sequence[PathT], pattern: str) -> list[PathT]:
    """Those of the files that match a pattern, one or more, that may be of a log.

    Spark and Hadoop write others beside their data, such as `_SUCCESS`, `.part-0.crc` and `_temporary/0.csv`:
    names that begin so are meant only where the pattern has them.
    """
    asked = PurePath(pattern).parts
    left = [
        path
        for path in matches
        if not any(
            name.startswith(("_", ".")) and not name_asked.startswith(("_", "."))
            for name, name_asked in zip_longest(PurePath(path).parts, asked, fillvalue="")
        )
    ]
    if not left:
        raise InputError(
            f"{pattern!r} matches nothing but names that begin with '_' or '.', such as {str(matches[0])!r},"
            " which are no data. If they are, begin the pattern's name so."
        )
    return left


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


def in_microseconds(events: pl.DataFrame, path: str) -> pl.DataFrame:
    """Events of a file of whole seconds, in the unit of other files' decimals."""
    try:
        return events.with_columns(times.seconds_to_microseconds(events["time"]))
    except ValueError as error:
        raise InputError(f"{path} {error}") from error

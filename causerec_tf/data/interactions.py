"""A raw log -> validated, filtered, ordered and split sequences of events.

No TensorFlow here: whatever engine prepares a log, these are the rules. Ids are text from here on;
an integer id is its decimal text.
"""

import glob
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import polars as pl

from causerec_tf.data import times
from causerec_tf.data.log_files import open_log_file
from causerec_tf.data.log_rows import ROLES, read_rows
from causerec_tf.errors import InputError

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Log:
    """The rows of a log that could be read, in the order of the files.

    Attributes:
      events: columns `user` (text), `item` (text) and `time` (int64).
      time_unit: `times.AS_GIVEN` or `times.MICROSECONDS`.
      rows_read: rows met, the bad ones included.
      skipped: reason -> number of bad rows left out for it.
      files: the names of the files, without their folders.
    """

    events: pl.DataFrame
    time_unit: str
    rows_read: int
    skipped: dict[str, int]
    files: tuple[str, ...]


@dataclass(frozen=True)
class SplitSequences:
    """All users' sequences, each user with its split and shard.

    Users are in the order of their ids' UTF-8 bytes. A user's events are in the order of time; ties
    keep the order of the log.

    Attributes:
      vocabulary: the item ids by descending training frequency, then id bytes.
      user_ids: [users] text.
      items: int64 [events], position in `vocabulary` plus 1.
      times: int64 [events].
      row_splits: int64 [users + 1]; user `u` owns the events from `row_splits[u]` on, up to but
        without `row_splits[u + 1]`.
      split: int64 [users], position in `SPLITS`.
      shard: int64 [users].
    """

    vocabulary: list[str]
    user_ids: list[str]
    items: np.ndarray
    times: np.ndarray
    row_splits: np.ndarray
    split: np.ndarray
    shard: np.ndarray


def read_log(
    patterns: Sequence[str],
    *,
    file_format: str = "auto",
    columns: Sequence[str] | None = None,
    user_column: str = "user_id",
    item_column: str = "item_id",
    time_column: str = "timestamp",
    on_bad_row: str = "error",
) -> Log:
    """Reads the files of a log.

    Args:
      patterns: globs; the files of each are read in sorted order.
      file_format: `csv`, `tsv`, `jsonl`, `parquet`, or `auto`: by the files' extensions.
      columns: for files without a header, what stands in each column: `user`, `item` and `time`,
        any other name for a column to ignore.
      user_column: name of the column of user ids, where the file names its columns.
      item_column: the same for item ids.
      time_column: the same for times.
      on_bad_row: `error`, or `skip`: leave it out and count it.

    Raises:
      InputError: a file, a column or a row cannot be used; the message says where and why.
    """
    if columns is not None:
        _check_header(columns)
        roles = dict(zip(ROLES, ROLES, strict=True))
    else:
        roles = dict(zip(ROLES, (user_column, item_column, time_column), strict=True))
        if len(set(roles.values())) < len(ROLES):
            raise InputError(f"user, item and time need three different columns, got {roles}.")
    paths = find_files(patterns)
    header = tuple(columns) if columns is not None else None
    frames: list[pl.DataFrame] = []
    notations: dict[str, str] = {}
    skipped: dict[str, int] = {}
    rows_read = 0
    for path in paths:
        file = open_log_file(path, file_format, header)
        rows = read_rows(file, roles, skip_bad=on_bad_row == "skip")
        rows_read += rows.rows_read
        for reason, count in rows.skipped.items():
            skipped[reason] = skipped.get(reason, 0) + count
        if len(rows.events):
            notations[str(path)] = rows.notation
            frames.append(rows.events)
    if not frames:
        found = f"{rows_read} rows, none of them usable" if rows_read else "no rows"
        raise InputError(f"{', '.join(map(str, paths))}: {found}; a log needs at least one.")
    try:
        time_unit = times.combine_notations(notations)
    except ValueError as error:
        raise InputError(str(error)) from error
    if time_unit == times.MICROSECONDS:
        for place, (path_text, notation) in enumerate(notations.items()):
            if notation == times.INTEGER:
                frames[place] = _in_microseconds(frames[place], path_text)
    names = tuple(path.name for path in paths)
    return Log(pl.concat(frames, rechunk=True), time_unit, rows_read, skipped, names)


def find_files(patterns: Sequence[str]) -> list[Path]:
    """The files that match: pattern by pattern, sorted within one, none twice.

    Raises:
      InputError: a pattern matches no file.
    """
    paths: dict[Path, None] = {}
    for pattern in patterns:
        matches = [pattern] if Path(pattern).is_file() else sorted(glob.glob(pattern))  # noqa: PTH207
        files = [Path(match) for match in matches if Path(match).is_file()]
        if not files:
            raise InputError(f"no file matches {pattern!r}. Check the path, and quote a glob.")
        paths.update(dict.fromkeys(files))
    return list(paths)


def core_filter(events: pl.DataFrame, *, min_user_count: int = 1, min_item_count: int = 1) -> pl.DataFrame:
    """Drops rare users and items until every one that is left has enough events left.

    Args:
      events: columns `user` and `item`, and any others.
      min_user_count: least number of events of a user; repeats count.
      min_item_count: least number of events of an item.

    Raises:
      InputError: nothing is left.
    """
    for name, least in (("min_user_count", min_user_count), ("min_item_count", min_item_count)):
        if least < 1:
            raise InputError(f"{name} is {least}; it must be at least 1, which filters nothing.")
    if min_user_count == 1 and min_item_count == 1:
        return events
    users, items = _codes(events["user"])[1], _codes(events["item"])[1]
    kept = np.arange(len(events))
    while True:
        enough = (np.bincount(users[kept])[users[kept]] >= min_user_count) & (
            np.bincount(items[kept])[items[kept]] >= min_item_count
        )
        if enough.all():
            return events[kept]
        kept = kept[enough]
        if not len(kept):
            raise InputError(
                f"no user is left of {len(events)} interactions after the filters"
                f" min_user_count={min_user_count}, min_item_count={min_item_count}. Lower them."
            )


def keep_last(events: pl.DataFrame, max_user_count: int) -> pl.DataFrame:
    """Keeps of each user the last events in the order of time; of one time, the last of the log.

    Args:
      events: columns `user` and `time`, and any others.
      max_user_count: largest number of events of a user that is kept.

    Raises:
      InputError: `max_user_count` is below 1.
    """
    if max_user_count < 1:
        raise InputError(f"max_user_count is {max_user_count}; it must be at least 1.")
    users = _codes(events["user"])[1]
    order = np.lexsort((events["time"].to_numpy(), users))
    ends = np.cumsum(np.bincount(users))[users[order]]
    kept = order[ends - np.arange(len(order)) <= max_user_count]
    return events[np.sort(kept)]


def share_training_users(events: pl.DataFrame, share: float, split_seed: int) -> pl.DataFrame:
    """Drops training users so that about this share of them is left; the other splits stay whole.

    A user stays by its id and the seed alone, so that a smaller share is a subset of a larger one.

    Args:
      events: column `user`, and any others.
      share: above 0, at most 1; taken as the decimal number that it is written as.
      split_seed: the seed of `build_sequences`.

    Raises:
      InputError: `share` is out of its range, or leaves no user.
    """
    if not 0 < share <= 1:
        raise InputError(f"training_share is {share}; it must be above 0 and at most 1.")
    if share == 1:
        return events
    exact = Fraction(repr(float(share)))
    users = events["user"].unique()
    kept = [user for user in users if _is_shared(hash_user(user, split_seed)[0], exact)]
    events = events.filter(pl.col("user").is_in(kept))
    if not len(events):
        raise InputError(f"no user is left with training_share={share}. Raise it.")
    return events


def hash_user(user_id: str, split_seed: int) -> tuple[int, int]:
    """Two independent 64-bit numbers of a user: one decides the split, one the shard.

    They are the two big-endian halves of the 16-byte BLAKE2b of the id's UTF-8 bytes, keyed with
    the decimal text of the seed.
    """
    key = str(split_seed).encode("ascii")
    digest = hashlib.blake2b(user_id.encode("utf-8"), digest_size=16, key=key).digest()
    return int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:], "big")


def split_of(user_id: str, split_seed: int) -> str:
    """The split of a user, one of `SPLITS`, in shares of 8:1:1, by its id and the seed alone."""
    return SPLITS[_split_index(hash_user(user_id, split_seed)[0])]


def shard_of(user_id: str, split_seed: int, num_shards: int) -> int:
    """The shard of a user within its split, from 0."""
    return hash_user(user_id, split_seed)[1] % num_shards


def build_sequences(events: pl.DataFrame, *, split_seed: int, num_shards: int) -> SplitSequences:
    """Orders the events user by user, splits the users and numbers the items.

    Args:
      events: columns `user`, `item` and `time`.
      split_seed: any integer; another one gives another split.
      num_shards: number of shards of each split.
    """
    user_ids, users = _codes(events["user"])
    item_ids, items = _codes(events["item"])
    moments = events["time"].to_numpy()
    order = np.lexsort((moments, users))  # stable, so that ties keep the order of the log
    users, items, moments = users[order], items[order], moments[order]
    hashes = [hash_user(user_id, split_seed) for user_id in user_ids]
    split = np.array([_split_index(first) for first, _ in hashes], np.int64)
    shard = np.array([second % num_shards for _, second in hashes], np.int64)
    in_training = split[users] == 0
    frequency = np.bincount(items[in_training], minlength=len(item_ids))
    by_frequency = np.lexsort((np.arange(len(item_ids)), -frequency))
    index = np.empty(len(item_ids), np.int64)
    index[by_frequency] = np.arange(1, len(item_ids) + 1)
    row_splits = np.zeros(len(user_ids) + 1, np.int64)
    np.cumsum(np.bincount(users, minlength=len(user_ids)), out=row_splits[1:])
    vocabulary = [item_ids[position] for position in by_frequency]
    return SplitSequences(vocabulary, user_ids, index[items], moments, row_splits, split, shard)


def _split_index(number: int) -> int:
    # Compared as integers: floats would round the thresholds, each engine in its own way.
    tenths = number * 10
    return (tenths >= 8 << 64) + (tenths >= 9 << 64)


def _is_shared(number: int, share: Fraction) -> bool:
    """Whether a user with this first number is of validation or test, or in the share of training."""
    is_training = _split_index(number) == 0
    return not is_training or number * 10 * share.denominator < (8 << 64) * share.numerator


def _codes(column: pl.Series) -> tuple[list[str], np.ndarray]:
    """The distinct values in the order of their bytes, and each row's position among them."""
    distinct = column.unique().sort()
    codes = column.cast(pl.Enum(distinct)).to_physical().cast(pl.Int64)
    return distinct.to_list(), codes.to_numpy()


def _in_microseconds(events: pl.DataFrame, path: str) -> pl.DataFrame:
    try:
        return events.with_columns(times.seconds_to_microseconds(events["time"]))
    except ValueError as error:
        raise InputError(f"{path} {error}") from error


def _check_header(columns: Sequence[str]) -> None:
    for role in ROLES:
        if list(columns).count(role) != 1:
            raise InputError(
                f"columns {','.join(columns)!r} must name each of user, item and time once,"
                " in the order of the file's columns; any other name is a column to ignore."
            )
    if len(set(columns)) < len(columns):
        raise InputError(f"columns {','.join(columns)!r} name a column twice; give each its own name.")

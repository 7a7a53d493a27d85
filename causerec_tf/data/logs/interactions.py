"""A raw log, in files or frames -> validated interactions. No TensorFlow.

Ids are text from here on; an integer id is its decimal text.
"""

import dataclasses
import glob
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path, PurePath
from typing import TypeVar

import polars as pl

from causerec_tf.data.logs import times
from causerec_tf.data.logs.frames import Frame
from causerec_tf.data.logs.json_lines import JsonLinesFile
from causerec_tf.data.logs.log_files import LogFile, open_log_file
from causerec_tf.data.logs.log_rows import read_rows
from causerec_tf.data.logs.log_settings import LogSettings
from causerec_tf.data.logs.time_units import UnitCounts, check_one_unit, count_units
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


def in_microseconds(events: pl.DataFrame, path: str) -> pl.DataFrame:
    """Events of a file of whole seconds, in the unit of other files' decimals."""
    try:
        return events.with_columns(times.seconds_to_microseconds(events["time"]))
    except ValueError as error:
        raise InputError(f"{path} {error}") from error

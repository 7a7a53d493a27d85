"""Reads histories from files, row by row, in bounded memory.

JSON lines: `{"user_id": "u1", "history": ["a", "b"]}`. CSV and TSV with a header: the history in one
cell, its ids separated by spaces; a quote in a tab-separated file is a quote. Parquet: a list column, or a
string as in CSV. Ids may be strings or integers; a history may be empty, or null, which is the same.
A file without rows holds no history, whatever its columns: it may be one of many.

Where the tower reads features, they are columns named as its inputs, such as `user_age`, `request_device` and
`request_time`; one that a file does not have is missing. Features of events are rows in the history,
`{"id": "a", "rating": 4}`, or columns such as `event_rating` with a value for each item of the history.
"""

import glob
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from export.filters.expression import Expression, parse_filter, read_filter
from export.query import Event, Query
from export.store import text_files
from export.store.bundle_errors import BundleError
from export.tower_columns import ID, NO_COLUMNS, NOTHING, TIME, Given, TowerColumns

_TEXT = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".csv": ",", ".tsv": "\t"}
_PARQUET_ROWS = 8192


class HistoryRow(NamedTuple):
    """One request: where it stands, whose it is, the items, oldest first, a filter if it has one, features.

    `given` is what was found beside the ids, checked, by the tower's inputs.
    """

    where: str
    user_id: str
    history: list[Event]
    filter: Expression | None = None
    user: Mapping[str, Any] | None = None
    context: Mapping[str, Any] | None = None
    time: Any = None
    given: Given = NOTHING

    def query(self, *, exclude_seen: bool) -> Query:
        """What is asked of a retriever, without k."""
        return Query(
            self.history,
            exclude_seen=exclude_seen,
            filter=self.filter,
            user=self.user,
            context=self.context,
            time=self.time,
        )


@dataclass(frozen=True)
class Columns:
    """Names of the columns, and what stands between the ids of a history in one string.

    `filter` is that of filters in JSON, of which an empty one is none; None: no row has a filter of its own.
    """

    user: str = "user_id"
    history: str = "history"
    separator: str = " "
    filter: str | None = None

    @property
    def names(self) -> list[str]:
        """The columns that a file must have."""
        return [self.user, self.history, *([] if self.filter is None else [self.filter])]


def expand(patterns: Sequence[str]) -> list[Path]:
    """Expands globs to files: pattern by pattern, sorted within one, none twice.

    Names that begin with `_` or `.` are left out where the pattern does not have them: Spark and Hadoop write
    such files beside their data.

    Raises:
      BundleError: a pattern is empty, matches no file with data or is a directory, or a file is of no format
        that can be read.
    """
    if not patterns or not all(patterns):
        raise BundleError("The input has an empty name; give files or globs, with one comma between two.")
    named: dict[Path, Path] = {}  # by what it is, since one file may have several names
    for pattern in patterns:
        path = Path(pattern)
        names = [pattern] if path.is_file() else glob.glob(pattern, recursive=True)  # noqa: PTH207
        found = sorted(one for one in map(Path, names) if one.is_file())
        if not found and path.is_dir():
            raise BundleError(
                f"{pattern!r} is a directory: name its files, such as '{pattern.rstrip('/')}/*.parquet'."
            )
        if not found:
            raise BundleError(f"No file matches {pattern!r}.")
        with_data = [one for one in found if not _is_no_data(one, path)]
        if not with_data:
            raise BundleError(
                f"{pattern!r} matches nothing but names that begin with '_', such as {str(found[0])!r}, which"
                " are no data. If they are, begin the pattern's name so."
            )
        for path in with_data:
            named.setdefault(path.resolve(), path)
    paths = list(named.values())
    for path in paths:
        if _suffix(path) not in (*_TEXT, ".parquet"):
            raise BundleError(
                f"{path} is not {', '.join(_TEXT)} (each also .gz) or .parquet; rename or convert it."
            )
    return paths


def stem(path: Path) -> str:
    """The name of a file without what tells its format: `a` of `a.csv.gz`."""
    return path.name[: -len(path.suffix)] if path.suffix.lower() != ".gz" else Path(path.stem).stem


def read_histories(
    paths: Sequence[Path],
    columns: Columns,
    tower_columns: TowerColumns = NO_COLUMNS,
    *,
    on_bad_row: Callable[[BundleError], None] | None = None,
    on_progress: Callable[[int], None] = lambda _bytes: None,
) -> Iterator[HistoryRow]:
    """Reads the rows of all files, from `expand`, in turn.

    Args:
      paths: of the files.
      columns: names of the columns.
      tower_columns: what the tower reads beside ids.
      on_bad_row: called with the error of a row, which is then left out; None: the error is raised.
      on_progress: called with the number of bytes of the files that were read since the last call.

    Raises:
      BundleError: a column is missing, a file is damaged, or a row is bad; it names file and line.
    """
    for path in paths:
        if not path.stat().st_size:
            continue
        read = _read_parquet if _suffix(path) == ".parquet" else _read_text
        more = [column.input for column in tower_columns.columns]
        try:
            for where, fields in read(path, columns, more, on_progress):
                try:
                    if isinstance(fields, BundleError):
                        raise fields
                    yield _row(where, *fields, columns, tower_columns)
                except BundleError as error:
                    if on_bad_row is None:
                        raise
                    on_bad_row(error)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise BundleError(f"{path} cannot be read: {error}") from error


# What a reader yields: the place, and the raw values of the columns, and of further ones by name, or the
# error that stands in their stead.
_Raw = tuple[str, tuple[Sequence[Any], dict[str, Any]] | BundleError]


def _is_no_data(path: Path, pattern: Path) -> bool:
    return any(
        name.startswith("_") and not asked.startswith("_")
        for name, asked in zip_longest(path.parts, pattern.parts, fillvalue="")
    )


def _suffix(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    is_compressed_text = suffixes[-1:] == [".gz"] and suffixes[-2:-1] != [".parquet"]
    return "".join(suffixes[-2:-1] if is_compressed_text else suffixes[-1:])


def _read_text(
    path: Path, columns: Columns, more: Sequence[str], on_progress: Callable[[int], None]
) -> Iterator[_Raw]:
    kind = _TEXT[_suffix(path)]
    with text_files.opened(path) as (lines, position):
        before = 0
        is_json = kind == "jsonl"
        rows = (
            _json_rows(path, lines, columns, more) if is_json else _csv_rows(path, lines, kind, columns, more)
        )
        for row in rows:
            yield row
            on_progress(position() - before)
            before = position()


def _json_rows(path: Path, lines: Iterator[bytes], columns: Columns, more: Sequence[str]) -> Iterator[_Raw]:
    for where, row in text_files.json_rows(path, lines):
        if isinstance(row, BundleError):
            yield where, row
            continue
        missing = [name for name in columns.names if not isinstance(row, dict) or name not in row]
        if missing:
            yield where, BundleError(f"{where}: wanted an object with {' and '.join(map(repr, missing))}.")
        else:
            yield where, ([row[name] for name in columns.names], {n: row[n] for n in more if n in row})


def _csv_rows(
    path: Path, lines: Iterator[bytes], delimiter: str, columns: Columns, more: Sequence[str]
) -> Iterator[_Raw]:
    records = text_files.records(lines, delimiter)
    with_cells = (record for record in records if any(map(str.strip, record[1])) or record[2])
    number, header, problem = next(with_cells, (1, [], None))
    if not header and problem is None:
        return
    if problem is not None:  # of the header: every row would be bad
        raise BundleError(f"{path}, line {number}: {problem}.")
    _check_columns(path, header, columns)
    places = [header.index(name) for name in columns.names]
    others = {name: header.index(name) for name in more if name in header}
    for number, cells, problem in records:
        if not cells and problem is None:
            continue
        where = f"{path}, line {number}"
        if problem is None and len(cells) != len(header):
            problem = f"{len(cells)} cells, where the header has {len(header)}"
        if problem is not None:
            yield where, BundleError(f"{where}: {problem}.")
        else:
            yield where, ([cells[place] for place in places], {n: cells[p] for n, p in others.items()})


def _read_parquet(
    path: Path, columns: Columns, more: Sequence[str], on_progress: Callable[[int], None]
) -> Iterator[_Raw]:
    scan = pl.scan_parquet(path, glob=False)  # a name may look like a pattern
    total_rows = scan.select(pl.len()).collect().item()
    if not total_rows:
        return
    found = scan.collect_schema().names()
    _check_columns(path, found, columns)
    size, number = path.stat().st_size, 0
    names, others = columns.names, [name for name in more if name in found]
    selected = scan.select([*names, *(name for name in others if name not in names)])
    for frame in selected.collect_batches(chunk_size=_PARQUET_ROWS, maintain_order=True, lazy=True):
        for fields in frame.iter_rows():
            number += 1
            values = dict(zip(frame.columns, fields, strict=True)) if others else {}
            yield f"{path}, row {number}", (fields[: len(names)], {name: values[name] for name in others})
        on_progress(size * len(frame) // max(1, total_rows))


def _check_columns(path: Path, found: Sequence[str], columns: Columns) -> None:
    missing = [name for name in columns.names if name not in found]
    if missing:
        raise BundleError(
            f"{path} has no column {' and '.join(map(repr, missing))}; it has"
            f" {', '.join(map(repr, found)) or 'none'}. --user_column, --history_column and --filter_column"
            " name them."
        )


def _row(
    where: str,
    fields: Sequence[Any],
    values: dict[str, Any],
    columns: Columns,
    tower_columns: TowerColumns,
) -> HistoryRow:
    user_id, history, *filters = fields
    if history is None:
        history = []
    elif isinstance(history, str):
        history = [item for item in history.split(columns.separator) if item]
    elif not isinstance(history, list):
        raise BundleError(f"{where}: {columns.history} is {history!r:.100}; wanted a list of item ids.")
    try:
        of_filter = _filter(filters[0]) if filters else None
        if not tower_columns:
            return HistoryRow(where, _id(user_id), [_id(item) for item in history], of_filter)
        events = _events(history, values, columns, tower_columns)
        user, context = (
            {name: values.get(one.input) for name, one in tower_columns.of(owner).items() if one.kind != TIME}
            for owner in ("user", "request")
        )
        time = values.get(f"request_{TIME}")
        rows = [one if isinstance(one, Mapping) else None for one in events]
        given = tower_columns.given(user, context, time, rows if any(rows) else ())
        return HistoryRow(where, _id(user_id), events, of_filter, user, context, time, given)
    except (TypeError, ValueError) as error:
        raise BundleError(f"{where}: {error}") from None


def _events(
    history: Sequence[Any], values: dict[str, Any], columns: Columns, tower_columns: TowerColumns
) -> list[Event]:
    """The items of a history with what stands beside them, in rows or in columns of their own."""
    ids = [_id(one.get(ID) if isinstance(one, Mapping) else one) for one in history]
    beside: dict[str, Sequence[Any]] = {}
    for name, column in tower_columns.of("event").items():
        value = values.get(column.input)
        if value is None or (isinstance(value, str) and not value):
            continue
        listed = value.split(columns.separator) if isinstance(value, str) else value
        if not isinstance(listed, list) or len(listed) != len(ids):
            raise ValueError(
                f"{column.input} is {value!r:.100}; wanted a list of {len(ids)} values, one for each item."
            )
        beside[name] = listed
    events: list[Event] = []
    for place, (item, one) in enumerate(zip(ids, history, strict=True)):
        row = {**one} if isinstance(one, Mapping) else {}
        row |= {name: listed[place] for name, listed in beside.items()}
        events.append(row | {ID: item} if row else item)
    return events


def _filter(value: Any) -> Expression | None:
    """Reads the filter of a row, as text or as JSON lines have it; raises FilterError, a ValueError."""
    if isinstance(value, str):
        return read_filter(value) if value.strip() else None
    return parse_filter(value)


def _id(value: Any) -> str:
    if isinstance(value, str):
        if not text_files.is_utf_8(value):
            raise ValueError(f"{value!r:.100} is not an id; half a surrogate pair has no UTF-8.")
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise TypeError(f"{value!r:.100} is not an id; an id is a string or an integer.")

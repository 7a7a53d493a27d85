"""What one worker reads of a log at once: a range of a text file's lines, or a whole file.

A tab-separated file and JSON lines may be cut between any two lines. So may a CSV file with no quote in it;
where there is one, a line break may be part of a field, and the file is read whole. Packed files and Parquet
are read whole as well.
"""

import dataclasses
import gzip
import io
from dataclasses import dataclass, field
from typing import BinaryIO

import polars as pl

from causerec_tf.data.logs import times
from causerec_tf.data.logs.json_lines import JsonLinesFile
from causerec_tf.data.logs.log_files import SEPARATORS, LogFile, unpack_log_file
from causerec_tf.data.logs.log_records import GZIP_MAGIC, TEXT_HEAD, check_text, without_marks
from causerec_tf.data.logs.log_rows import FileRows, check_types, read_rows, read_table
from causerec_tf.data.logs.log_settings import LogSettings

_NOTATIONS = (times.INTEGER, times.DECIMAL, times.MOMENT)
_READ_AT_ONCE = 1 << 20
_FIRST_ROWS = 1000


@dataclass(frozen=True)
class Range:
    """A part of a file of a log.

    Attributes:
      file: position of the file in the log.
      path: where it is.
      file_format: one of `log_files.FORMATS`.
      header: the columns' names where the file has no header, or None.
      start: the first byte; the range owns the lines that start at this byte or behind it.
      end: the byte behind the range; None: the file is read whole.
      lines_above: lines of the file that start before the range.
      events_above: events of the log before the range, of a log whose order is that of its rows.
      is_test: whether it holds published test lists; None where the log has none.
    """

    file: int
    path: str
    file_format: str
    header: tuple[str, ...] | None
    start: int
    end: int | None
    lines_above: int = 0
    events_above: int = 0
    is_test: bool | None = None


@dataclass(frozen=True)
class Survey:
    """What has to be known of all ranges of a file before the rows of any can be read.

    Attributes:
      lines: lines that start in it.
      has_quotes: whether a range of a CSV file holds a quote, so that the file must be read whole.
      clues: how it writes times.
      usable: notations by which at least one row is usable.
      found: the names of its columns.
      missing: wanted columns that the first row does not name.
      empty: wanted columns without any value.
      rows: whether there is any row.
      with_ids: rows with a user and an item: the events of a log that has no times.
    """

    lines: int = 0
    has_quotes: bool = False
    clues: times.Clues = field(default_factory=lambda: times.Clues(None, False))
    usable: tuple[str, ...] = ()
    found: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()
    rows: bool = False
    with_ids: int = 0


def split_file(whole: Range, file: BinaryIO, size: int, range_bytes: int) -> list[Range]:
    """The ranges of a file of `size` bytes: one that is the whole file, or several of some bytes.

    Raises:
      InputError: it is text that is written in a way that is not read.
    """
    head = b"" if whole.file_format == "parquet" else file.read(TEXT_HEAD)
    if whole.file_format == "parquet" or head.startswith(GZIP_MAGIC):
        return [whole]
    check_text(whole.path, head)
    starts = list(range(0, max(size, 1), range_bytes))
    if whole.file_format in SEPARATORS:
        _header_line(file)
        # The first range has the header, whatever blank lines are above it.
        starts = [0, *(start for start in starts if start >= file.tell())]
    ends = [*starts[1:], max(size, 1)]
    return [dataclasses.replace(whole, start=start, end=end) for start, end in zip(starts, ends, strict=True)]


def survey_range(part: Range, file: BinaryIO, settings: LogSettings) -> Survey:
    """Looks a range through; `file` is open for reading.

    Raises:
      InputError: the file cannot be read. Its bad rows are left for `read_range` to find.
    """
    roles = settings.roles()
    body = _body(part, file)
    lines = body.count(b"\n") if body is not None else 0
    log_file = _open(part, file, body)
    if isinstance(log_file, LogFile) and not log_file.has_rows():
        return Survey(lines)
    is_cut_csv = body is not None and part.file_format == "csv"
    if is_cut_csv and isinstance(log_file, LogFile) and b'"' in log_file.raw:
        return Survey(has_quotes=True)
    found = log_file.column_names()
    _, table, _ = read_table(log_file, roles, skip_bad=True)
    raw = table.select(pl.col(name).alias(role) for role, name in roles.items())
    check_types(part.path, raw, roles, settings.time_format)
    has_ids = raw.select(
        pl.all_horizontal(pl.col("user", "item").cast(pl.String).fill_null("") != "")
    ).to_series()
    usable = []
    for notation in _NOTATIONS if settings.notation is None else (settings.notation,):
        for rows in (slice(0, _FIRST_ROWS), slice(0, None)):
            good = has_ids[rows]
            if settings.order == "time":
                moments, _ = times.parse_times(raw["time"][rows], notation, settings.time_format)
                good &= moments.is_not_null()
            if good.any():
                usable.append(notation)
                break
    return Survey(
        lines,
        clues=times.clues_of(raw["time"]) if settings.notation is None else times.Clues(None, False),
        usable=tuple(usable),
        found=tuple(found),
        missing=tuple(name for name in roles.values() if name not in found),
        empty=tuple(name for name in roles.values() if table[name].null_count() == len(table)),
        rows=len(table) > 0,
        with_ids=int(has_ids.sum()),
    )


def read_range(part: Range, file: BinaryIO, settings: LogSettings, notation: str) -> FileRows:
    """Reads and checks the rows of a range; `notation` is that of the whole file's times."""
    opened = _open(part, file, _body(part, file))
    return read_rows(opened, settings, notation=notation, events_above=part.events_above)


def _body(part: Range, file: BinaryIO) -> bytes | None:
    """The lines of a range; None: it is the whole file."""
    return None if part.end is None else _lines(file, part.start, part.end)


def _open(part: Range, file: BinaryIO, body: bytes | None) -> LogFile | JsonLinesFile:
    """The range as a small file, with a header where there is one."""
    if body is None:
        if part.file_format == "jsonl":  # packed, or it would be in ranges
            return JsonLinesFile(part.path, gzip.GzipFile(fileobj=file))  # type: ignore[arg-type]
        file.seek(0)
        return unpack_log_file(part.path, part.file_format, file.read(), part.header)
    if part.file_format == "jsonl":
        return JsonLinesFile(part.path, io.BytesIO(body), True, part.lines_above)
    if part.start == 0:
        body = without_marks(body)
        return LogFile(part.path, part.file_format, body, part.header, True, part.lines_above)
    if part.header is not None:
        head = SEPARATORS[part.file_format].join(part.header).encode("utf-8") + b"\n"
    else:
        head = _header_line(file)
    raw = without_marks(head + body)
    return LogFile(part.path, part.file_format, raw, None, True, part.lines_above - 1)


def _lines(file: BinaryIO, start: int, end: int) -> bytes:
    """The lines that start at a byte from `start` on and before `end`."""
    if start:
        file.seek(start - 1)
        skipped = len(_read_line(file))
        start += skipped - 1
    else:
        file.seek(0)
    if start >= end:
        return b""
    file.seek(start)
    body = file.read(end - start)
    if not body.endswith(b"\n"):
        body += _read_line(file)
    return body


def _read_line(file: BinaryIO) -> bytes:
    """Up to and with the next line break; not every file system's files have `readline`."""
    place = file.tell()
    read = []
    while chunk := file.read(_READ_AT_ONCE):
        before, found, _ = chunk.partition(b"\n")
        read.append(before + found)
        if found:
            break
    line = b"".join(read)
    file.seek(place + len(line))
    return line


def _header_line(file: BinaryIO) -> bytes:
    """The first line that is not empty, as the reader of a whole file takes it."""
    file.seek(0)
    while line := _read_line(file):
        if line.strip(b"\r\n"):
            return line
    return b"\n"

"""One file of a log -> a table of raw values, and where in the file a row stands.

The vectorised reader of Polars does the work. Where it refuses a file (a row too long, bytes that
are not UTF-8), a slow pass over the lines finds the culprits, so that they can be named or left out.
JSON lines have a reader of their own, `json_lines`.
"""

import csv
import dataclasses
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from causerec_tf.data.logs.json_lines import JsonLinesFile
from causerec_tf.data.logs.log_records import READ_ERRORS, Record, check_text, unpacked, without_marks
from causerec_tf.errors import InputError

FORMATS = ("csv", "tsv", "jsonl", "parquet")
# Layouts in which data sets are published; `public` reads them.
LAYOUTS = ("item_lists", "amazon_reviews", "comirec")
_FORMAT_OF_SUFFIX = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}
SEPARATORS = {"csv": ",", "tsv": "\t"}
_FIELD = r'(?:[^",]*|"(?:[^"]|"")*")'
_WELL_QUOTED = re.compile(rf"{_FIELD}(?:,{_FIELD})*\r?")
_NOT_UTF_8 = re.compile("[\ud800-\udfff]")  # surrogates, as which such bytes are read
# A row of nothing but separators, which Polars reads as it reads a blank line.
_ONLY_SEPARATORS = {
    "csv": re.compile(rb'(?m)^(?:"")?(?:,(?:"")?)+\r?$'),
    "tsv": re.compile(rb"(?m)^\t+\r?$"),
}


@dataclass(frozen=True)
class LogFile:
    """A csv, tsv or Parquet file of a log, its bytes unpacked.

    Attributes:
      path: where it is.
      file_format: `csv`, `tsv` or `parquet`.
      raw: its bytes, unpacked.
      header: the columns' names where the file itself has none, or None.
      is_part: whether the bytes are a part of a file, cut out between lines.
      lines_above: of a part, the file's lines before it that `raw` does not hold.
    """

    path: Path | str
    file_format: str
    raw: bytes
    header: tuple[str, ...] | None = None
    is_part: bool = False
    lines_above: int = 0

    def has_rows(self) -> bool:
        """Whether it may hold a row. What is blank does not, nor does a Parquet file of none."""
        if not self.raw or self.file_format != "parquet":
            return bool(self.raw) and not self.raw.isspace()
        return pl.scan_parquet(io.BytesIO(self.raw)).select(pl.len()).collect().item() > 0

    def column_names(self) -> list[str]:
        """The names of the columns, of a file that has rows."""
        if self.file_format == "parquet":
            return list(pl.read_parquet_schema(io.BytesIO(self.raw)))
        return self._read_csv(n_rows=0, truncate_ragged_lines=True).columns

    def table(self, columns: list[str]) -> pl.DataFrame:
        """Reads the named columns of all rows; blank lines are no rows.

        Raises:
          pl.exceptions.PolarsError: there is a row that this reader cannot take; see `unreadable`.
        """
        if self.file_format == "parquet":
            return pl.read_parquet(io.BytesIO(self.raw), columns=columns, use_pyarrow=False)
        rows = self._read_csv()
        is_blank = rows.select(pl.all_horizontal((pl.all() == "").fill_null(True))).to_series()
        if not is_blank.any():
            return rows.select(columns)
        if _ONLY_SEPARATORS[self.file_format].search(self.raw) and any(self.unreadable()):
            raise pl.exceptions.ComputeError("a row has nothing but separators")
        return rows.filter(~is_blank).select(columns)

    def place_of_row(self, row: int) -> str:
        """Where row number `row` (from 0) of `table` stands, for a message."""
        if self.file_format == "parquet":
            return f"{self.path}, row {row + 1}"
        for number, record in enumerate(self._records()):
            if number == row:
                return self.place_of_record(record)
        return f"{self.path}, row {row + 1}"

    def place_of_record(self, record: Record) -> str:
        """Where a record of a text file stands, for a message."""
        return f"{self.path}, line {record.first_line + self.lines_above}"

    def unreadable(self) -> Iterator[Record]:
        """The records that `table` cannot take, found by a slow pass over the lines."""
        if self.file_format != "parquet":
            yield from (record for record in self._records() if record.problem)

    def without(self, records: list[Record]) -> "LogFile":
        """The same file with the lines of these records blank, so that line numbers stay."""
        lines = self.raw.split(b"\n")
        for record in records:
            for number in range(record.first_line, record.last_line + 1):
                lines[number - 1] = b""
        return dataclasses.replace(self, raw=b"\n".join(lines))

    def _read_csv(self, **options) -> pl.DataFrame:
        if self.file_format == "tsv":
            options["quote_char"] = None  # a quote in a tab-separated file is a quote
        # Polars would take the number of columns from a blank line.
        raw = self.raw.lstrip(b"\r\n")
        rows = pl.read_csv(
            raw,
            separator=SEPARATORS[self.file_format],
            has_header=self.header is None,
            infer_schema=False,
            **options,
        )
        if self.header is None:
            return rows
        if rows.width != len(self.header):
            raise InputError(
                f"{self.path} has {rows.width} columns in its first row, but --columns names"
                f" {len(self.header)}: {','.join(self.header)}. Name each column; those to ignore"
                " take any name."
            )
        return rows.rename(dict(zip(rows.columns, self.header, strict=True)))

    def _records(self) -> Iterator[Record]:
        """The rows of `table`, in its order, and between them those that it cannot take."""
        lines = self.raw.split(b"\n")
        width = len(self.header) if self.header is not None else None
        yield from _scan_delimited(lines, self.file_format, width)


def open_log_file(
    path: Path, file_format: str = "auto", header: tuple[str, ...] | None = None
) -> LogFile | JsonLinesFile:
    """Settles a file's format and reads its bytes, but for JSON lines, which may be too many for that.

    `header` names the columns of a csv or tsv file without one.

    Raises:
      InputError: the file cannot be read, or its format cannot be told.
    """
    file_format = check_format(path, file_format, header)
    if file_format == "jsonl":
        return JsonLinesFile(path)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error}.") from error
    return unpack_log_file(path, file_format, raw, header)


def check_format(path: Path | str, file_format: str, header: tuple[str, ...] | None) -> str:
    """Settles a file's format, `auto` by its extension.

    Raises:
      InputError: the format cannot be told, or does not go with the names of columns.
    """
    if file_format == "auto":
        suffix = Path(str(path).lower().removesuffix(".gz")).suffix
        if suffix not in _FORMAT_OF_SUFFIX:
            raise InputError(
                f"{path}: the extension {suffix!r} does not tell the format. Say"
                f" --format={'|'.join(FORMATS)}, or how it was published: {'|'.join(LAYOUTS)}."
            )
        file_format = _FORMAT_OF_SUFFIX[suffix]
    if header is not None and file_format not in SEPARATORS:
        raise InputError(
            f"{path}: --columns names the columns of a csv or tsv file without a header, and"
            f" this is {file_format}. Use --user_column, --item_column and --time_column."
        )
    return file_format


def unpack_log_file(
    path: Path | str, file_format: str, raw: bytes, header: tuple[str, ...] | None
) -> LogFile:
    """A csv, tsv or Parquet file of a log from its bytes, gzip unpacked.

    Raises:
      InputError: the bytes are damaged, or text that is written in a way that is not read.
    """
    try:
        raw = unpacked(raw)
    except READ_ERRORS as error:
        raise InputError(f"{path} cannot be read: {error}.") from error
    if file_format != "parquet":
        check_text(path, raw)
        return LogFile(path, file_format, without_marks(raw), header)
    log_file = LogFile(path, file_format, raw, header)
    try:
        log_file.has_rows()
    except pl.exceptions.PolarsError as error:
        raise InputError(f"{path} is not a Parquet file: {error}.") from error
    return log_file


def _scan_delimited(lines: list[bytes], file_format: str, width: int | None) -> Iterator[Record]:
    """Goes through a csv or tsv file; without a `width` the first record is the header."""
    # Surrogates mark bytes that are not UTF-8 without ending the pass.
    text = [line.decode("utf-8", "surrogateescape") for line in lines]
    start = 0
    while start < len(lines):
        restart = len(lines)
        last = start
        for fields, last_line, problem in _parse(text, start, file_format):
            first, last = last + 1, last_line
            if problem is not None:
                # An open quote swallows the lines below it: only its own line is given up.
                yield Record(first, first, problem)
                restart = first
                break
            if fields in ([], [""]):
                continue
            if width is None:
                width = len(fields)
                continue
            if not any(fields):
                problem = "has nothing but separators"
            elif _NOT_UTF_8.search("".join(fields)):
                problem = "is not UTF-8"
            elif len(fields) > width:
                problem = f"has {len(fields)} fields, where {width} were wanted"
            elif file_format == "csv" and not _WELL_QUOTED.fullmatch("\n".join(text[first - 1 : last])):
                problem = "has a quote inside a field that is not quoted"
            yield Record(first, last, problem)
        start = restart


def _parse(text: list[str], start: int, file_format: str) -> Iterator[tuple[list[str], int, str | None]]:
    """Yields the fields, the number of the last line, and the problem of each record."""
    if file_format == "tsv":
        for number in range(start, len(text)):
            yield text[number].removesuffix("\r").split("\t"), number + 1, None
        return
    reader = csv.reader((text[number] + "\n" for number in range(start, len(text))), strict=True)
    try:
        for fields in reader:
            yield fields, start + reader.line_num, None
    except csv.Error as error:
        yield [], start + reader.line_num, f"is not readable as CSV ({error})"

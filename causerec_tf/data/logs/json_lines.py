"""A log of JSON lines -> a table of raw values, block by block: reviews come in files of many gigabytes.

The vectorised reader of Polars does the work. Where it refuses a block, or would make text of what is
neither text nor an integer, a slow pass over the lines of that block finds the culprits.
"""

import json
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, ClassVar

import polars as pl

from causerec_tf.data.logs.log_records import READ_ERRORS, Record, check_text, open_unpacked, without_marks
from causerec_tf.errors import InputError

_BLOCK_BYTES = 32 << 20
_LINES_SEARCHED_FOR_KEYS = 100
# The start of a value that is an array, an object, true, false, or a number that is no integer.
_NO_ID = rb"\s*:\s*(?:[\[{tf]|-?\d+[.eE])"


@dataclass(frozen=True)
class JsonLinesFile:
    """A file of JSON objects, one a line. Its bytes stay where they are.

    Attributes:
      path: where it is; packed with gzip or not.
      opened: its bytes, where they are not to be had by `path`: unpacked, open for reading, and read from
        the start each time.
      is_part: whether `opened` is a part of the file, cut out between lines.
      lines_above: of a part, the file's lines before it.
      left_out: numbers of lines that count as blank.
    """

    path: Path | str
    opened: IO[bytes] | None = None
    is_part: bool = False
    lines_above: int = 0
    left_out: frozenset[int] = frozenset()
    file_format: ClassVar[str] = "jsonl"
    header: ClassVar[None] = None

    def column_names(self) -> list[str]:
        """The keys of the first row."""
        for number, line in self._lines():
            if number - self.lines_above > _LINES_SEARCHED_FOR_KEYS:
                break
            if line.strip():
                try:
                    row = json.loads(line)
                except ValueError:
                    return []
                return list(row) if isinstance(row, dict) else []
        return []

    def keys_of(self, num_rows: int) -> list[str]:
        """The keys of the first rows, in the order in which they come up."""
        keys: dict[str, None] = {}
        for _, line in self._lines():
            if num_rows and line.strip():
                num_rows -= 1
                try:
                    row = json.loads(line)
                except ValueError:
                    continue
                keys |= dict.fromkeys(row if isinstance(row, dict) else ())
            elif not num_rows:
                break
        return list(keys)

    def table(
        self, columns: list[str], id_columns: list[str], *, stop_at_bad: bool
    ) -> tuple[pl.DataFrame, list[Record]]:
        """Reads the named columns of all rows, as text; blank lines are no rows.

        Args:
          columns: the keys to read.
          id_columns: those of them that hold a string or an integer.
          stop_at_bad: read no further than the block with the first bad line.

        Returns:
          The rows without the bad ones, and the bad ones.

        Raises:
          InputError: the file cannot be read.
        """
        schema = dict.fromkeys(columns, pl.String)
        keys = b"|".join(re.escape(json.dumps(name, ensure_ascii=False).encode()) for name in id_columns)
        no_id = re.compile(rb"(?:" + keys + rb")" + _NO_ID)
        tables: list[pl.DataFrame] = []
        bad: list[Record] = []
        for first_line, block in self._blocks():
            rows = None
            failure = None
            if not no_id.search(block):
                try:
                    rows = pl.read_ndjson(block, schema=schema)
                except pl.exceptions.PolarsError as error:
                    failure = error
            if rows is None:
                lines = block.split(b"\n")
                found = [
                    Record(number, number, problem)
                    for number, line in enumerate(lines, start=first_line)
                    if line.strip() and (problem := _problem(line, id_columns))
                ]
                if failure is not None and not found:
                    raise InputError(f"{self.path} cannot be read as JSON lines: {failure}.") from failure
                bad += found
                if bad and stop_at_bad:
                    break
                for record in found:
                    lines[record.first_line - first_line] = b""
                rows = pl.read_ndjson(b"\n".join(lines), schema=schema)
            tables.append(rows)
        return pl.concat(tables, rechunk=True) if tables else pl.DataFrame(schema=schema), bad

    def without(self, records: list[Record]) -> "JsonLinesFile":
        """The same file with the lines of these records blank."""
        return replace(self, left_out=self.left_out.union(record.first_line for record in records))

    def place_of_row(self, row: int) -> str:
        """Where row number `row` (from 0) of `table` stands, for a message."""
        rows = -1
        for number, line in self._lines():
            rows += number not in self.left_out and bool(line.strip())
            if rows == row:
                return f"{self.path}, line {number}"
        return f"{self.path}, row {row + 1}"

    def place_of_record(self, record: Record) -> str:
        """Where a record stands, for a message."""
        return f"{self.path}, line {record.first_line}"

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        for first_line, block in self._blocks():
            yield from enumerate(block.split(b"\n"), start=first_line)

    def _blocks(self) -> Iterator[tuple[int, bytes]]:
        """The file in blocks of whole lines, each with the number of its first line."""
        first_line = self.lines_above + 1
        try:
            with self._open() as file:
                while block := file.read(_BLOCK_BYTES):
                    if first_line == 1 and not self.is_part:
                        check_text(self.path, block)
                    block += file.readline()
                    yield first_line, without_marks(block)
                    first_line += block.count(b"\n")
        except READ_ERRORS as error:
            raise InputError(f"{self.path} cannot be read: {error}.") from error

    def _open(self) -> AbstractContextManager[IO[bytes]]:
        if self.opened is None:
            return open_unpacked(self.path)
        self.opened.seek(0)
        return nullcontext(self.opened)


def _problem(line: bytes, id_columns: list[str]) -> str | None:
    try:
        row = json.loads(line, parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        return "is not UTF-8"
    except ValueError as error:
        return f"is not JSON ({error})"
    if not isinstance(row, dict):
        return "is not a JSON object"
    for name in id_columns:
        value = row.get(name)
        if isinstance(value, (bool, float, list, dict)):
            return f"holds {json.dumps(value)} in column {name!r}; wanted a string or an integer"
    return None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is a word of JavaScript")

"""A log of JSON lines -> a table of raw values, block by block: reviews come in files of many gigabytes.

The vectorised reader of Polars does the work. Where it refuses a block, or would make text of what is
neither text nor an integer, a slow pass over the lines of that block finds the culprits.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import polars as pl

from causerec_tf.data.log_records import READ_ERRORS, Record, open_unpacked
from causerec_tf.errors import InputError

_BLOCK_BYTES = 32 << 20
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_LINES_SEARCHED_FOR_KEYS = 100
# The start of a value that is an array, an object, true, false, or a number that is no integer.
_NO_ID = rb"\s*:\s*(?:[\[{tf]|-?\d+[.eE])"


@dataclass(frozen=True)
class JsonLinesFile:
    """A file of JSON objects, one a line. Its bytes stay on disk.

    Attributes:
      path: where it is; packed with gzip or not.
      left_out: numbers of lines that count as blank.
    """

    path: Path
    left_out: frozenset[int] = frozenset()
    file_format: ClassVar[str] = "jsonl"
    header: ClassVar[None] = None

    def column_names(self) -> list[str]:
        """The keys of the first row."""
        for number, line in self._lines():
            if number > _LINES_SEARCHED_FOR_KEYS:
                break
            if line.strip():
                try:
                    row = json.loads(line)
                except ValueError:
                    return []
                return list(row) if isinstance(row, dict) else []
        return []

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
          InputError: the file cannot be read, or is empty.
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
                found = [record for record in _scan(lines, first_line, id_columns) if record.problem]
                if failure is not None and not found:
                    raise InputError(f"{self.path} cannot be read as JSON lines: {failure}.") from failure
                bad += found
                if bad and stop_at_bad:
                    break
                for record in found:
                    lines[record.first_line - first_line] = b""
                rows = pl.read_ndjson(b"\n".join(lines), schema=schema)
            tables.append(rows)
        table = pl.concat(tables, rechunk=True) if tables else pl.DataFrame(schema=schema)
        if not bad and not len(table):
            raise InputError(f"{self.path} is empty; a log needs at least one row.")
        return table, bad

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

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        for first_line, block in self._blocks():
            yield from enumerate(block.split(b"\n"), start=first_line)

    def _blocks(self) -> Iterator[tuple[int, bytes]]:
        """The file in blocks of whole lines, each with the number of its first line."""
        first_line = 1
        try:
            with open_unpacked(self.path) as file:
                while block := file.read(_BLOCK_BYTES):
                    block += file.readline()
                    if first_line == 1:
                        block = block.removeprefix(_BYTE_ORDER_MARK)
                    yield first_line, block
                    first_line += block.count(b"\n")
        except READ_ERRORS as error:
            raise InputError(f"{self.path} cannot be read: {error}.") from error


def _scan(lines: list[bytes], first_line: int, id_columns: list[str]) -> Iterator[Record]:
    for number, line in enumerate(lines, start=first_line):
        if line.strip():
            yield Record(number, number, _problem(line, id_columns))


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

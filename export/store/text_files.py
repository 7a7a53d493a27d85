"""Text files line by line and record by record; what is not read is refused in words."""

import csv
import gzip
import json
import re
import sys
import zlib
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal

from export.store.bundle_errors import BundleError

# Far above any history; without it one open quote would hold the rest of its file in memory.
_MOST_RECORD_BYTES = 64 << 20
_HEAD_BYTES = 1 << 13
_SEPARATOR_HINT = re.compile(rb'"?sep=.?"?[\r\n]', re.IGNORECASE)
csv.field_size_limit(sys.maxsize)  # a long history is one cell


@contextmanager
def opened(path: Path) -> Iterator[tuple[Iterator[bytes], Callable[[], int]]]:
    """Opens a text file, or with the ending .gz a compressed one.

    Yields:
      Its lines without byte order marks, and what tells how many of its bytes were read.

    Raises:
      BundleError: it cannot be read, is UTF-16, ends its lines with a bare CR, or begins with a hint for
        spreadsheets.
    """
    is_compressed = path.suffix.lower() == ".gz"
    try:
        with path.open("rb") as raw, gzip.open(raw) if is_compressed else nullcontext(raw) as stream:
            _check_head(path, stream.peek(_HEAD_BYTES))
            yield _without_marks(stream), raw.tell
    except (EOFError, OSError, UnicodeDecodeError, zlib.error) as error:
        raise BundleError(f"{path} cannot be read: {error}") from error


def records(lines: Iterator[bytes], delimiter: str) -> Iterator[tuple[int, list[str], str | None]]:
    """Reads the lines of a file of CSV, or with tabs as delimiter of lines whose quotes are quotes.

    Yields:
      Of each record the number of its first line, its cells, and what is wrong with it, or None.
    """
    quoting: Literal[0, 3] = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    again: deque[bytes] = deque()  # lines that go before the others
    record: list[bytes] = []  # the lines of the record under way
    above = 0  # the lines before it
    held = 0  # its bytes

    def following() -> Iterator[str]:
        nonlocal held
        while line := again.popleft() if again else next(lines, b""):
            record.append(line)
            held += len(line)
            if held > _MOST_RECORD_BYTES:
                raise csv.Error(f"no end within {_MOST_RECORD_BYTES:,} bytes; is a quote open?")
            # Surrogates mark bytes that are not UTF-8 without ending the pass.
            yield line.decode("utf-8", "surrogateescape")

    while True:
        try:
            for cells in csv.reader(following(), delimiter=delimiter, quoting=quoting, strict=True):
                yield above + 1, cells, None if all(map(is_utf_8, cells)) else "not UTF-8"
                above += len(record)
                record.clear()
                held = 0
            return
        except csv.Error as error:
            yield above + 1, [], f"not readable as CSV ({error})"
            # An open quote swallows the lines below it: only its own line is given up.
            above += 1
            again.extendleft(reversed(record[1:]))
            record.clear()
            held = 0


def json_rows(path: Path, lines: Iterator[bytes]) -> Iterator[tuple[str, Any]]:
    """Reads the lines of a file of JSON lines; blank ones are passed over.

    Yields:
      Of each line its place, and its value or the BundleError that stands in its stead.
    """
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            yield where, json.loads(line.decode())
        except UnicodeDecodeError as error:
            yield where, BundleError(f"{where}: not UTF-8 ({error}).")
        except (ValueError, RecursionError) as error:
            yield where, BundleError(f"{where}: not JSON ({error}).")


def is_utf_8(text: str) -> bool:
    """Whether a text can be written: half a surrogate pair has no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_head(path: Path, head: bytes) -> None:
    """Names the ways to write text that are not read."""
    # Without a mark, every other byte of Latin letters is zero.
    if head.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) or b"\0\0" in (head[:4:2], head[1:4:2]):
        raise BundleError(f"{path} is UTF-16; wanted UTF-8. Convert it with `iconv -f UTF-16 -t UTF-8`.")
    if b"\r" in head.strip() and b"\n" not in head:
        raise BundleError(
            f"{path} ends its lines with a bare CR, as old Macs did; wanted LF or CR LF. Convert it with"
            " `tr '\\r' '\\n'`."
        )
    if _SEPARATOR_HINT.match(head.removeprefix(BOM_UTF8)):
        raise BundleError(f"{path} begins with a line 'sep=', which is for spreadsheets alone. Remove it.")


def _without_marks(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Files with a byte order mark may have been joined."""
    for line in lines:
        while line.startswith(BOM_UTF8):
            line = line.removeprefix(BOM_UTF8)
        yield line

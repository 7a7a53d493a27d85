"""A record of a text log as a slow pass over its lines sees it, and the bytes of a file as they are read."""

import codecs
import gzip
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from causerec_tf.errors import InputError

# What unpacking or reading a damaged file raises.
READ_ERRORS = (OSError, EOFError, zlib.error)
GZIP_MAGIC = b"\x1f\x8b"
TEXT_HEAD = 1 << 16  # so many bytes show how a text file is written
_LINE_MARK = re.compile(rb"(?m)^(?:\xef\xbb\xbf)+")
_SEPARATOR_HINT = re.compile(rb'"?sep=.?"?[\r\n]', re.IGNORECASE)


@dataclass(frozen=True)
class Record:
    """One record of a text file, by the numbers, from 1, of its first and its last line.

    `problem` says why the vectorised reader cannot take it; a quoted field may span several lines.
    """

    first_line: int
    last_line: int
    problem: str | None


def unpacked(raw: bytes) -> bytes:
    """The bytes of a file; of one packed with gzip, told by its first bytes, what is in it."""
    return gzip.decompress(raw) if raw.startswith(GZIP_MAGIC) else raw


def open_unpacked(path: Path | str) -> IO[bytes]:
    """Opens a file for reading; one packed with gzip, told by its first bytes, gives what is in it."""
    path = Path(path)
    with path.open("rb") as file:
        is_packed = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
    return gzip.open(path, "rb") if is_packed else path.open("rb")  # type: ignore[return-value]


def check_text(path: Path | str, head: bytes) -> None:
    """Refuses a text file by its first bytes, `TEXT_HEAD` or more, unpacked.

    Raises:
      InputError: it is UTF-16, ends its lines with a bare CR, or begins with `sep=`.
    """
    head = head[:TEXT_HEAD]
    # Without a mark, every other byte of Latin letters is zero.
    is_utf_16 = head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if is_utf_16 or b"\0\0" in (head[:4:2], head[1:4:2]):
        raise InputError(f"{path} is UTF-16; wanted UTF-8. Convert it with `iconv -f UTF-16 -t UTF-8`.")
    if b"\r" in head.strip() and b"\n" not in head:
        raise InputError(
            f"{path} ends its lines with a bare CR, as old Macs did; wanted LF or CR LF. Convert it with"
            " `tr '\\r' '\\n'`."
        )
    if _SEPARATOR_HINT.match(without_marks(head)):
        raise InputError(f"{path} begins with a line 'sep=', which is for spreadsheets alone. Remove it.")


def without_marks(raw: bytes) -> bytes:
    """Text without the byte order marks at the start of its lines: files with one may be joined."""
    return _LINE_MARK.sub(b"", raw) if codecs.BOM_UTF8 in raw else raw


def read_text_lines(path: Path, errors: str = "strict") -> list[str]:
    """Reads a text file (gzip too) whole: its lines without their ends, an empty one behind the last end.

    What is not UTF-8 is an `InputError`, or with another of Python's `errors` what that makes of it.
    """
    try:
        with open_unpacked(path) as file:
            raw = file.read()
        check_text(path, raw)
        text = without_marks(raw).decode("utf-8", errors)
    except READ_ERRORS as error:
        raise InputError(f"{path} cannot be read: {error}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8: {error}.") from error
    return [line.removesuffix("\r") for line in text.split("\n")]

"""A record of a text log as a slow pass over its lines sees it, and unpacking what is packed."""

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from causerec_tf.errors import InputError

# What unpacking or reading a damaged file raises.
READ_ERRORS = (OSError, EOFError, zlib.error)
GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class Record:
    """One record of a text file.

    Attributes:
      first_line: number of its first line, from 1.
      last_line: number of its last line; a quoted field may span several.
      problem: why the vectorised reader cannot take it, or None.
    """

    first_line: int
    last_line: int
    problem: str | None


def unpacked(raw: bytes) -> bytes:
    """The bytes of a file; of one packed with gzip, told by its first bytes, what is in it.

    Raises:
      OSError: they are damaged, which EOFError and zlib.error may say as well.
    """
    return gzip.decompress(raw) if raw.startswith(GZIP_MAGIC) else raw


def open_unpacked(path: Path | str) -> IO[bytes]:
    """Opens a file for reading; one packed with gzip, told by its first bytes, gives what is in it.

    Raises:
      OSError: the file cannot be opened.
    """
    path = Path(path)
    with path.open("rb") as file:
        is_packed = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
    return gzip.open(path, "rb") if is_packed else path.open("rb")  # type: ignore[return-value]


def read_text_lines(path: Path) -> list[str]:
    """Reads a text file (gzip too) whole, for files that are small beside a log.

    Returns:
      Its lines without their ends; the last is empty where the file ends with one.

    Raises:
      InputError: the file cannot be read, or is not UTF-8.
    """
    try:
        with open_unpacked(path) as file:
            text = file.read().decode("utf-8-sig")
    except READ_ERRORS as error:
        raise InputError(f"{path} cannot be read: {error}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8: {error}.") from error
    return [line.removesuffix("\r") for line in text.split("\n")]

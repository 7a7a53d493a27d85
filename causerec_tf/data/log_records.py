"""A record of a text log as a slow pass over its lines sees it, and unpacking what is packed."""

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO

# What unpacking or reading a damaged file raises.
READ_ERRORS = (OSError, EOFError, zlib.error)
_GZIP_MAGIC = b"\x1f\x8b"


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


def open_unpacked(path: Path) -> IO[bytes]:
    """Opens a file for reading; one packed with gzip, told by its first bytes, gives what is in it.

    Raises:
      OSError: the file cannot be opened.
    """
    with path.open("rb") as file:
        is_packed = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
    return gzip.open(path, "rb") if is_packed else path.open("rb")  # type: ignore[return-value]

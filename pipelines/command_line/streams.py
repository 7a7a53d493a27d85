"""Standard output and error never decide how a script ends: what counts is what became of its work."""

import io
import os
import sys
from pathlib import Path
from typing import Any


def outlive_readers() -> None:
    r"""Lets both streams print any text, and lets the work go on where nobody reads them any more.

    A character that the terminal's encoding has not is printed as its code, `\xfc`. Of a pipe that was
    closed, as `| head` does, the rest is thrown away.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # the shell closed it, by `>&-`
            setattr(sys, name, open(os.devnull, "w", errors="backslashreplace"))  # noqa: PTH123, SIM115
            continue
        stream.flush()
        raw = _Outlet(stream.fileno(), "w", closefd=False)
        lasting = io.TextIOWrapper(
            raw if stream.write_through else io.BufferedWriter(raw),  # type: ignore[arg-type]
            encoding=stream.encoding,
            errors="backslashreplace",
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )
        setattr(sys, name, lasting)


class _Outlet(io.FileIO):
    """What a text stream writes to."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return super().write(data)


def print_to(log: Path) -> None:
    """Lets all that the process prints go to the end of a file, TensorFlow's own notes too."""
    with log.open("ab") as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())

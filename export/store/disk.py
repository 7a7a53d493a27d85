"""A full disk is told by the file or the directory that was being written."""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PROBE_BYTES = 1 << 20


@contextmanager
def full_disk_named(place: Path) -> Iterator[None]:
    """Lets the error of a full disk, or of a quota, name the file or directory that the block writes.

    The error of the system names a file that cannot be opened, but none that cannot be written on. Polars
    has the system's words in an error of its own; NumPy and ScaNN do not even say that the disk is full.
    """
    try:
        yield
    except Exception as error:
        number = full_disk(error)
        if number is not None and (getattr(error, "filename", None) or str(place) in str(error)):
            raise
        if number is None and _may_hide_it(error):
            number = _probed(place if place.is_dir() else place.parent)
        if number is None:
            raise
        raise OSError(number, os.strerror(number), str(place)) from error


def full_disk(error: Exception) -> int | None:
    """Gives the number of the system's error if the disk is full by its own words, or a quota used up."""
    numbers = (errno.ENOSPC, errno.EDQUOT)
    return next((number for number in numbers if os.strerror(number) in str(error)), None)


def _may_hide_it(error: Exception) -> bool:
    # ScaNN's error of writing is like any other of its errors; NumPy's has no number.
    return isinstance(error, RuntimeError) or (isinstance(error, OSError) and error.errno is None)


def _probed(directory: Path) -> int | None:
    """Tells by trying whether the disk lets more be written."""
    try:
        with tempfile.TemporaryFile(dir=directory) as probe:
            probe.write(bytes(_PROBE_BYTES))
    except OSError as error:
        return full_disk(error)
    return None

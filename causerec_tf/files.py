"""Files and directories come whole or not at all: each is written beside its place and renamed into it.

What is not whole yet lies in `.<name>.unfinished/` beside the place, which one process at a time has:

lock   locked by that process; the operating system unlocks it when the process ends, even if killed
new    what is being written
old    what was in the place, between two renames where one cannot do
"""

import ctypes
import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import numpy as np

from causerec_tf.errors import InputError

_ATTEMPTS = 100  # of two processes that come and go, each meets the other's end now and then
# Of Linux's fcntl.h and fs.h.
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def check_free(file: str | Path, flag: str, *, overwrite: bool) -> None:
    """Raises `InputError` where a flag's file is there and may not be replaced, or is a directory."""
    if Path(file).is_dir():
        raise InputError(f"{flag}={file} is a directory: give the name of a file.")
    if Path(file).exists() and not overwrite:
        raise InputError(f"{file} exists: choose another {flag}, or add --overwrite.")


def check_output(directory: str | Path, *, marker: str, overwrite: bool) -> None:
    """Raises `InputError` where a directory may not be replaced; a link stands for what it points to.

    What has no `marker`, a file that is in every directory of its kind, is never replaced.
    """
    directory = Path(directory)
    if not directory.exists():
        return
    if not overwrite:
        raise InputError(
            f"{directory} exists already. Choose another --output, or replace it with --overwrite."
        )
    if not (directory / marker).is_file():
        raise InputError(
            f"{directory} exists and has no {marker}, so it is nothing that --overwrite replaces. Choose"
            " another --output, or remove it yourself."
        )


@contextmanager
def directory_written_beside(directory: str | Path, *, marker: str, overwrite: bool) -> Iterator[Path]:
    """Gives a new directory to write in, which takes its place when the block ends well; see `check_output`.

    Whatever ends the block otherwise, nothing of it is left, and what was in its place stays. What a kill
    left is cleared by the next one for the same place. Where the place is a link, all of this happens where
    it points to, and the link stays. On Linux a directory is replaced in one step, so that a reader finds the
    old one or the new one; elsewhere there is none for a moment.

    Raises:
      InputError: something is there that may not be replaced, or another process is writing it.
    """
    directory = Path(directory).resolve()
    with _unfinished_beside(directory) as own, _full_disk_named(directory):
        check_output(directory, marker=marker, overwrite=overwrite)
        (own / "new").mkdir()
        yield own / "new"
        check_output(directory, marker=marker, overwrite=overwrite)  # it may have appeared meanwhile
        if not directory.exists():
            (own / "new").rename(directory)
        elif not _exchanged(own / "new", directory):
            directory.rename(own / "old")
            (own / "new").rename(directory)


@contextmanager
def file_written_beside(path: Path) -> Iterator[Path]:
    """Gives a path to write a file at, which takes its place when the block ends well.

    Whatever ends the block otherwise, nothing of it is left, and what was in its place stays. Directories
    that are missing are made.

    Raises:
      InputError: another process is writing it.
    """
    with _unfinished_beside(path) as own, _full_disk_named(path):
        yield own / "new"
        (own / "new").replace(path)


def write_text(path: Path, text: str) -> None:
    """Writes text as UTF-8, so that no reader meets half of it."""
    with file_written_beside(path) as beside:
        beside.write_text(text, encoding="utf-8")


def write_json(path: Path, value: dict) -> None:
    """Writes JSON as `write_text` does; a value that is not finite is an error."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays as a compressed .npz, as `write_text` writes text; no pickle is needed to read it."""
    with file_written_beside(path) as beside, beside.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def read_json(path: Path) -> dict:
    """Reads what `write_json` wrote."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}. Remove it, and make it again.") from error
    if not isinstance(value, dict):
        raise InputError(f"{path} holds {type(value).__name__}, wanted a JSON object: it is no record.")
    return value


@contextmanager
def _full_disk_named(path: Path) -> Iterator[None]:
    """Lets the error of a full disk name what was being written: by itself it names what cannot be opened."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT) and error.filename is None:
            error.filename = str(path)
        raise


@contextmanager
def only_one(lock_file: Path, busy: str) -> Iterator[None]:
    """Lets one process at a time do something; another one gets an `InputError` that says `busy`.

    The lock file is made, with its directory, and may be removed by the process that has it.
    """
    try:
        lock = _locked(lock_file)
    except BlockingIOError as error:
        raise InputError(busy) from error
    with lock:
        yield


def _locked(lock_file: Path) -> IO[str]:
    """Locks a file until it is closed, or the process ends; `export.store.housekeeping` has the same."""
    for attempts_left in reversed(range(_ATTEMPTS)):
        try:
            lock_file.parent.mkdir(parents=True, exist_ok=True)
            lock = lock_file.open("w")
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(lock_file.stat(), os.fstat(lock.fileno())):  # or it was taken away
                return lock
        except (FileNotFoundError, FileExistsError):  # another process is taking it away
            if not attempts_left:
                raise
    raise BlockingIOError


@contextmanager
def _unfinished_beside(place: Path) -> Iterator[Path]:
    """Gives an empty directory beside a place, on the same file system, as long as this process writes it."""
    own = place.with_name(f".{place.name}.unfinished")
    busy = f"another process is writing {place}. Wait until it has ended, or choose another place."
    with only_one(own / "lock", busy):
        try:
            _clear(own, place)
            yield own
        finally:
            _clear(own, place)
            (own / "lock").unlink()
            with suppress(OSError):  # another process has begun in it
                own.rmdir()


def _clear(own: Path, place: Path) -> None:
    """Puts back what was taken away for something that did not come, then removes the rest."""
    if (own / "old").exists() and not place.exists():
        (own / "old").rename(place)
    for path in (own / "new", own / "old"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _exchanged(one: Path, other: Path) -> bool:
    """Lets two directories change places in one step; False where the system or the disk has no such step."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    if renameat2 is None:
        return False
    paths = (_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other))
    return renameat2(*paths, _RENAME_EXCHANGE) == 0

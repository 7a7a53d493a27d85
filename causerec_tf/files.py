"""Files and directories come whole or not at all: each is written beside its place and renamed into it."""

import errno
import fcntl
import glob
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from causerec_tf.errors import InputError


def check_free(file: str | Path, flag: str, *, overwrite: bool) -> None:
    """Checks that no file is replaced that may not be.

    Args:
      file: to be written.
      flag: that names it, such as `--output`.
      overwrite: whether one that is there may be replaced.

    Raises:
      InputError: something is there and may not be replaced, or is a directory.
    """
    if Path(file).is_dir():
        raise InputError(f"{flag}={file} is a directory: give the name of a file.")
    if Path(file).exists() and not overwrite:
        raise InputError(f"{file} exists: choose another {flag}, or add --overwrite.")


def check_output(directory: str | Path, *, marker: str, overwrite: bool) -> None:
    """Checks that no directory is replaced that may not be.

    Args:
      directory: where it shall be; a link stands for what it points to.
      marker: a file that is in every directory of its kind; what has it not is never replaced.
      overwrite: whether one of its kind may be replaced.

    Raises:
      InputError: something is there that may not be replaced.
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
    """Gives a new directory to write in, which takes its place when the block ends well.

    Whatever ends the block otherwise, nothing of it is left, and what was in its place stays. What a kill
    left is cleared by the next one for the same place. Where the place is a link, all of this happens where
    it points to, and the link stays.

    Args:
      directory: the place; see `check_output` for the rest.
      marker: a file that is in every directory of its kind.
      overwrite: whether one of its kind may be replaced.

    Raises:
      InputError: something is there that may not be replaced.
    """
    directory = Path(directory).resolve()
    _clear_after_kills(directory)
    check_output(directory, marker=marker, overwrite=overwrite)
    directory.parent.mkdir(parents=True, exist_ok=True)
    beside = directory.with_name(f".{directory.name}.partial-{os.getpid()}")
    beside.mkdir()
    with _locked(beside), _full_disk_named(directory):
        try:
            yield beside
            check_output(directory, marker=marker, overwrite=overwrite)  # it may have appeared meanwhile
            _move(beside, directory)
        finally:
            shutil.rmtree(beside, ignore_errors=True)


@contextmanager
def file_written_beside(path: Path) -> Iterator[Path]:
    """Gives a path to write a file at, which takes its place when the block ends well.

    Whatever ends the block otherwise, nothing of it is left, and what was in its place stays.

    Args:
      path: the place; a file that is there is replaced.
    """
    beside = path.with_name(f".{path.name}.tmp")
    try:
        with _full_disk_named(path):
            yield beside
            beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


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
    """Reads what `write_json` wrote.

    Raises:
      InputError: it cannot be read, or is no JSON object.
    """
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
def _locked(directory: Path) -> Iterator[None]:
    """Holds a directory's lock, which ends with the process, even if killed.

    Raises:
      BlockingIOError: another process has it.
    """
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _clear_after_kills(directory: Path) -> None:
    """Removes what processes that live no longer began beside a place, and puts back what they took away."""
    begun = sorted(directory.parent.glob(f".{glob.escape(directory.name)}.partial-*"))
    for beside in begun:
        try:
            with _locked(beside):
                shutil.rmtree(beside)
        except BlockingIOError:
            return  # its process lives, and may be between the two renames
    for old in sorted(directory.parent.glob(f".{glob.escape(directory.name)}.old-*")):
        if directory.exists():
            # A link that was moved away is no directory to empty: what it points to is not ours.
            old.unlink() if old.is_symlink() else shutil.rmtree(old)
        else:
            old.rename(directory)


def _move(beside: Path, directory: Path) -> None:
    if not directory.exists():
        beside.rename(directory)
        return
    old = directory.with_name(f".{directory.name}.old-{os.getpid()}")
    directory.rename(old)
    try:
        beside.rename(directory)
    except BaseException:
        old.rename(directory)
        raise
    shutil.rmtree(old)

"""A directory is written beside its place and renamed into it when it is whole."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from causerec_tf.errors import InputError


def check_output(directory: str | Path, *, marker: str, overwrite: bool) -> None:
    """Checks that a directory may be written.

    Args:
      directory: where it shall be.
      marker: a file that is in every directory of its kind; what has it not is never replaced.
      overwrite: whether one of its kind may be replaced.

    Raises:
      InputError: something is there that may not be replaced.
    """
    directory = Path(directory)
    file = next((parent for parent in directory.parents if parent.exists() and not parent.is_dir()), None)
    if file is not None:
        raise InputError(f"{directory} cannot be made, since {file} is a file. Choose another --output.")
    if not os.path.lexists(directory):
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
def written_beside(directory: str | Path, *, marker: str, overwrite: bool) -> Iterator[Path]:
    """Gives a new directory to write in, which takes its place when the block ends well.

    Whatever ends the block otherwise, nothing of it is left, and what was in its place stays.

    Args:
      directory: the place; see `check_output` for the rest.
      marker: a file that is in every directory of its kind.
      overwrite: whether one of its kind may be replaced.

    Raises:
      InputError: something is there that may not be replaced.
    """
    directory = Path(directory).absolute()
    check_output(directory, marker=marker, overwrite=overwrite)
    directory.parent.mkdir(parents=True, exist_ok=True)
    beside = directory.with_name(f".{directory.name}.partial-{os.getpid()}")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        beside.mkdir()
        yield beside
        check_output(directory, marker=marker, overwrite=overwrite)  # it may have appeared meanwhile
        _move(beside, directory)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


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

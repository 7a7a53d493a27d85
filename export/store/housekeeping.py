"""One writer at a time, and the removal of what a bundle no longer keeps."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from export.store.bundle_errors import BundleError
from export.store.disk import full_disk_named
from export.store.layout import (
    ATTRIBUTES_FOLDER,
    INDEXES_FOLDER,
    TOWERS_FOLDER,
    attribute_numbers,
    attributes_directory,
    beside,
    index_directory,
    left_aside,
    read_tower,
    tower_directory,
    tower_numbers,
)

# Versions that stay in a bundle unless the caller says otherwise, the newest included.
VERSIONS_KEPT = 3
_ATTEMPTS = 100  # of two processes that come and go, each meets the other's end now and then


@contextmanager
def only_one(lock_file: Path, does: str) -> Iterator[None]:
    """Lets one process at a time do something, such as "publishing into bundles/shop".

    The lock file is made with its directory, and stays unless `remove_locked` takes it away.

    Raises:
      BundleError: another process is at it.
    """
    try:
        lock = _locked(lock_file)
    except BlockingIOError as error:
        raise BundleError(f"Another process is {does}; wait until it has ended.") from error
    with lock:
        yield


def _locked(lock_file: Path) -> IO[str]:
    """Locks a file until it is closed, or the process ends; `causerec_tf.files` has the same."""
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


def remove_locked(directory: Path, lock_file: Path) -> None:
    """Removes a directory with the lock in it that this process holds; the lock last, or others would begin.

    What cannot be removed stays.
    """
    for path in directory.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        elif path != lock_file:
            path.unlink(missing_ok=True)
    lock_file.unlink(missing_ok=True)
    with suppress(OSError):  # another process has begun in it
        directory.rmdir()


@contextmanager
def locked(bundle: Path) -> Iterator[None]:
    """Lets one process at a time change the bundle, and clears away what a killed one left."""
    for part in (TOWERS_FOLDER, INDEXES_FOLDER):
        (bundle / part).mkdir(parents=True, exist_ok=True)
    with only_one(bundle / ".lock", f"publishing into {bundle}"):
        _clear(bundle)
        try:
            with full_disk_named(bundle):
                yield
        finally:
            _clear(bundle)


def collect(
    bundle: Path, keep: int, number: int, fingerprint: str, *, dry_run: bool
) -> tuple[list[int], list[str]]:
    """Removes towers beyond the last `keep`, then the indexes that no tower names.

    The newest tower is that of the number and the fingerprint, which a dry run has not published.

    Returns:
      The numbers and the fingerprints that were removed, or would be.
    """
    numbers = sorted({*tower_numbers(bundle), number})
    old = numbers[:-keep]
    named = {fingerprint} | {version_of(bundle, one) for one in numbers[-keep:] if one != number}
    unnamed = _unnamed_indexes(bundle, named)
    if not dry_run:
        for one in old:
            _remove(tower_directory(bundle, one))
        for name in unnamed:
            _remove(index_directory(bundle, name))
    return old, unnamed


def collect_attributes(bundle: Path, keep: int) -> None:
    """Removes the attributes of items beyond the last `keep`."""
    for number in attribute_numbers(bundle)[:-keep]:
        _remove(attributes_directory(bundle, number))


def version_of(bundle: Path, number: int) -> str | None:
    """Gives the fingerprint of a published tower; None for one that was not made here."""
    try:
        return read_tower(tower_directory(bundle, number))["version"]
    except BundleError:
        return None


def _unnamed_indexes(bundle: Path, named: set[str | None]) -> list[str]:
    """Lists the indexes that no tower names; none while a tower does not say which is its own."""
    indexes = bundle / INDEXES_FOLDER
    if None in named or not indexes.is_dir():
        return []
    names = {one.name for one in indexes.iterdir() if one.is_dir() and not one.name.startswith(".")}
    return sorted(names - named)


def _remove(directory: Path) -> None:
    # Out of sight first: nobody may find a directory of which half is gone.
    hidden = beside(directory, "removing")
    directory.rename(hidden)
    shutil.rmtree(hidden)


def _clear(bundle: Path) -> None:
    for part in (TOWERS_FOLDER, INDEXES_FOLDER, ATTRIBUTES_FOLDER):
        for left in left_aside(bundle / part):
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left)
            else:
                left.unlink()

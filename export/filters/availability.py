"""Ids of items that are out: a text file with an id a line, followed while it is replaced.

Every process that answers looks at the file as it answers: so all of them, and those that start later, leave
the same items out, and no version of the bundle changes. Who writes the file himself does so beside it and
renames; `change` does.
"""

import fcntl
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from export.store.bundle_errors import BundleError
from export.store.disk import full_disk_named
from export.store.layout import to_disk

# Between two looks at the file.
_LOOK_SECONDS = 0.1
MOST_BYTES = 1 << 30


@dataclass(frozen=True, eq=False)
class OutItems:
    """What a file said at one time; `by_catalogue` keeps what was made of it for each catalogue."""

    ids: frozenset[str] = frozenset()
    by_catalogue: WeakKeyDictionary[Any, Any] = field(default_factory=WeakKeyDictionary)


class Availability:
    """Follows the file of items that are out."""

    def __init__(self, path: Path | None, on_failure: Callable[[Exception], None] = lambda _error: None):
        """Reads the file, which may not be there yet; None: nothing is ever out.

        Raises:
          BundleError: it cannot be read. Later `on_failure` is told so, and what was read last goes on.
        """
        self.path, self._on_failure = path, on_failure
        self._reading = threading.Lock()
        self._stamp: tuple[int, ...] | None = None
        self._looked = -float("inf")
        self._out = OutItems()
        if path is not None and path.exists():
            self._read(path)

    def now(self) -> OutItems:
        """What is out by the file as it was a moment ago."""
        path = self.path
        if path is None or time.monotonic() - self._looked < _LOOK_SECONDS:
            return self._out
        if self._reading.acquire(blocking=False):  # one looks for all
            try:
                if path.exists() or self._stamp is not None:
                    self._read(path)
            except (OSError, BundleError) as error:
                self._on_failure(error)
            finally:
                self._looked = time.monotonic()
                self._reading.release()
        return self._out

    def change(self, add: Iterable[str] = (), remove: Iterable[str] = ()) -> int:
        """Replaces the file by one with more or fewer ids, one process at a time; gives how many are out.

        Raises:
          BundleError: an id cannot be a line of the file, or the file cannot be read.
          OSError: it cannot be written.
        """
        assert self.path is not None
        add, remove = list(add), list(remove)
        for item in [*add, *remove]:
            check_id(item)
        path = self.path
        lock = path.with_name(f".{path.name}.lock")
        with full_disk_named(path), lock.open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            ids = dict.fromkeys(_read_ids(path) if path.exists() else ())
            ids |= dict.fromkeys(add)
            for item in remove:
                ids.pop(item, None)
            made = path.with_name(f".{path.name}.made")
            made.write_bytes("".join(f"{item}\n" for item in ids).encode())
            to_disk(made)
            made.replace(path)
            to_disk(path.parent)
        self._looked = -float("inf")
        return len(ids)

    def _read(self, path: Path) -> None:
        about = path.stat()
        stamp = (about.st_mtime_ns, about.st_ino, about.st_size)
        if stamp != self._stamp:
            self._out = OutItems(frozenset(_read_ids(path)))
            self._stamp = stamp


def check_id(item: str) -> None:
    """Raises BundleError where an id cannot be a line of a file."""
    try:
        if item and "\n" not in item and len(item.encode()) <= 1 << 16:
            return
    except UnicodeEncodeError:
        pass
    raise BundleError(f"{item!r:.100} is no item's id; wanted one line of text that has a UTF-8.")


def read_id_list(path: Path) -> list[str]:
    """Reads ids, one a line; empty lines are passed over. Raises BundleError."""
    try:
        return _read_ids(path)
    except OSError as error:
        raise BundleError(
            f"{path} cannot be read ({error}); wanted a text file with an id a line."
        ) from error


def _read_ids(path: Path) -> list[str]:
    if path.stat().st_size > MOST_BYTES:
        raise BundleError(f"{path} has more than {MOST_BYTES:,} bytes; wanted a text file with an id a line.")
    try:
        lines = path.read_bytes().decode().split("\n")
    except UnicodeDecodeError as error:
        raise BundleError(f"{path} is not UTF-8 ({error}); wanted an id a line.") from error
    return [text for line in lines if (text := line.removesuffix("\r"))]

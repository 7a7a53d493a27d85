"""Where things lie in a bundle, and how a finished directory gets there.

    <bundle>/user_tower/<number>/        a SavedModel; the highest number is served
    <bundle>/item_index/<fingerprint>/   the index that belongs to it
    <bundle>/item_attributes/<number>/   what filters read; the highest number is used, with every version
    <bundle>/unavailable.txt             ids of items that are out

Each has a list of its files' SHA-256 (`export.store.checksums`).

A name that starts with a dot is never read: it is work in progress or what that left (`beside`), or somebody
else's.
"""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from export.store.bundle_errors import BundleError
from export.store.descriptions import FINGERPRINT, POSITIVE, read_description, whole

TOWERS_FOLDER = "user_tower"
INDEXES_FOLDER = "item_index"
ATTRIBUTES_FOLDER = "item_attributes"
UNAVAILABLE_FILE = "unavailable.txt"
# TensorFlow Serving is told to serve the directory of towers under its own name.
MODEL_NAME = TOWERS_FOLDER
# TensorFlow Serving reads its warm-up file from here and ignores what else lies in it.
TOWER_EXTRA = "assets.extra"
TOWER_WARM_UP = f"{TOWER_EXTRA}/tf_serving_warmup_requests"
TOWER_DESCRIPTION = "tower.json"
TOWER_VOCABULARY = "assets/item_ids.txt"
# TensorFlow Serving loads no tower whose warm-up file has more requests; a history makes three, one for each
# signature.
MOST_WARM_UP_REQUESTS = 1_000
MOST_WARM_UP_HISTORIES = MOST_WARM_UP_REQUESTS // 3
WARM_UP_HISTORIES = 20  # unless the caller says otherwise
_TOWER = {
    "version": FINGERPRINT,
    "items": POSITIVE,
    "dimension": whole(1, 1 << 16),
    "vectors_per_user": whole(1, 1 << 12),
    "max_history": whole(1, 1_000_000),
}
_OPTIONAL = {
    "origin": whole(0, (1 << 63) - 1),  # of a copy
    "columns": ("a list", lambda one: isinstance(one, list)),
}
Read = TypeVar("Read")
# Why a directory of ours stands beside its place, under a name that is never read.
Aside = Literal["building", "copying", "damaged", "exporting", "parts", "relabelling", "removing", "updating"]


def tower_directory(bundle: Path, number: int) -> Path:
    """The SavedModel of one published version."""
    return bundle / TOWERS_FOLDER / str(number)


def index_directory(bundle: Path, fingerprint: str) -> Path:
    """The index of the towers that answer this version."""
    return bundle / INDEXES_FOLDER / fingerprint


def attributes_directory(bundle: Path, number: int) -> Path:
    """What filters read, as it was written under a number."""
    return bundle / ATTRIBUTES_FOLDER / str(number)


def tower_numbers(bundle: Path) -> list[int]:
    """The published version numbers, ascending; none when the bundle does not exist.

    A number with zeros before it, which no publication writes, is none: `tower_directory` would not find it.
    """
    return _numbers(bundle / TOWERS_FOLDER)


def attribute_numbers(bundle: Path) -> list[int]:
    """The numbers of the attributes that are there, ascending; none where filters have nothing to read."""
    return _numbers(bundle / ATTRIBUTES_FOLDER)


def _numbers(folder: Path) -> list[int]:
    if not folder.is_dir():
        return []
    names = [entry.name for entry in folder.iterdir() if entry.is_dir()]
    return sorted(int(name) for name in names if re.fullmatch(r"0|[1-9][0-9]*", name))


def written_in(bundle: Path) -> tuple[Path, ...]:
    """The directories in which a publication makes something."""
    return (bundle, bundle / TOWERS_FOLDER, bundle / INDEXES_FOLDER)


def check_name(directory: Path, flag: str = "--bundle") -> None:
    """Raises BundleError where TensorFlow would take the path of a SavedModel below for a pattern.

    So would Beam that of a file below. `causerec_tf.checkpoints.check_name`, which nothing here may know,
    says what comes of it.
    """
    if found := sorted(set("*?[\\") & set(str(directory.absolute()))):
        raise BundleError(
            f"{flag}={directory} lies at {directory.absolute()}, and TensorFlow takes {' '.join(found)} for a"
            " pattern of file names. Choose a path without that."
        )


def check_place(bundle: Path) -> None:
    """Raises BundleError unless a bundle is there or can be made there.

    What starts with a dot counts for nothing.
    """
    check_name(bundle)
    there = next((place for place in [bundle, *bundle.parents] if place.exists()), bundle)
    if there.exists() and not there.is_dir():
        raise BundleError(f"{there} is a file; a bundle is a directory. Give another --bundle.")
    if there != bundle or any((bundle / part).is_dir() for part in (TOWERS_FOLDER, INDEXES_FOLDER)):
        return
    others = sorted(entry.name for entry in bundle.iterdir() if not entry.name.startswith("."))
    if others:
        raise BundleError(
            f"{bundle} is not a bundle: it has no {TOWERS_FOLDER} and holds {others[0]!r}. Give an empty"
            " directory, or one that does not exist, as --bundle."
        )


def resolve_number(bundle: Path, number: int | None) -> int:
    """Gives the number of the tower to load: the latest, or the one asked for.

    Raises:
      BundleError: there is no such tower, or none at all, or none can be there.
    """
    check_name(bundle)
    numbers = tower_numbers(bundle)
    if not numbers:
        raise BundleError(
            f"{bundle} is not a bundle: {bundle / TOWERS_FOLDER} holds no version. export/bundle.py"
            " makes one."
        )
    if number is not None and number not in numbers:
        raise BundleError(f"{bundle} has no version {number}; it has {numbers}.")
    return numbers[-1] if number is None else number


def newest(bundle: Path, read: Callable[[Path], Read]) -> Read:
    """Reads the directory of the latest tower; of the one that came instead if it is removed meanwhile."""
    while True:
        directory = tower_directory(bundle, resolve_number(bundle, None))
        try:
            return read(directory)
        except (OSError, BundleError):
            if directory.is_dir():
                raise


def read_tower(directory: Path) -> dict[str, Any]:
    """Reads a tower's description: version, items, dimension, vectors_per_user, max_history, and its columns.

    Raises:
      BundleError: it is missing, has changed, or is none.
    """
    return read_description(directory, f"{TOWER_EXTRA}/{TOWER_DESCRIPTION}", _TOWER, _OPTIONAL)


def beside(place: Path, aside: Aside) -> Path:
    """Where a tower or an index lies before it has its name, or after it lost it."""
    return place.with_name(f".{aside}-{place.name}")


def left_aside(directory: Path) -> list[Path]:
    """Lists what lies in a directory under a name that `beside` gives."""
    return [path for aside in get_args(Aside) for path in directory.glob(f".{aside}-*")]


def commit(made: Path, place: Path) -> None:
    """Makes a finished directory, with its checksums, appear whole under its name, which must not exist.

    Everything in it reaches the disk before the rename does, so that what is found after a power
    cut is complete.
    """
    for path in [*made.rglob("*"), made]:
        to_disk(path)
    made.rename(place)
    to_disk(place.parent)


def link_or_copy(source: Path | str, target: Path | str) -> None:
    """Gives a file a second name, or copies it where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def to_disk(path: Path) -> None:
    """Waits until a file or a directory would survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""The ids of an index's rows, and names for people: text files, a line for each row."""

from collections.abc import Sequence
from pathlib import Path

from export.store import checksums
from export.store.bundle_errors import BundleError
from export.store.foreign import loading

IDS_FILE = "ids.txt"
NAMES_FILE = "names.txt"


def check_ids(item_ids: Sequence[str]) -> None:
    """Raises BundleError unless the ids can be lines of a file and each is there once."""
    for number, item_id in enumerate(item_ids):
        # A carriage return at the end would be lost: TensorFlow takes it for a part of the line's.
        if not item_id or "\n" in item_id or item_id.endswith("\r"):
            raise BundleError(
                f"Item id number {number + 1} is {item_id!r}; an id in a bundle is not empty,"
                " holds no newline and does not end in a carriage return. Rename it in the log."
            )
    if len(set(item_ids)) != len(item_ids):
        raise BundleError("item_ids holds an id twice; every item needs its own.")


def write_labels(directory: Path, item_ids: Sequence[str], item_names: Sequence[str] | None) -> None:
    """Writes ids that `check_ids` takes, and names, in which a newline becomes a space."""
    (directory / IDS_FILE).write_bytes(lines_of(item_ids))
    if item_names is not None:
        (directory / NAMES_FILE).write_bytes(lines_of([name.replace("\n", " ") for name in item_names]))


def lines_of(values: Sequence[str]) -> bytes:
    """A line for each value."""
    return "".join(f"{value}\n" for value in values).encode()


def read_labels(directory: Path, num_rows: int) -> tuple[list[str], list[str] | None]:
    """Reads the ids and the names of an index; raises BundleError unless each row has one."""
    item_ids, item_names = read_ids(directory), read_names(directory)
    for what, lines in (("ids", item_ids), ("names", item_names)):
        if lines is not None and len(lines) != num_rows:
            raise BundleError(f"{directory} has {len(lines)} {what} for {num_rows} items; publish again.")
    return item_ids, item_names


def read_ids(directory: Path) -> list[str]:
    """Reads the R ids of an index; raises BundleError unless they are as they were published."""
    return _read_lines(directory, IDS_FILE)


def read_names(directory: Path) -> list[str] | None:
    """Reads the R names of an index as `read_ids` does, or None when it was saved without."""
    return _read_lines(directory, NAMES_FILE) if NAMES_FILE in checksums.recorded(directory) else None


def _read_lines(directory: Path, name: str) -> list[str]:
    data = checksums.read(directory, name)
    with loading(directory / name):
        return data.decode().split("\n")[:-1]

"""SHA-256 of every file of a published directory, in a list that `sha256sum -c SHA256SUMS` reads.

The list has each file but itself, and no other file may lie there: so a damaged list is noticed, too.
"""

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path

from export.store.bundle_errors import BundleError

CHECKSUMS = "SHA256SUMS"
_MOST_BYTES = 1 << 20
# No part starts with a dot, so that no name is absolute, leads upwards or is hidden.
_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.-]*)*"
_LINE = re.compile(rf"([0-9a-f]{{64}})  ({_NAME})")


def inside(directory: Path, name: str) -> Path:
    """Gives the path of a file that something in a published directory names, relative to it.

    Raises:
      BundleError: the name, or a link on its way, leads out of the directory or out of the bundle.
    """
    if not re.fullmatch(_NAME, name):
        raise BundleError(f"{directory} names the file {name!r:.100}; wanted one in it. Publish again.")
    path = directory / name
    _check_links(directory, path)
    return path


def read(directory: Path, name: str, most_bytes: int | None = None) -> bytes:
    """Reads a file of a published directory as it was published.

    Raises:
      BundleError: it cannot be read, is larger than `most_bytes`, or has changed.
    """
    path = inside(directory, name)
    data = _read(path, most_bytes)
    if hashlib.sha256(data).hexdigest() != recorded(directory).get(name):
        raise _changed(path)
    return data


def recorded(directory: Path) -> dict[str, str]:
    """Gives each file's SHA-256 when the directory was published; raises BundleError without a whole list."""
    path = inside(directory, CHECKSUMS)
    if not path.exists():
        raise BundleError(
            f"{directory} has no {CHECKSUMS}: it is damaged, or of an earlier version; publish the run again "
            "with export/bundle.py."
        )
    lines = _read(path, _MOST_BYTES).decode("ascii", "replace").split("\n")
    matches = [_LINE.fullmatch(line) for line in lines[:-1]]
    sums = {match[2]: match[1] for match in matches if match}
    if len(sums) != len(matches) or lines[-1]:
        raise BundleError(f"{path} is damaged; publish again.")
    return sums


def verify(directory: Path) -> None:
    """Compares every file of a published directory with its recorded SHA-256.

    Raises:
      BundleError: a file has changed, is missing, was not published, or is a link out of the bundle.
    """
    sums = recorded(directory)
    for name in sorted(_files(directory) ^ sums.keys()):
        what = "cannot be read (it is missing)" if name in sums else "was not published with the others"
        raise BundleError(f"{directory / name} {what}; publish again.")
    for name, digest in sums.items():
        if sha256(directory / name) != digest:
            raise _changed(directory / name)


def write(directory: Path, known: Mapping[str, str]) -> None:
    """Records the files of a directory that is about to be published.

    `known` has the SHA-256 of files that were taken over from another version, as they were published: what
    has been damaged since must not be taken for whole here.
    """
    sums = {name: known.get(name) or sha256(directory / name) for name in sorted(_files(directory))}
    path = directory / CHECKSUMS
    path.unlink(missing_ok=True)  # it may be a link to that of another version
    path.write_text("".join(f"{digest}  {name}\n" for name, digest in sums.items()), encoding="ascii")


def sha256(path: Path) -> str:
    """Hashes a file; raises BundleError when it cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise BundleError(f"{path} cannot be read ({error}); publish again.") from error


def _read(path: Path, most_bytes: int | None) -> bytes:
    try:
        with path.open("rb") as stream:
            data = stream.read(-1 if most_bytes is None else most_bytes + 1)
    except OSError as error:
        raise BundleError(f"{path} cannot be read ({error}); publish again.") from error
    if most_bytes is not None and len(data) > most_bytes:
        raise BundleError(f"{path} has more than the {most_bytes:,} bytes that it may have; publish again.")
    return data


def _files(directory: Path) -> set[str]:
    """Names all files but hidden ones, which are others', and the list itself."""
    names = set()
    for place, directories, files in os.walk(directory):
        for name in [*directories, *files]:
            _check_links(directory, Path(place) / name)
        names |= {(Path(place) / name).relative_to(directory).as_posix() for name in files if name[0] != "."}
    return names - {CHECKSUMS}


def _check_links(directory: Path, path: Path) -> None:
    bundle = os.path.realpath(directory.absolute().parent.parent)
    if not Path(os.path.realpath(path)).is_relative_to(bundle):
        raise BundleError(f"{path} is a link out of the bundle {bundle}; put the file itself there.")


def _changed(path: Path) -> BundleError:
    return BundleError(f"{path} has changed since it was published; publish again.")

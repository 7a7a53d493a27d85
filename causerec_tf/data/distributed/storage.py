"""Files on whatever file system Beam knows: paths as they are, or `gs://`, `s3://`, `hdfs://` and so on."""

import io
import pickle
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import polars as pl
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from causerec_tf.data.dataset_files import INFO_FILE
from causerec_tf.data.logs.interactions import find_files, with_data
from causerec_tf.errors import InputError
from causerec_tf.files import directory_written_beside

# Beam would unpack by the extension.
_AS_IT_IS = {"mime_type": "application/octet-stream", "compression_type": CompressionTypes.UNCOMPRESSED}


def is_remote(path: str) -> bool:
    """Whether a path is not one of the operating system's."""
    return "://" in path


def find(patterns: Sequence[str]) -> list[str]:
    """The files that match, in the order of `interactions.find_files`.

    Raises:
      InputError: a pattern matches no file, or none that may be of a log.
    """
    named: dict[str, str] = {}  # by what it is, since one file may have several names
    for pattern in patterns:
        if is_remote(pattern):
            matches = sorted(match.path for match in FileSystems.match([pattern])[0].metadata_list)
            if not matches:
                raise InputError(f"no file matches {pattern!r}. Check the path, and quote a glob.")
            named |= {path: path for path in with_data(matches, pattern)}
        else:
            for path in find_files([pattern]):
                named.setdefault(str(path.resolve()), str(path))
    return list(named.values())


def size(path: str) -> int:
    """Bytes of a file."""
    if not is_remote(path):
        return Path(path).stat().st_size
    return FileSystems.match([path])[0].metadata_list[0].size_in_bytes


def open_file(path: str):
    """A file to read bytes from, at any place."""
    return FileSystems.open(path, **_AS_IT_IS)


def create(path: str):
    """A file to write bytes to; on object stores it appears when it is closed."""
    return FileSystems.create(path, **_AS_IT_IS)


def read(path: str) -> bytes:
    """All bytes of a file."""
    with open_file(path) as file:
        return file.read()


def write(path: str, data: bytes) -> None:
    """Writes a file at once."""
    with create(path) as file:
        file.write(data)


def load(path: str) -> list:
    """What a pipeline of this preparation left for the next one."""
    return pickle.loads(read(path))


def read_frame(path: str) -> pl.DataFrame:
    """What `pack` made, from a file."""
    return unpack(read(path))


def pack(frame: pl.DataFrame) -> bytes:
    """A table as bytes."""
    buffer = io.BytesIO()
    frame.write_ipc(buffer, compression="lz4")
    return buffer.getvalue()


def unpack(data: bytes) -> pl.DataFrame:
    """The table that `pack` took."""
    return pl.read_ipc(io.BytesIO(data))


def attempt(folder: str, name: str) -> str:
    """A name that no other attempt at the same piece of work writes to: a runner may repeat one."""
    return f"{folder}/{name}-{uuid.uuid4().hex}"


def remove_folder(path: str) -> None:
    """Removes a folder and all that is in it."""
    if not is_remote(path):
        shutil.rmtree(path)
        return
    # With the slash, object stores take it for a folder.
    FileSystems.delete([path + "/"])


@contextmanager
def place(output: str, overwrite: bool) -> Iterator[str]:
    """Where to write: beside a directory of the operating system, else in the place itself."""
    if not is_remote(output):
        with directory_written_beside(output, marker=INFO_FILE, overwrite=overwrite) as beside:
            yield str(beside)
        return
    folder = output.rstrip("/")
    check_remote_output(folder, overwrite)
    try:
        yield folder
    except BaseException:
        remove_folder(f"{folder}/work")
        raise


def check_remote_output(place: str, overwrite: bool) -> None:
    """Checks that a dataset may be written to a path that is none of the operating system's.

    With `overwrite`, the dataset that is there stops being one: its `dataset.json` is deleted.
    """
    marker = f"{place}/{INFO_FILE}"
    if not FileSystems.exists(marker):
        return
    if not overwrite:
        raise InputError(f"{place} exists already. Choose another --output, or replace it with --overwrite.")
    FileSystems.delete([marker])

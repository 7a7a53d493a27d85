"""Writes vectors for other stores: Parquet, and an array of the same rows as .npy, in bounded memory.

The inner product of a user's vector and an item's is the retriever's score.
Shape legend: N rows, d embedding size.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import polars as pl

from export.batch.unfinished import unfinished_beside
from export.store.bundle_errors import BundleError
from export.store.disk import full_disk_named
from export.store.layout import to_disk

VECTOR, NORM = "vector", "norm"


class VectorWriter:
    """Writes rows of ids with `vector` float32 [d] and its Euclidean length `norm`, a block at a time.

    As a context manager it leaves whole files under their names, or, after an exception, none.
    """

    def __init__(self, path: Path, *, overwrite: bool, npy: bool, about: Mapping[str, str]):
        """Checks that the files can be written.

        Args:
          path: of the Parquet file.
          overwrite: replace what is there.
          npy: write the vectors also as float32 [N, d], beside it and with its name but for the ending.
          about: goes into the metadata of the Parquet file.

        Raises:
          BundleError: the name does not end in .parquet, or a file exists.
        """
        if path.suffix != ".parquet":
            raise BundleError(f"{path} ends in {path.suffix!r}; vectors are written as .parquet.")
        self._places = [path, path.with_suffix(".npy")] if npy else [path]
        for place in self._places:
            if place.is_dir() or (place.exists() and not overwrite):
                raise BundleError(f"{place} exists; give another name, or --overwrite to replace it.")
        self._path, self._about = path, dict(about)
        self.rows = self.dimension = 0

    def __enter__(self) -> "VectorWriter":
        """Makes the place where the parts are gathered; raises BundleError if another process is at it."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            self._work = stack.enter_context(unfinished_beside(self._path))
            self._array: BinaryIO | None = None
            if len(self._places) > 1:
                self._array = stack.enter_context((self._work / "vectors.npy").open("wb"))
            self._clearing = stack.pop_all()
        return self

    def write(self, columns: Mapping[str, Any], vectors: np.ndarray) -> None:
        """Writes a block: named columns of N values each, and their vectors, float32 [N, d].

        Raises:
          OSError: that is not possible, as on a full disk.
        """
        with full_disk_named(self._path):
            norms = np.linalg.norm(vectors, axis=1)
            frame = pl.DataFrame(dict(columns) | {VECTOR: vectors, NORM: norms})
            frame.write_parquet(self._work / f"{self.rows:015d}.parquet")
            if self._array is not None:
                if not self.rows:
                    _write_header(self._array, 0, vectors.shape[1])
                self._array.write(np.ascontiguousarray(vectors, np.float32).tobytes())
            self.dimension = vectors.shape[1]
            self.rows += len(vectors)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Renames the finished files into place, or clears away."""
        with self._clearing, full_disk_named(self._path):
            if kind is not None or not self.rows:
                return
            made = [self._work / "whole.parquet"]
            parts = sorted(self._work.glob("*.parquet"))
            pl.scan_parquet(parts, glob=False).sink_parquet(
                made[0], maintain_order=True, metadata=self._about
            )
            if self._array is not None:
                self._array.seek(0)
                _write_header(self._array, self.rows, self.dimension)
                self._array.close()
                made.append(self._work / "vectors.npy")
            for file in made:
                to_disk(file)
            for file, place in zip(made, self._places, strict=True):
                file.replace(place)


def _write_header(file: BinaryIO, rows: int, dimension: int) -> None:
    """Writes the head of an array; NumPy leaves room in it for the number of rows to grow."""
    header = {"descr": "<f4", "fortran_order": False, "shape": (rows, dimension)}
    np.lib.format.write_array_header_1_0(file, header)

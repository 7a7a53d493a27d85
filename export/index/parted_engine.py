"""A catalogue in several ScaNN indexes, whose answers are merged: what is too large to be built as one.

Shape legend: B queries, S slots, P parts, d embedding size, k results.
"""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from export.index.engine import StoredIndex
from export.index.part_places import part_directory, part_sizes
from export.index.scann_engine import ScannEngine
from export.store.bundle_errors import BundleError
from export.store.layout import link_or_copy


class PartedEngine:
    """Searches P parts one after another; see `export.index.engine.Engine`."""

    def __init__(self, directory: Path, description: dict[str, Any]):
        """Takes the directory that holds the parts; they are loaded when they are first searched.

        Args:
          directory: of the index, or of one that is being made.
          description: of the index, as of `ScannEngine`, and `parts`.
        """
        self._directory = directory
        self._description = description

    @classmethod
    def open(cls, stored: StoredIndex) -> "PartedEngine":
        """Loads the parts of a saved index.

        Raises:
          BundleError: a file is missing or damaged, or there is no ScaNN.
        """
        engine = cls(stored.directory, stored.description)
        sizes = [one.size for one in engine._parts]
        if sizes != part_sizes(len(stored.vectors), len(sizes)):
            raise BundleError(
                f"{stored.directory} has parts of {sizes} places and {len(stored.vectors)} exact vectors;"
                " publish again."
            )
        return engine

    @cached_property
    def _parts(self) -> list[ScannEngine]:
        return [
            ScannEngine.load(part_directory(self._directory, part), self._description)
            for part in range(self._description["parts"])
        ]

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Finds the k best slots of each query: of the k best of each part the best."""
        found = [one.search(queries, min(k, one.size)) for one in self._parts]
        slots = np.hstack(
            [np.where(one < 0, -1, one * len(found) + part) for part, (one, _) in enumerate(found)]
        )
        scores = np.hstack([one for _, one in found])
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(slots, best, axis=1), np.take_along_axis(scores, best, axis=1)

    def save(self, directory: Path) -> None:
        """Gives the files of the parts a place in a directory that exists, by links where there are any."""
        for part in range(self._description["parts"]):
            made = part_directory(directory, part)
            made.mkdir()
            for file in part_directory(self._directory, part).iterdir():
                link_or_copy(file, made / file.name)

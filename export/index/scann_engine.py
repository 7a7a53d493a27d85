"""ScaNN as an engine.

Its own document ids are not used: they are stored as a pickle, and loading a pickle runs what is written in
it.
Shape legend: B queries, S slots, d embedding size, k results.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np

from export.index.engine import StoredIndex
from export.index.scann_files import read_assets
from export.store.bundle_errors import BundleError
from export.store.foreign import loading

_LEAVES_GROW = 0.65  # the power of the number of results with which the leaves grow that hold them


class ScannEngine:
    """A ScannSearcher with the settings at which recall was measured; see `export.index.engine.Engine`."""

    def __init__(self, searcher: Any, description: dict[str, Any]):
        """Wraps a searcher.

        Args:
          searcher: a ScannSearcher without document ids.
          description: of the index, read at every search: `method`, `k`, and of a tree `settings` with
            `num_leaves`, `leaves_to_search` and `reorder` at that k.
        """
        self.searcher = searcher
        self._description = description

    @classmethod
    def open(cls, stored: StoredIndex) -> "ScannEngine":
        """Loads a saved searcher.

        Raises:
          BundleError: a file is missing or damaged, or there is no ScaNN.
        """
        engine = cls.load(stored.directory, stored.description)
        if engine.size != len(stored.vectors):
            raise BundleError(
                f"{stored.directory} has {engine.size} places and {len(stored.vectors)} exact vectors;"
                " publish again."
            )
        return engine

    @classmethod
    def load(cls, directory: Path, description: dict[str, Any]) -> "ScannEngine":
        """Loads ScaNN's files in a directory with a list of checksums; raises as `open` does."""
        from export.index.scann_runtime import scann

        assets = read_assets(directory, description)
        with loading(directory):
            native = scann.scann_pybind.ScannNumpy(str(directory), assets)
        return cls(scann.ScannSearcher(native), description)

    @property
    def size(self) -> int:
        """S, the slots that it holds."""
        return self.searcher.size()

    def save(self, directory: Path) -> None:
        """Writes ScaNN's files, which can be moved anywhere."""
        self.searcher.serialize(str(directory), relative_path=True)

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Finds the k best slots of each query."""
        slots, scores = self._search(queries, k, **self._settings_for(k))
        short = np.isnan(scores).any(axis=1)
        if short.any() and self._description["method"] == "tree":
            # The leaves that were searched hold fewer than k items; all of them hold everything.
            everything = self._description["settings"]["num_leaves"]
            slots[short], scores[short] = self._search(
                queries[short], k, leaves_to_search=everything, reorder=self.size
            )
        missing = np.isnan(scores)
        slots[missing], scores[missing] = -1, -np.inf
        return slots, scores

    def _settings_for(self, k: int) -> dict[str, int]:
        """Scales the settings, tuned at one k, with the number of results that is asked for.

        The best items of a query lie close together, so that more of them want fewer more leaves.
        """
        if self._description["method"] == "exact":
            return {}
        settings = self._description["settings"]
        factor = max(1.0, k / self._description["k"])
        return {
            "leaves_to_search": min(
                settings["num_leaves"], math.ceil(factor**_LEAVES_GROW * settings["leaves_to_search"])
            ),
            "reorder": min(self.size, math.ceil(factor * settings["reorder"])),
        }

    def _search(
        self,
        queries: np.ndarray,
        k: int,
        leaves_to_search: int | None = None,
        reorder: int | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        if len(queries) == 1:
            return self._search_one(queries[0], k, leaves_to_search or -1, reorder or -1)
        slots, scores = self.searcher.search_batched_parallel(
            queries,
            final_num_neighbors=k,
            pre_reorder_num_neighbors=reorder,
            leaves_to_search=leaves_to_search,
        )
        return slots.astype(np.int64), scores

    def _search_one(
        self, query: np.ndarray, k: int, leaves_to_search: int, reorder: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Searches for one query by the shorter way, which gives as many results as it finds."""
        found, products = self.searcher.search(query, k, reorder, leaves_to_search)
        slots, scores = np.zeros((1, k), np.int64), np.full((1, k), np.nan, np.float32)
        slots[0, : len(found)], scores[0, : len(found)] = found, products
        return slots, scores

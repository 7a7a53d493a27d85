"""The searchable catalogue: a ScaNN index of item vectors, saved, loaded and searched.

Row r of an index is line r of its `ids.txt` and vocabulary index r + 1. ScaNN's own document ids
are not used: they are stored as a pickle, and loading a pickle runs what is written in it.
Shape legend: B queries, K vectors a query, V items, R rows (V and the withdrawn ones), d embedding size,
k results.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from export.index.changes import CHANGES, IndexChanges
from export.index.description import DESCRIPTION, read_index
from export.index.labels import IDS_FILE, NAMES_FILE, write_labels
from export.index.scann_files import read_assets
from export.store import checksums
from export.store.bundle_errors import BundleError
from export.store.foreign import loading
from export.store.layout import link_or_copy
from export.store.runtime import scann

VECTORS = "vectors.npy"
QUERIES = "queries.npy"
_SCANN_VECTORS = "dataset.npy"
_OURS = (DESCRIPTION, IDS_FILE, NAMES_FILE, VECTORS, QUERIES, CHANGES)
# Those that an update of the index writes anew.
_OF_UPDATE = (DESCRIPTION, IDS_FILE, NAMES_FILE, CHANGES)


class ItemIndex:
    """Finds the items with the largest dot product; `description` is the content of `index.json`."""

    def __init__(self, searcher: Any, description: dict[str, Any], changes: IndexChanges | None = None):
        """Wraps a searcher.

        Args:
          searcher: a ScannSearcher without document ids.
          description: at least `items`, `dimension`, `method` ("exact" or "tree"), `memory`, `k` and
            `settings`; for a tree with `num_leaves`, `leaves_to_search` and `reorder` at that k.
          changes: what differs between the searcher and the catalogue; None: nothing, slot s is row s.
        """
        self.searcher = searcher
        self.description = description
        self.changes = changes

    @property
    def num_items(self) -> int:
        """V, the items that can be answered, which is also the largest k."""
        return self.description["items"]

    @property
    def num_rows(self) -> int:
        """R: every row that is answered is below it."""
        return self.changes.num_rows if self.changes else self.num_items

    @property
    def vocabulary_size(self) -> int:
        """The tower knows so many of the first rows; the others were added to the index later."""
        return self.description["vocabulary_size"] if self.changes else self.num_items

    @property
    def _num_slots(self) -> int:
        return len(self.changes.row_of_slot) if self.changes else self.num_items

    def first_rows(self, count: int) -> np.ndarray:
        """The first `count` rows that can be answered, or all of them when there are fewer: int64."""
        return self.changes.live_rows[:count] if self.changes else np.arange(min(count, self.num_items))

    @property
    def fingerprint(self) -> str:
        """Which tower's vectors this index answers; known once it is saved."""
        return self.description["fingerprint"]

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Finds the k best items of each query.

        Args:
          queries: float32 [B, d], or [B, K, d] for users with several vectors: an item's score is
            then that of the best of the K.
          k: how many, in [1, V].

        Returns:
          rows int64 [B, k] and scores float32 [B, k], best first, no row twice. Where the index
          found fewer, -1 and -inf.

        Raises:
          BundleError: k, the shape or the values cannot be searched.
        """
        queries = np.ascontiguousarray(queries, np.float32)
        if not 1 <= k <= self.num_items:  # ScaNN would shorten the answer without a word
            raise BundleError(f"k is {k}; it must be from 1 to {self.num_items}, the number of items.")
        if queries.ndim not in (2, 3) or queries.shape[-1] != self.description["dimension"]:
            raise BundleError(
                f"queries are {list(queries.shape)}; wanted [B, {self.description['dimension']}] or"
                f" [B, K, {self.description['dimension']}]."
            )
        if not np.isfinite(queries).all():
            raise BundleError("queries hold values that are not finite.")
        if not queries.size:
            return np.zeros((len(queries), k), np.int64), np.zeros((len(queries), k), np.float32)
        flat = queries.reshape(-1, queries.shape[-1])
        if self.changes is None:
            rows, scores = self._search_slots(flat, k)
        else:
            rows, scores = self.changes.search(self._search_slots, flat, k)
        if queries.ndim == 3:
            rows, scores = _merge(rows, scores, queries.shape[1], k)
        return rows, scores

    def _search_slots(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Finds the k best slots of each query, -1 and -inf where there are fewer."""
        slots, scores = self._search_flat(queries, k, **self._settings_for(k))
        short = np.isnan(scores).any(axis=1)
        if short.any() and self.description["method"] == "tree":
            # The leaves that were searched hold fewer than k items; all of them hold everything.
            everything = self.description["settings"]["num_leaves"]
            slots[short], scores[short] = self._search_flat(
                queries[short], k, leaves_to_search=everything, reorder=self._num_slots
            )
        missing = np.isnan(scores)
        slots[missing], scores[missing] = -1, -np.inf
        return slots, scores

    def _settings_for(self, k: int) -> dict[str, int]:
        """Scales the settings, tuned at one k, with the number of results that is asked for."""
        if self.description["method"] == "exact":
            return {}
        settings = self.description["settings"]
        factor = max(1.0, k / self.description["k"])
        return {
            "leaves_to_search": min(settings["num_leaves"], math.ceil(factor * settings["leaves_to_search"])),
            "reorder": min(self._num_slots, math.ceil(factor * settings["reorder"])),
        }

    def _search_flat(
        self,
        queries: np.ndarray,
        k: int,
        leaves_to_search: int | None = None,
        reorder: int | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        search = self.searcher.search_batched
        if len(queries) > 1:
            search = self.searcher.search_batched_parallel
        rows, scores = search(
            queries,
            final_num_neighbors=k,
            pre_reorder_num_neighbors=reorder,
            leaves_to_search=leaves_to_search,
        )
        return rows.astype(np.int64), scores

    def save(
        self,
        directory: Path,
        *,
        fingerprint: str,
        item_ids: Sequence[str],
        item_names: Sequence[str] | None = None,
        item_vectors: np.ndarray | None = None,
        queries: np.ndarray | None = None,
        unchanged_in: Path | None = None,
    ) -> None:
        """Writes the index with its ids into a new directory that can be moved anywhere.

        Args:
          directory: made here; it must not exist.
          fingerprint: the version that the tower answers whose vectors these are.
          item_ids: R ids without a newline, in the order of the rows.
          item_names: R names for people to read; a newline in one becomes a space.
          item_vectors: float32 [S, d], the exact vectors of the slots; kept beside an index whose memory is
            not "full", so that it can be measured and built again. It is not loaded for searching.
          queries: the user vectors on which recall is measured, now and after updates.
          unchanged_in: a saved index with this very searcher and queries: their files are shared by links.

        Raises:
          BundleError: there are more ids or names than rows, or fewer.
          OSError: a file cannot be written, as on a full disk.
        """
        for name, values in (("item_ids", item_ids), ("item_names", item_names)):
            if values is not None and len(values) != self.num_rows:
                raise BundleError(f"{name} has {len(values)} lines for {self.num_rows} rows.")
        directory.mkdir(parents=True)
        known: dict[str, str] = {}
        if unchanged_in is not None:
            of_source = checksums.recorded(unchanged_in)
            known = {name: digest for name, digest in of_source.items() if name not in _OF_UPDATE}
            for name in known:
                link_or_copy(unchanged_in / name, directory / name)
        else:
            self.searcher.serialize(str(directory), relative_path=True)
            if item_vectors is not None and self.description["memory"] != "full":
                np.save(directory / VECTORS, np.asarray(item_vectors, np.float32), allow_pickle=False)
            if queries is not None:
                np.save(directory / QUERIES, np.asarray(queries, np.float32), allow_pickle=False)
        write_labels(directory, item_ids, item_names)
        if self.changes is not None:
            self.changes.save(directory / CHANGES)
        searched = (file.stat().st_size for file in directory.iterdir() if file.name not in _OURS)
        self.description |= {
            "format": 1 if self.changes is None else 2,
            "fingerprint": fingerprint,
            "searched_bytes": sum(searched),
        }
        (directory / DESCRIPTION).write_text(json.dumps(self.description, indent=2) + "\n")
        checksums.write(directory, known)

    @classmethod
    def load(cls, directory: Path) -> "ItemIndex":
        """Opens what `save` wrote, wherever it lies now, checks every byte of it, and searches it once.

        Raises:
          BundleError: it is missing, incomplete, damaged, or of a later format.
        """
        description = read_index(directory)
        checksums.verify(directory)
        assets = read_assets(directory, description)
        with loading(directory):
            native = scann.scann_pybind.ScannNumpy(str(directory), assets)
        changes = IndexChanges.load(directory / CHANGES) if description["format"] == 2 else None
        index = cls(scann.ScannSearcher(native), description, changes)
        index._check_sizes(directory)
        with loading(directory):
            index.search(np.ones((1, description["dimension"]), np.float32), 1)
        return index

    def _check_sizes(self, directory: Path) -> None:
        changes, slots = self.changes, self.searcher.size()
        items = changes.num_items if changes else slots
        if (self._num_slots, self.num_items) != (slots, items) or self.vocabulary_size > self.num_rows:
            raise BundleError(
                f"{directory / DESCRIPTION} tells {self.num_items} items, its other files {items} in {slots}"
                " places; publish again."
            )
        dimension = self.description["dimension"]
        if changes and changes.added_vectors.shape[1] != dimension:
            raise BundleError(f"{directory / CHANGES} does not have dimension {dimension}; publish again.")


def read_vectors(directory: Path, changes: IndexChanges) -> np.ndarray:
    """Reads the exact vectors of an index: float32 [R, d]; a withdrawn item's may be zero."""
    description = read_index(directory)
    path = directory / (_SCANN_VECTORS if description["memory"] == "full" else VECTORS)
    vectors = np.zeros((changes.num_rows, description["dimension"]), np.float32)
    with loading(path):
        vectors[changes.row_of_slot] = np.load(path, mmap_mode="r")
        vectors[changes.added_rows] = changes.added_vectors
    return vectors


def read_queries(directory: Path) -> np.ndarray | None:
    """Reads the user vectors that an index is measured on, or None when it was saved without."""
    path = directory / QUERIES
    if not path.is_file():
        return None
    with loading(path):
        queries = np.array(np.load(path, mmap_mode="r"))
    dimension = read_index(directory)["dimension"]
    if queries.dtype != np.float32 or queries.ndim not in (2, 3) or queries.shape[-1] != dimension:
        raise BundleError(f"{path} holds {queries.dtype} {list(queries.shape)}; publish again.")
    return queries


def _merge(rows: np.ndarray, scores: np.ndarray, num_vectors: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Merges the answers [B * K, k] of a user's K vectors to [B, k]: best score, no row twice."""
    rows = rows.reshape(-1, num_vectors * k)
    scores = scores.reshape(-1, num_vectors * k)
    order = np.lexsort((-scores, rows))  # by row number; of equal ones, the best score first
    rows = np.take_along_axis(rows, order, axis=1)
    scores = np.take_along_axis(scores, order, axis=1)
    scores[:, 1:][rows[:, 1:] == rows[:, :-1]] = -np.inf
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    rows, scores = np.take_along_axis(rows, best, axis=1), np.take_along_axis(scores, best, axis=1)
    rows[np.isneginf(scores)] = -1
    return rows, scores

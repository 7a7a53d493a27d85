"""The searchable catalogue: an index of item vectors, saved, loaded and searched.

Row r of an index is line r of its `ids.txt` and vocabulary index r + 1. ScaNN builds and saves an index; what
searches it is any `export.index.engine.Engine`.
Shape legend: B queries, K vectors a query, V items, R rows (V and the withdrawn ones), S slots, N asked rows,
d embedding size, k results.
"""

import json
import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from export.index.changes import CHANGES, IndexChanges
from export.index.description import DESCRIPTION, format_of, has_changes, read_index
from export.index.engine import VECTORS, Engine, OpenEngine, StoredIndex, keeps_vectors
from export.index.engines import open_best
from export.index.exact_vectors import ExactVectors
from export.index.labels import IDS_FILE, NAMES_FILE, write_labels
from export.index.packed_orders import PackedOrders
from export.index.parted_engine import PartedEngine
from export.index.partitions import Partitions, read_leaves
from export.index.queries import QUERIES
from export.index.scann_engine import ScannEngine
from export.store import checksums
from export.store.bundle_errors import BundleError
from export.store.foreign import loading
from export.store.layout import link_or_copy

_OURS = (DESCRIPTION, IDS_FILE, NAMES_FILE, VECTORS, QUERIES, CHANGES)
# Those that an update of the index writes anew.
_OF_UPDATE = (DESCRIPTION, IDS_FILE, NAMES_FILE, CHANGES)


class ItemIndex:
    """Finds the items with the largest dot product; `description` is the content of `index.json`."""

    def __init__(
        self,
        engine: Engine | None,
        description: dict[str, Any],
        changes: IndexChanges | None = None,
        vectors: np.ndarray | None = None,
        leaves: np.ndarray | None = None,
    ):
        """Wraps an engine.

        Args:
          engine: finds the slots of the best items; None: the index is not searched.
          description: at least `items`, `dimension`, `method` ("exact" or "tree"), `memory`, `k` and
            `settings`; for a tree with `num_leaves`, `leaves_to_search` and `reorder` at that k.
          changes: what differs between the engine and the catalogue; None: nothing, slot s is row s.
          vectors: float32 [S, d], the exact vectors of the slots, which may be mapped from a file; None:
            nobody asks for them.
          leaves: int [S, m], the leaves in which each slot of a tree lies, for filtered searches.
        """
        self.engine = engine
        self.description = description
        self.changes = changes
        self._vectors = vectors
        self._leaves = leaves
        self._measuring = threading.Lock()

    @cached_property
    def exact(self) -> ExactVectors:
        """The exact vectors by row."""
        if self._vectors is None:
            raise BundleError(
                "Exact vectors are of an index that was loaded from a bundle; save it and load it."
            )
        return ExactVectors(self._vectors, self.changes)

    @cached_property
    def packed(self) -> PackedOrders:
        """The vectors in the orders of columns, for filtered searches."""
        return PackedOrders(self.vectors_of, self.description["dimension"])

    @property
    def partitions(self) -> Partitions | None:
        """The leaves for filtered searches, measured when they are first asked for; None without a tree."""
        if self._leaves is None:
            return None
        with self._measuring:
            return self._partitions

    @cached_property
    def _partitions(self) -> Partitions:
        assert self._leaves is not None
        return Partitions.of(self.exact, self._leaves, self.changes)

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

    def can_answer(self, rows: np.ndarray) -> np.ndarray:
        """Whether each of some rows can be answered, bool [...]."""
        if self.changes is None:
            return rows < self.num_items
        return np.isin(rows, self.changes.live_rows)

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
        assert self.engine is not None
        if self.changes is None:
            rows, scores = self.engine.search(flat, k)
        else:
            rows, scores = self.changes.search(self.engine.search, flat, k)
        if queries.ndim == 3:
            rows, scores = _merge(rows, scores, queries.shape[1], k)
        return rows, scores

    def vectors_of(self, rows: np.ndarray) -> np.ndarray:
        """The exact vectors of some rows, float32 [N, d], whatever the engine holds; see `read_vectors`."""
        return self.exact.of(rows)

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
            not "full", or that has parts, so that it can be measured and built again. It is not loaded for
            searching.
          queries: the user vectors on which recall is measured, now and after updates.
          unchanged_in: a saved index with these very slots and queries: their files are shared by links.

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
                (directory / name).parent.mkdir(exist_ok=True)
                link_or_copy(unchanged_in / name, directory / name)
        else:
            assert isinstance(self.engine, ScannEngine | PartedEngine)  # as `build_index` makes it
            self.engine.save(directory)
            if item_vectors is not None and keeps_vectors(self.description):
                np.save(directory / VECTORS, np.asarray(item_vectors, np.float32), allow_pickle=False)
            if queries is not None:
                np.save(directory / QUERIES, np.asarray(queries, np.float32), allow_pickle=False)
        write_labels(directory, item_ids, item_names)
        if self.changes is not None:
            self.changes.save(directory / CHANGES)
        files = (file for file in directory.rglob("*") if file.is_file())
        searched = (file.stat().st_size for file in files if file.name not in (*_OURS, checksums.CHECKSUMS))
        self.description |= {
            "format": format_of(self.description, has_changes=self.changes is not None),
            "fingerprint": fingerprint,
            "searched_bytes": sum(searched),
        }
        (directory / DESCRIPTION).write_text(json.dumps(self.description, indent=2) + "\n")
        checksums.write(directory, known)

    @classmethod
    def load(cls, directory: Path, open_engine: OpenEngine = open_best) -> "ItemIndex":
        """Opens what `save` wrote, wherever it lies now, checks every byte of it, and searches it once.

        Raises:
          BundleError: it is missing, incomplete, damaged, or of a later format.
        """
        description = read_index(directory)
        checksums.verify(directory)
        stored = StoredIndex(directory, description)
        changes = IndexChanges.load(directory / CHANGES) if has_changes(description) else None
        engine = open_engine(stored)
        index = cls(engine, description, changes, stored.vectors, read_leaves(stored))
        index._check_sizes(directory)
        with loading(directory):
            index.search(np.ones((1, description["dimension"]), np.float32), 1)
        return index

    def _check_sizes(self, directory: Path) -> None:
        assert self._vectors is not None
        changes, slots = self.changes, len(self._vectors)
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
    stored = StoredIndex(directory, read_index(directory))
    return ExactVectors(stored.vectors, changes).of(np.arange(changes.num_rows))


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

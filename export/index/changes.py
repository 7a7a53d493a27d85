"""What has changed since an index was built: items added, replaced and withdrawn.

ScaNN's files stay as they were built. What is added is searched exactly beside them, what is withdrawn
or replaced is left out of their answers. (ScaNN 1.4.2 can change its own index in place, but with spilling or
int8 that corrupts its memory: it ended the process on the first deletions and reloads that were tried.)

A row stands for an item for ever: rows are never moved or given to another item, since row r is also
vocabulary index r + 1 of the tower. A slot is a place among the vectors that ScaNN holds.
Shape legend: B queries, R rows, S slots, A added or replaced items, W withdrawn ones, d embedding size,
k results.
"""

import math
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from export.store.bundle_errors import BundleError
from export.store.foreign import loading

CHANGES = "changes.npz"
# The scores of a block of queries against all that was added stay below this many bytes.
_BLOCK_BYTES = 64 << 20

# queries [B, d], k -> slots [B, k], scores [B, k]
Search = Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class IndexChanges:
    """The difference between what ScaNN holds and the catalogue.

    Attributes:
      num_rows: R, withdrawn items included.
      row_of_slot: int64 [S].
      added_rows: int64 [A], ascending: the items whose vector is not, or not any more, the one of a slot.
      added_vectors: float32 [A, d].
      withdrawn_rows: int64 [W], ascending: the items that are never answered.
    """

    num_rows: int
    row_of_slot: np.ndarray
    added_rows: np.ndarray
    added_vectors: np.ndarray
    withdrawn_rows: np.ndarray

    @classmethod
    def none(cls, num_items: int, dimension: int) -> "IndexChanges":
        """The state of an index that was just built: slot s is row s."""
        nothing = np.zeros(0, np.int64)
        return cls(num_items, np.arange(num_items), nothing, np.zeros((0, dimension), np.float32), nothing)

    @cached_property
    def is_hidden(self) -> np.ndarray:
        """Bool [R]: rows for which a slot must not answer."""
        hidden = np.zeros(self.num_rows, bool)
        hidden[self.withdrawn_rows] = True
        hidden[self.added_rows] = True
        return hidden

    @cached_property
    def live_rows(self) -> np.ndarray:
        """int64 [V], ascending: the items that can be answered."""
        return np.setdiff1d(np.arange(self.num_rows), self.withdrawn_rows, assume_unique=True)

    @cached_property
    def num_hidden(self) -> int:
        """How many slots must not answer."""
        return int(self.is_hidden[self.row_of_slot].sum())

    @property
    def num_items(self) -> int:
        """The items that can be answered."""
        return self.num_rows - len(self.withdrawn_rows)

    @property
    def share(self) -> float:
        """Items added, replaced or withdrawn since the index was built, as a share of what it holds."""
        only_added = len(self.added_rows) - int(np.isin(self.added_rows, self.row_of_slot).sum())
        return (only_added + self.num_hidden) / len(self.row_of_slot)

    def search(self, search_slots: Search, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Searches the slots that still hold, and what was added, exactly.

        Args:
          search_slots: queries [B, d] and k -> slots [B, k] and scores [B, k], best first, -1 for none.
          queries: float32 [B, d].
          k: how many, in [1, V].

        Returns:
          rows int64 [B, k] and scores float32 [B, k], best first; -1 and -inf where there are fewer.
        """
        num_slots = len(self.row_of_slot)
        # Enough more to lose the usual share of hidden slots. A query whose neighbourhood has more of them
        # is searched again, wide enough for all.
        wider = min(self.num_hidden, math.ceil(2 * k * self.num_hidden / num_slots) + 8)
        rows, scores = self._search_visible(search_slots, queries, k, wider)
        short = (rows < 0).sum(axis=1) > max(0, k - (num_slots - self.num_hidden))
        if short.any() and wider < self.num_hidden:
            rows[short], scores[short] = self._search_visible(
                search_slots, queries[short], k, self.num_hidden
            )
        added_rows, added_scores = self._search_added(queries, k)
        rows, scores = np.hstack([rows, added_rows]), np.hstack([scores, added_scores])
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(rows, best, axis=1), np.take_along_axis(scores, best, axis=1)

    def _search_visible(
        self, search_slots: Search, queries: np.ndarray, k: int, wider: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Finds k + `wider` slots and gives the rows [B, k] of those that are not hidden, -1 after them."""
        slots, found = search_slots(queries, min(len(self.row_of_slot), k + wider))
        visible = (slots >= 0) & ~self.is_hidden[self.row_of_slot[slots]]
        order = np.argsort(~visible, axis=1, kind="stable")[:, :k]
        visible, slots, found = (np.take_along_axis(one, order, axis=1) for one in (visible, slots, found))
        rows, scores = np.full((len(queries), k), -1), np.full((len(queries), k), -np.inf, np.float32)
        rows[:, : order.shape[1]] = np.where(visible, self.row_of_slot[slots], -1)
        scores[:, : order.shape[1]] = np.where(visible, found, -np.inf)
        return rows, scores

    def _search_added(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Gives the best k of what was added, or all of it when it is less, in no order."""
        width = min(k, len(self.added_rows))
        rows, scores = np.zeros((len(queries), width), np.int64), np.zeros((len(queries), width), np.float32)
        block = max(1, _BLOCK_BYTES // (4 * max(1, len(self.added_rows))))
        for start in range(0, len(queries) if width else 0, block):
            of_all = queries[start : start + block] @ self.added_vectors.T
            best = np.argpartition(-of_all, width - 1, axis=1)[:, :width]
            rows[start : start + block] = self.added_rows[best]
            scores[start : start + block] = np.take_along_axis(of_all, best, axis=1)
        return rows, scores

    def save(self, path: Path) -> None:
        """Writes the arrays as one uncompressed .npz."""
        np.savez(
            path,
            num_rows=self.num_rows,
            row_of_slot=self.row_of_slot,
            added_rows=self.added_rows,
            added_vectors=self.added_vectors,
            withdrawn_rows=self.withdrawn_rows,
        )

    @classmethod
    def load(cls, path: Path) -> "IndexChanges":
        """Reads what `save` wrote; raises BundleError when it cannot be read, or cannot be."""
        names = ("row_of_slot", "added_rows", "added_vectors", "withdrawn_rows")
        with loading(path), np.load(path, allow_pickle=False) as arrays:
            # What is compressed may be a thousand times as large as the file; `save` compresses nothing.
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in arrays.zip.infolist()):
                raise BundleError(f"{path} is compressed, as no index's is; publish again.")
            changes = cls(int(arrays["num_rows"]), *(arrays[name] for name in names))
            if not changes._is_possible():
                raise BundleError(f"{path} holds numbers that cannot be; publish again.")
        return changes

    def _is_possible(self) -> bool:
        """Whether rows are within the index, no item has two places, and vectors can be searched."""
        rows = (self.row_of_slot, self.added_rows, self.withdrawn_rows)
        return (
            self.num_rows <= sum(map(len, rows))
            and all(one.dtype == np.int64 and one.ndim == 1 for one in rows)
            and all(len(np.unique(one)) == len(one) for one in rows)
            and all(one.min(initial=0) >= 0 and one.max(initial=0) < self.num_rows for one in rows)
            and len(self.withdrawn_rows) < self.num_rows
            and self.added_vectors.dtype == np.float32
            and self.added_vectors.shape[:-1] == self.added_rows.shape
            and bool(np.isfinite(self.added_vectors).all())
        )

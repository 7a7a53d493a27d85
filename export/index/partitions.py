"""The leaves of a tree, for searches among some of the items only.

ScaNN's open interface cannot be told which items may be answered. Its files say in which leaf an item lies:
so the items that pass a filter are searched here, leaf by leaf, exactly, and the leaves are passed over that
can hardly hold a better item than those that were found.

How high a score a leaf can hold is judged by its centre and by how far its items lie from it, as if those
differences had a normal distribution. Shape legend: R rows, S slots, L leaves, d embedding size, K vectors of
a query, k results.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from export.index.changes import IndexChanges
from export.index.engine import StoredIndex
from export.index.exact_vectors import ExactVectors
from export.index.part_places import part_directory, part_sizes
from export.store.bundle_errors import BundleError
from export.store.foreign import loading

# Standard deviations above its centre up to which a leaf is thought to hold items.
_DEVIATIONS = 3.5
# So many times k items are scored before leaves are passed over.
_FIRST = 4
_BLOCK_SLOTS = 1 << 16
_LEAVES = "datapoint_to_token.npy"  # ScaNN's


@dataclass(frozen=True, eq=False)
class Partitions:
    """Leaves of the rows, and what is known of each.

    Attributes:
      leaf_of_row: int [R]; L, which is always searched, of a row that lies in none.
      centres: float32 [L, d].
      spread: float32 [L], how far the items of a leaf lie from its centre, 1 for the usual distance.
      covariance: float32 [d, d], of the differences between items and centres.
    """

    leaf_of_row: np.ndarray
    centres: np.ndarray
    spread: np.ndarray
    covariance: np.ndarray

    @classmethod
    def of(cls, vectors: ExactVectors, leaves: np.ndarray, changes: IndexChanges | None) -> "Partitions":
        """Measures the leaves.

        Args:
          vectors: of the index.
          leaves: int [S, m], those in which each slot lies; where they are several the nearest is taken.
          changes: of the index.
        """
        of_slots = vectors.of_slots
        num_leaves, dimension = int(leaves.max()) + 1, of_slots.shape[1]
        sums, counts = np.zeros((num_leaves, dimension)), np.zeros(num_leaves)
        starts = range(0, len(of_slots), _BLOCK_SLOTS)
        for start in starts:
            block = np.repeat(of_slots[start : start + _BLOCK_SLOTS], leaves.shape[1], axis=0)
            _add(sums, counts, block, leaves[start : start + _BLOCK_SLOTS].ravel())
        centres = (sums / np.maximum(counts, 1)[:, None]).astype(np.float32)
        nearest = np.zeros(len(of_slots), np.int64)
        squares, members = np.zeros((num_leaves, 1)), np.zeros(num_leaves)
        covariance = np.zeros((dimension, dimension))
        for start in starts:
            block, choices = of_slots[start : start + _BLOCK_SLOTS], leaves[start : start + _BLOCK_SLOTS]
            distances = [np.square(block - centres[choice]).sum(axis=1) for choice in choices.T]
            place = np.argmin(distances, axis=0)
            chosen = choices[np.arange(len(block)), place]
            nearest[start : start + len(block)] = chosen
            _add(squares, members, np.min(distances, axis=0)[:, None], chosen)
            differences = block - centres[chosen]
            covariance += differences.T @ differences
        usual = math.sqrt(squares.sum() / len(of_slots)) or 1.0
        spread = np.sqrt(squares[:, 0] / np.maximum(members, 1)) / usual
        leaf_of_row = nearest
        if changes is not None:
            leaf_of_row = np.full(changes.num_rows, num_leaves)
            leaf_of_row[changes.row_of_slot] = nearest
            leaf_of_row[changes.added_rows] = num_leaves
        return cls(
            leaf_of_row.astype(np.min_scalar_type(num_leaves)),
            centres,
            spread.astype(np.float32),
            (covariance / len(of_slots)).astype(np.float32),
        )

    def search(
        self, vectors: ExactVectors, query: np.ndarray, rows: np.ndarray, k: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Finds the k best of some rows for a query [K, d].

        Returns:
          rows and float32 scores, at most k, best first.
        """
        num_leaves = len(self.centres)
        leaves = self.leaf_of_row[rows]
        counts = np.bincount(leaves, minlength=num_leaves + 1)
        deviation = np.sqrt(np.maximum(0, np.einsum("kd,de,ke->k", query, self.covariance, query)))
        reach = query @ self.centres.T + _DEVIATIONS * deviation[:, None] * self.spread
        reach = np.append(reach.max(axis=0), np.float32(np.inf))
        order = np.argsort(-reach)
        order = order[counts[order] > 0]
        first = order[: 1 + np.searchsorted(np.cumsum(counts[order]), _FIRST * k)]
        is_searched = np.zeros(num_leaves + 1, bool)
        is_searched[first] = True
        found = rows[is_searched[leaves]]
        scores = vectors.scores(found, query)
        if len(first) < len(order):
            enough = np.partition(scores, -k)[-k] if len(scores) >= k else -np.inf
            is_next = (reach >= enough) & ~is_searched
            more = rows[is_next[leaves]]
            found = np.concatenate([found, more])
            scores = np.concatenate([scores, vectors.scores(more, query)])
        return best_of(found, scores, k)


def read_leaves(stored: StoredIndex) -> np.ndarray | None:
    """Reads the leaves of a tree: int64 [S, m], m of them for each slot; None without a tree.

    With parts, whose trees have leaves of their own, these are numbered one part after another.

    Raises:
      BundleError: they are missing or cannot be.
    """
    if stored.description["method"] != "tree":
        return None
    num_leaves = stored.description["settings"]["num_leaves"]
    num_slots, num_parts = len(stored.vectors), stored.description.get("parts", 1)
    if num_parts == 1:
        return _read_leaves(stored.directory / _LEAVES, num_slots, num_leaves)
    leaves = [
        part * num_leaves + _read_leaves(part_directory(stored.directory, part) / _LEAVES, size, num_leaves)
        for part, size in enumerate(part_sizes(num_slots, num_parts))
    ]
    together = np.empty((num_slots, max(one.shape[1] for one in leaves)), np.int64)
    for part, one in enumerate(leaves):
        together[part::num_parts] = one
    return together


def _read_leaves(path: Path, num_slots: int, num_leaves: int) -> np.ndarray:
    with loading(path):
        # With spilling a slot lies in several, which stand beside each other; -1 after the only one.
        leaves = np.load(path, allow_pickle=False).astype(np.int64).reshape(num_slots, -1)
        leaves = np.where(leaves < 0, leaves[:, :1], leaves)
        if leaves.min(initial=0) < 0 or leaves.max(initial=0) >= num_leaves:
            raise BundleError(f"{path} names leaves that are not there; publish again.")
    return leaves


def best_of(rows: np.ndarray, scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k rows with the highest scores, best first; of equal scores the lower row first."""
    if len(rows) > k:
        kept = np.argpartition(-scores, k - 1)[:k]
        rows, scores = rows[kept], scores[kept]
    order = np.lexsort((rows, -scores))
    return rows[order], scores[order]


def _add(sums: np.ndarray, counts: np.ndarray, values: np.ndarray, leaves: np.ndarray) -> None:
    """Adds values [n, ...] and their number to those of their leaves."""
    order = np.argsort(leaves, kind="stable")
    met, starts = np.unique(leaves[order], return_index=True)
    sums[met] += np.add.reduceat(values[order].astype(np.float64), starts, axis=0)
    counts += np.bincount(leaves, minlength=len(counts))

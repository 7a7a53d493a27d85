"""The exact item vectors of an index, by row, read from its files when they are asked for.

They are mapped, not loaded: what is not asked for costs no memory, and processes share what is. Shape legend:
R rows, S slots, d embedding size.
"""

from collections.abc import Iterator

import numpy as np

from export.index.changes import IndexChanges

_BLOCK_ROWS = 1 << 16
# Where more than this share is asked for, reading everything in its order is faster.
_READ_WHOLE = 1 / 4


class ExactVectors:
    """Float32 vectors of rows."""

    def __init__(self, of_slots: np.ndarray, changes: IndexChanges | None):
        """Takes float32 [S, d] of the slots, and what has changed since; None: slot s is row s."""
        self.of_slots = np.asarray(of_slots)
        self._slot_of_row: np.ndarray | None = None
        if changes is not None:
            self._added = changes.added_vectors
            # An added row has the number of its vector, from -1 downwards.
            self._slot_of_row = np.zeros(changes.num_rows, np.int64)
            self._slot_of_row[changes.row_of_slot] = np.arange(len(changes.row_of_slot))
            self._slot_of_row[changes.added_rows] = -1 - np.arange(len(changes.added_rows))

    def of(self, rows: np.ndarray) -> np.ndarray:
        """The vectors [n, d] of some rows."""
        if self._slot_of_row is None:
            return self.of_slots.take(rows, axis=0)
        slots = self._slot_of_row[rows]
        vectors = self.of_slots.take(np.maximum(slots, 0), axis=0)
        is_added = slots < 0
        vectors[is_added] = self._added[-1 - slots[is_added]]
        return vectors

    def scores(self, rows: np.ndarray, query: np.ndarray) -> np.ndarray:
        """The score of each of n rows for a query [K, d], that of the best of its K vectors: float32 [n]."""
        if self._slot_of_row is None and len(rows) > _READ_WHOLE * len(self.of_slots):
            return _best(self.of_slots @ query.T)[rows]
        if len(rows) <= _BLOCK_ROWS:
            return _best(self.of(rows) @ query.T)
        return np.concatenate([_best(self.of(block) @ query.T) for block in _blocks(rows)])


def _blocks(rows: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), _BLOCK_ROWS):
        yield rows[start : start + _BLOCK_ROWS]


def _best(scores: np.ndarray) -> np.ndarray:
    return scores[:, 0] if scores.shape[1] == 1 else scores.max(axis=1)

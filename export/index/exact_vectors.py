"""The exact item vectors of an index, by row, read from its files when they are asked for.

They are mapped, not loaded: what is not asked for costs no memory, and processes share what is. Shape legend:
R rows, S slots, d embedding size.
"""

import numpy as np

from export.index.changes import IndexChanges

_BLOCK_ROWS = 2_048  # their vectors stay in the processor's cache between two steps
# Where more than this share is asked for, reading everything in its order is faster.
_READ_WHOLE = 0.4


class ExactVectors:
    """Float32 vectors of rows."""

    def __init__(self, of_slots: np.ndarray, changes: IndexChanges | None):
        """Takes float32 [S, d] of the slots, and what has changed since; None: slot s is row s."""
        self.of_slots = np.asarray(of_slots)
        self._slot_of_row: np.ndarray | None = None
        if changes is not None:
            # A withdrawn row may have no vector any more; it has zeros. An added row has the number of its
            # vector, from -1 downwards.
            nowhere = np.zeros((1, self.of_slots.shape[1]), np.float32)
            self._added = np.vstack([changes.added_vectors, nowhere])
            self._slot_of_row = np.full(changes.num_rows, -len(self._added))
            self._slot_of_row[changes.row_of_slot] = np.arange(len(changes.row_of_slot))
            self._slot_of_row[changes.added_rows] = -1 - np.arange(len(changes.added_rows))

    def of(self, rows: np.ndarray) -> np.ndarray:
        """The vectors of some rows, float32 [n, d]; of a withdrawn item the last one, or zeros."""
        if self._slot_of_row is None:
            return self.of_slots[rows]
        slots = self._slot_of_row[rows]
        vectors = self.of_slots.take(slots, axis=0, mode="clip")  # what is below 0 is replaced
        is_added = slots < 0
        vectors[is_added] = self._added[-1 - slots[is_added]]
        return vectors

    def scores(self, rows: np.ndarray, query: np.ndarray) -> np.ndarray:
        """The score of each of n rows for a query [K, d], that of the best of its K vectors: float32 [n]."""
        if self._slot_of_row is None and len(rows) > _READ_WHOLE * len(self.of_slots):
            return _best(self.of_slots @ query.T)[rows]
        slots = rows if self._slot_of_row is None else self._slot_of_row[rows]
        scores = np.empty(len(rows), np.float32)
        vectors = np.empty((min(_BLOCK_ROWS, len(rows)), query.shape[1]), np.float32)
        for start in range(0, len(rows), _BLOCK_ROWS):
            block = slots[start : start + _BLOCK_ROWS]
            # What is below 0 is clipped, and replaced then.
            taken = self.of_slots.take(block, axis=0, out=vectors[: len(block)], mode="clip")
            if self._slot_of_row is not None:
                is_added = block < 0
                taken[is_added] = self._added[-1 - block[is_added]]
            scores[start : start + len(block)] = _best(taken @ query.T)
        return scores


def _best(scores: np.ndarray) -> np.ndarray:
    return scores[:, 0] if scores.shape[1] == 1 else scores.max(axis=1)

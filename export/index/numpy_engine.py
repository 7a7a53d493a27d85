"""Exact search in NumPy, wherever NumPy runs.

Shape legend: B queries, S slots, d embedding size, k results.
"""

import numpy as np

from export.index.engine import StoredIndex

# The scores of a block of queries against all vectors stay below this many bytes.
_BLOCK_BYTES = 64 << 20


class NumpyEngine:
    """Scores everything; see `export.index.engine.Engine`."""

    def __init__(self, vectors: np.ndarray):
        """Takes float32 [S, d], which may be mapped from a file: nothing is copied."""
        self._vectors = vectors

    @classmethod
    def open(cls, stored: StoredIndex) -> "NumpyEngine":
        """Searches the exact vectors of a saved index where they lie."""
        return cls(stored.vectors)

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Finds the k best slots of each query."""
        slots = np.empty((len(queries), k), np.int64)
        scores = np.empty((len(queries), k), np.float32)
        block = max(1, _BLOCK_BYTES // (4 * len(self._vectors)))
        for start in range(0, len(queries), block):
            part = slice(start, start + block)
            scores_BS = queries[part] @ self._vectors.T
            best_BK = np.argpartition(-scores_BS, k - 1, axis=1)[:, :k]
            found_BK = np.take_along_axis(scores_BS, best_BK, axis=1)
            order_BK = np.argsort(-found_BK, axis=1, kind="stable")
            slots[part] = np.take_along_axis(best_BK, order_BK, axis=1)
            scores[part] = np.take_along_axis(found_BK, order_BK, axis=1)
        return slots, scores

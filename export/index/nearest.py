"""The nearest items of items by the cosine of their vectors, exactly, whatever engine searches the index.

The inner product would not do: the longest vectors, often those of popular items, would be near everything,
and an item need not even be nearest to itself.
Shape legend: N rows, C rows of a block, d embedding size.
"""

import numpy as np

from export.index.item_index import ItemIndex

_ROWS_TOGETHER = 65_536  # memory does not grow with the catalogue
_SHORTEST = 1e-12  # a vector of length 0 has the cosine 0 with everything


def unit_vectors(vectors: np.ndarray) -> np.ndarray:
    """Vectors [N, d] brought to length one."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), _SHORTEST)


def nearest(index: ItemIndex, row: int, among: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Finds the rows that are nearest to a row.

    Args:
      index: holds exact vectors.
      row: of the item.
      among: int64, distinct rows that may be answered.
      k: at least 1.

    Returns:
      rows int64 [at most k] and cosines float32, best first.
    """
    [unit_D] = unit_vectors(index.vectors_of(np.array([row])))
    rows, scores = np.zeros(0, np.int64), np.zeros(0, np.float32)
    for start in range(0, len(among), _ROWS_TOGETHER):
        block_C = among[start : start + _ROWS_TOGETHER]
        scores_C = unit_vectors(index.vectors_of(block_C)) @ unit_D
        best = np.argpartition(-scores_C, min(k, len(scores_C)) - 1)[:k]
        rows, scores = np.append(rows, block_C[best]), np.append(scores, scores_C[best])
    order = np.argsort(-scores, kind="stable")[:k]
    return rows[order], scores[order]

"""Exact search in NumPy, and how much of it an approximate answer found.

Shape legend: Q queries, K vectors a query, V items, d embedding size, k results.
"""

import numpy as np

# The scores of a block of queries against the whole catalogue stay below this many bytes.
_BLOCK_BYTES = 256 << 20
# Two orders of summation of the same product differ in the last bits: that is not a miss.
_ROUNDING = 1e-5


def kth_best_scores(item_vectors: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    """Searches exhaustively for the score that an item needs to be among the best k.

    Args:
      item_vectors: float32 [V, d].
      queries: float32 [Q, d], or [Q, K, d]: an item's score is that of the best of K vectors.
      k: at most V.

    Returns:
      float32 [Q].
    """
    per_query = max(1, queries.size // max(1, len(queries)) // queries.shape[-1])
    block = max(1, _BLOCK_BYTES // (4 * len(item_vectors) * per_query))
    thresholds = [np.zeros(0, np.float32)]
    for start in range(0, len(queries), block):
        scores = queries[start : start + block] @ item_vectors.T
        if scores.ndim == 3:
            scores = scores.max(axis=1)
        thresholds.append(np.partition(scores, -k, axis=1)[:, -k])
    return np.concatenate(thresholds)


def recall_at_k(
    item_vectors: np.ndarray, queries: np.ndarray, rows: np.ndarray, thresholds: np.ndarray
) -> np.ndarray:
    """Gives, for each query, the share of its k results that belong to the exact best k.

    A result counts when its true score reaches the k-th best one, so that items with equal scores
    are interchangeable.

    Args:
      item_vectors: float32 [V, d].
      queries: float32 [Q, d] or [Q, K, d].
      rows: int [Q, k], the results: rows of `item_vectors`, without repeats; -1 is no result.
      thresholds: float32 [Q] from `kth_best_scores`.

    Returns:
      float64 [Q].
    """
    recalls = np.zeros(len(queries))
    for number, (query, row, threshold) in enumerate(zip(queries, rows, thresholds, strict=True)):
        scores = (np.atleast_2d(query) @ item_vectors[row[row >= 0]].T).max(axis=0)
        recalls[number] = (scores >= threshold - _ROUNDING * max(1.0, abs(threshold))).sum() / len(row)
    return recalls

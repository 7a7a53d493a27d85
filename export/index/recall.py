"""Exact search in NumPy, and how much of it an approximate answer found.

Shape legend: Q queries, K vectors a query, V items, d embedding size, k results, w at most added by a block.
"""

import numpy as np

# The scores of all queries against a block of items stay below this many bytes: what is taken does not grow
# with the catalogue.
_BLOCK_BYTES = 16 << 20
# Two orders of summation of the same product differ in the last bits: that is not a miss.
_ROUNDING = 1e-5


def best_scores(item_vectors: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    """Searches exhaustively for the k best scores of each query.

    Args:
      item_vectors: float32 [V, d], which may be mapped from a file: it is read once, in its order.
      queries: float32 [Q, d], or [Q, K, d]: an item's score is that of the best of K vectors.
      k: at most V.

    Returns:
      float32 [Q, k], in no order.
    """
    per_query = queries.shape[1] if queries.ndim == 3 else 1
    size = max(k, _BLOCK_BYTES // (4 * max(1, len(queries)) * per_query))
    best = np.zeros((len(queries), k), np.float32)
    for start in range(0, len(item_vectors) if len(queries) else 0, size):
        scores = queries @ item_vectors[start : start + size].T
        if scores.ndim == 3:
            scores = scores.max(axis=1)
        # The first block holds k scores at least; of those that follow most are below them.
        best = _merged(best, scores) if start else np.partition(scores, -k, axis=1)[:, -k:]
    return best


def _merged(best: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The k best [Q, k] of what was found before and of a block's scores."""
    k = best.shape[1]
    query, item = np.nonzero(scores > best.min(axis=1, keepdims=True))
    counts = np.bincount(query, minlength=len(best))
    added_Qw = np.full((len(best), counts.max(initial=0)), -np.inf, np.float32)
    place = np.arange(len(query)) - np.repeat(np.cumsum(counts) - counts, counts)
    added_Qw[query, place] = scores[query, item]
    return np.partition(np.hstack([best, added_Qw]), -k, axis=1)[:, -k:]


def kth_best_scores(item_vectors: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    """The score that an item needs to be among the best k, float32 [Q]; arguments as of `best_scores`."""
    return best_scores(item_vectors, queries, k).min(axis=1)


def is_reaching(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Whether scores [Q, any] reach the thresholds [Q], but for rounding: bool of their shape."""
    return scores >= (thresholds - _ROUNDING * np.maximum(1.0, np.abs(thresholds)))[:, None]


def is_found(
    item_vectors: np.ndarray, queries: np.ndarray, rows: np.ndarray, thresholds: np.ndarray
) -> np.ndarray:
    """Tells which results belong to the exact best k of their query.

    A result counts when its true score reaches the k-th best one, so that items with equal scores
    are interchangeable.

    Args:
      item_vectors: float32 [V, d].
      queries: float32 [Q, d] or [Q, K, d].
      rows: int [Q, k], the results: rows of `item_vectors`, without repeats; -1 is no result.
      thresholds: float32 [Q] from `kth_best_scores`.

    Returns:
      bool [Q, k].
    """
    scores = np.full(rows.shape, -np.inf, np.float32)
    for number, (query, row) in enumerate(zip(queries, rows, strict=True)):
        found = row >= 0
        scores[number, found] = (np.atleast_2d(query) @ item_vectors[row[found]].T).max(axis=0)
    return is_reaching(scores, thresholds)


def recall_at_k(
    item_vectors: np.ndarray, queries: np.ndarray, rows: np.ndarray, thresholds: np.ndarray
) -> np.ndarray:
    """Gives, for each query, the share of its k results that `is_found` finds: float64 [Q]."""
    return is_found(item_vectors, queries, rows, thresholds).mean(axis=1)

"""How much of the exact answer an index finds, and in what time.

Shape legend: Q queries, K vectors a query, R rows, d embedding size, k results.
"""

import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from export.index.item_index import ItemIndex
from export.index.recall import is_found, kth_best_scores

_MOST_QUERIES = 1_000  # a recall of .99 at 50 is then known to about .0005
_TIMED_QUERIES = 200


@dataclass(frozen=True)
class Truth:
    """What exact search answers.

    Attributes:
      queries: float32 [Q, d] or [Q, K, d].
      thresholds: float32 [Q], the score that an item needs to be among the best.
      wanted: int64 [Q], how many items of those that are searched reach it: k, or a part's share of them.
    """

    queries: np.ndarray
    thresholds: np.ndarray
    wanted: np.ndarray

    @classmethod
    def of(cls, item_vectors: np.ndarray, queries: np.ndarray, k: int) -> "Truth":
        """Searches all items [V, d] exhaustively."""
        thresholds = kth_best_scores(item_vectors, queries, k)
        return cls(queries, thresholds, np.full(len(queries), k))


def measuring_queries(queries: np.ndarray) -> np.ndarray:
    """The queries [Q, ...] that recall is measured on: at most 1,000 of them, evenly spaced."""
    return queries[_evenly_spaced(len(queries), _MOST_QUERIES)]


def measured(index: ItemIndex, item_vectors: np.ndarray, truth: Truth) -> dict[str, Any]:
    """Measures an index against exact search.

    Args:
      index: to be measured, at the k of its description.
      item_vectors: float32 [R, d], the exact vectors of its rows.
      truth: over the items that can be answered.

    Returns:
      `recall`, `recall_low` (the mean less two standard errors) and `milliseconds`, the median time of a
      query alone; None each when there are no queries.
    """
    if not len(truth.queries):
        return {"recall": None, "recall_low": None, "milliseconds": None}
    rows, _ = index.search(truth.queries, index.description["k"])
    found = is_found(item_vectors, truth.queries, rows, truth.thresholds).sum(axis=1)
    return recall_of(found, truth.wanted) | {"milliseconds": milliseconds_of(index, truth.queries)}


def recall_of(found: np.ndarray, wanted: np.ndarray) -> dict[str, float]:
    """The share of what was wanted, int64 [Q], that was found, and the same less two standard errors."""
    if not wanted.any():
        return {"recall": 1.0, "recall_low": 1.0}
    recall = found.sum() / wanted.sum()
    error = (found - recall * wanted).std() / (math.sqrt(len(wanted)) * wanted.mean())
    return {"recall": round(float(recall), 5), "recall_low": round(float(recall - 2 * error), 5)}


def milliseconds_of(index: ItemIndex, queries: np.ndarray) -> float:
    """The median time of a query alone."""
    seconds = []
    for position in _evenly_spaced(len(queries), _TIMED_QUERIES):
        started = time.perf_counter()
        index.search(queries[position : position + 1], index.description["k"])
        seconds.append(time.perf_counter() - started)
    return round(1000 * float(np.median(seconds)), 4)


def _evenly_spaced(size: int, most: int) -> np.ndarray:
    return np.unique(np.linspace(0, size - 1, min(size, most)).astype(np.int64))

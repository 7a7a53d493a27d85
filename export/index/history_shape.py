"""How the items of histories and lists are spread over a catalogue, and histories over lengths.

Shape legend: P parts of the catalogue, L lengths.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

# A part holds the items up to this share of the tower's items, the most popular first, that no part before it
# holds; the last one what was added to the index later.
POPULARITY = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
PARTS = (*(f"{share:g}" for share in POPULARITY), "added")
# A length is among those from one of these numbers up to the next; the first has the empty histories.
LENGTHS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256)


def parts_of(rows: np.ndarray, vocabulary_size: int) -> np.ndarray:
    """The part of each row, int64 [n], by its place in `PARTS`.

    Args:
      rows: int [n] of an index, the most popular item first.
      vocabulary_size: how many of the rows the tower knows; those after them were added.
    """
    ends = np.ceil(np.array(POPULARITY) * vocabulary_size)
    return np.searchsorted(ends, rows, side="right")


class HistoryShape:
    """How many items of histories lie in each part, float64 [P], and how many histories are how long [L]."""

    def __init__(self) -> None:
        self.popularity = np.zeros(len(PARTS))
        self.lengths = np.zeros(len(LENGTHS))

    def add(self, histories: Sequence[np.ndarray], vocabulary_size: int) -> None:
        """Counts histories: of each the rows int [n] that the tower reads."""
        if not histories:
            return
        rows = np.concatenate(histories)
        self.popularity += np.bincount(parts_of(rows, vocabulary_size), minlength=len(PARTS))
        places = np.searchsorted(LENGTHS, [len(one) for one in histories], side="right") - 1
        self.lengths += np.bincount(places, minlength=len(LENGTHS))

    def describe(self) -> dict[str, Any]:
        """As JSON, for a model card: the number of histories, and shares."""
        return {
            "histories": int(self.lengths.sum()),
            "popularity": _shares(self.popularity).tolist(),
            "lengths": _shares(self.lengths).tolist(),
        }


def divergence(counts: np.ndarray, shares: np.ndarray) -> float:
    """The Jensen-Shannon divergence of two distributions in bits: 0 for the same, 1 for disjoint ones.

    Lin, "Divergence measures based on the Shannon entropy" (1991): of p and q with the mean m it is
    KL(p, m) / 2 + KL(q, m) / 2. Unlike the population stability index it needs no rule for empty parts.

    Args:
      counts: float [n], 0 or more; NaN is answered where all are 0.
      shares: float [n], 0 or more; NaN is answered where all are 0.
    """
    if not counts.sum() or not np.sum(shares):
        return float("nan")
    p, q = _shares(counts), _shares(np.asarray(shares))
    mean = (p + q) / 2
    return float(sum((one[one > 0] * np.log2(one[one > 0] / mean[one > 0])).sum() for one in (p, q)) / 2)


def _shares(counts: np.ndarray) -> np.ndarray:
    return counts / max(counts.sum(), 1e-300)

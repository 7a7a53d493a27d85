"""Rounded vectors in the order of a column, three in a float32: what scores many rows in little time.

Reading vectors is what scoring takes. In the order of a column those that pass a filter lie beside each
other, and rounded they are a third of the bytes. Each vector is brought to one length, and its entries are
rounded to whole numbers a, b, c of three rows, which make the number a + 256 b + 65,536 c. A float32 holds it
exactly, and one product with a rounded query gives the three inner products at once, exactly, since none is
above 127: the bytes of their sum, as a whole number. The rows whose estimate is near the best are then scored
exactly, as many as the error of rounding makes needful.

Shape legend: E places of the order, P = E / 3 packed rows, d embedding size, K vectors of a query, k results.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from export.index.exact_vectors import ExactVectors
from export.index.partitions import best_of

_TOGETHER = 3
_BASE = 256
_BIAS = 128 * (1 + _BASE + _BASE**2)  # so that the three bytes are positive
_LARGEST = 127  # the squared length of a rounded vector, and so an inner product of two
_BLOCK_ROWS = 3 * 8_192
_SHRINK = 0.95  # a vector that is too long when it is rounded is made so much shorter
# So many below the k-th best estimate rows are scored exactly at first: mostly that is all that is needed.
_NEAR = 3.0
# So many standard deviations of its error an estimate may be below the score that is needed.
_DEVIATIONS = 2.4
_GROUP = 64
_SHORTEST = np.float32(1e-12)  # a vector of length 0 stays so

Contains = Callable[[np.ndarray], np.ndarray]


class _Estimates(NamedTuple):
    """Estimates of the rows of runs, four for three rows: bytes, or float32.

    Attributes:
      values: the estimates; the fourth is below all others.
      error: their standard deviation from what they estimate.
      unit: of the scores that they estimate.
      zero: of these.
    """

    values: np.ndarray
    error: float
    unit: float = 1.0
    zero: float = 0.0

    def needed(self, score: float) -> Any:
        """From which value on a row may have a score."""
        least = score / self.unit + self.zero
        # Whole numbers, or every byte would be made a float64 to be compared.
        return max(1, math.ceil(least)) if self.values.dtype == np.uint8 else least


class PackedVectors:
    """The rows of one order."""

    def __init__(self, order: np.ndarray, vectors_of: Callable[[np.ndarray], np.ndarray]):
        """Rounds and packs the vectors.

        Args:
          order: int64 [E], rows, E at least 1; one may stand there several times.
          vectors_of: rows -> float32 [n, d].
        """
        dimension = vectors_of(order[:1]).shape[1]
        # Rounding makes a vector longer, by d / 12 squared and more or less.
        self._length = math.sqrt(max(16.0, _LARGEST - 12 - dimension / 12))
        self._order = order
        self._is_distinct = len(order) <= int(order.max()) + 1
        count = math.ceil(len(order) / _TOGETHER)
        self._packed_PD = np.zeros((count, dimension), np.float32)
        norms = np.zeros(count * _TOGETHER, np.float32)
        for start in range(0, len(order), _BLOCK_ROWS):
            vectors = vectors_of(order[start : start + _BLOCK_ROWS])
            norms[start : start + len(vectors)] = of_block = _norms(vectors)
            rounded, first = self._rounded(vectors, of_block), start // _TOGETHER
            for place in range(_TOGETHER):
                part = rounded[place::_TOGETHER]
                self._packed_PD[first : first + len(part)] += np.float32(_BASE**place) * part
        present = norms[norms > 0] if norms.any() else np.ones(1, np.float32)
        self._norm = float(present.mean())
        # Of vectors of one length, as for the cosine, the bytes are compared as they are.
        is_alike = np.ptp(present) <= 1e-3 * self._norm
        self._norms: np.ndarray | None = None if is_alike else norms.reshape(count, _TOGETHER)

    def search(
        self,
        exact: ExactVectors,
        query: np.ndarray,
        places: np.ndarray,
        contains: Contains,
        share: float,
        k: int,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Finds the k best of the rows that stand in some places and pass a test.

        Args:
          exact: the vectors of the same rows.
          query: float32 [K, d].
          places: int64 [n, 2], ranges [first, last) of the order, ascending.
          contains: whether each of some rows passes; only the best are asked about.
          share: of the rows there, about so many pass.
          k: at least 1.

        Returns:
          rows and float32 exact scores, at most k, best first.
        """
        runs = _runs(places)
        rows, scores = np.zeros(0, np.int64), np.zeros(0, np.float32)
        if not len(runs):
            return rows, scores
        estimates = self._estimates(query, runs)
        values = estimates.values
        above, count, is_last = None, math.ceil(k / max(share, 1e-9)), False
        while not is_last:
            # First what is near the estimates of as many as should be enough; then all that is near the k-th.
            if len(scores) < k:
                cut, is_last = _cut(values, count, _NEAR * estimates.error), count >= len(values)
                count *= 4
            else:
                cut, is_last = estimates.needed(float(np.partition(scores, -k)[-k])), True
                if cut >= above:
                    break
            is_near = values >= cut
            if above is not None:
                is_near &= values < above
            more = self._rows(runs, np.flatnonzero(is_near))
            more = more[contains(more)]
            of_more = exact.scores(more, query)
            rows, scores = (
                (more, of_more) if above is None else (np.append(rows, more), np.append(scores, of_more))
            )
            is_last &= len(scores) < k or above is not None
            above = cut
        return best_of(rows, scores, k)

    def _estimates(self, query: np.ndarray, runs: np.ndarray) -> _Estimates:
        sums = np.empty(int((runs[:, 1] - runs[:, 0]).sum()), np.float32)
        norms_K = _norms(query)
        error = self._length / math.sqrt(
            6
        )  # of a product of whole numbers: of 2 d entries, each off by 1 / 12
        best: np.ndarray | None = None
        for rounded_D, norm in zip(self._rounded(query, norms_K), norms_K.tolist(), strict=True):
            start = 0
            for first, last in runs.tolist():
                end = start + last - first
                np.dot(self._packed_PD[first:last], rounded_D, out=sums[start:end])
                start = end
            # The fourth byte is 0, below every estimate.
            bytes_ = (sums.astype(np.int32) + np.int32(_BIAS)).view(np.uint8)
            if len(query) == 1 and self._norms is None:
                unit = max(1e-30, norm * self._norm / self._length**2)
                return _Estimates(bytes_, error, unit, 128 - _DEVIATIONS * error)
            scores = norm * (bytes_.reshape(-1, 4)[:, :_TOGETHER].astype(np.float32) - 128)
            best = scores if best is None else np.maximum(best, scores)
        assert best is not None
        # The error grows with the lengths of both vectors: it is added here, where these are not alike.
        error *= float(norms_K.max())
        best += _DEVIATIONS * error
        if self._norms is None:
            best *= self._norm
        else:
            best *= np.concatenate([self._norms[first:last] for first, last in runs.tolist()])
        values = np.full((len(best), 4), -np.inf, np.float32)
        values[:, :_TOGETHER] = best / self._length**2
        return _Estimates(values.ravel(), error * self._norm / self._length**2)

    def _rows(self, runs: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        """The distinct rows of some estimates."""
        ends = np.cumsum(runs[:, 1] - runs[:, 0])
        words, byte = chosen // 4, chosen % 4
        run = np.searchsorted(ends, words, "right")
        places = _TOGETHER * ((runs[:, 1] - ends)[run] + words) + byte
        rows = self._order[places[(byte < _TOGETHER) & (places < len(self._order))]]
        return np.sort(rows) if self._is_distinct else np.unique(rows)

    def _rounded(self, vectors: np.ndarray, norms: np.ndarray) -> np.ndarray:
        """Whole numbers, float32 [n, d], of vectors brought to one length."""
        scaled = vectors * (self._length / np.maximum(norms, _SHORTEST))[:, None]
        rounded = np.rint(scaled)
        while (too_long := _norms(rounded) > math.sqrt(_LARGEST)).any():
            scaled[too_long] *= np.float32(_SHRINK)
            rounded[too_long] = np.rint(scaled[too_long])
        return rounded


def _norms(vectors: np.ndarray) -> np.ndarray:
    return np.sqrt(np.einsum("nd,nd->n", vectors, vectors))


def _runs(places: np.ndarray) -> np.ndarray:
    """The packed rows [n, 2] in which places lie; runs that touch are one."""
    first, last = places[:, 0] // _TOGETHER, -(-places[:, 1] // _TOGETHER)
    is_some = places[:, 0] < places[:, 1]
    first, last = first[is_some], last[is_some]
    is_apart = np.ones(len(first) + 1, bool)
    np.greater(first[1:], last[:-1], out=is_apart[1:-1])
    return np.stack([first[is_apart[:-1]], last[is_apart[1:]]], axis=1)


def _cut(estimates: np.ndarray, count: int, margin: float) -> Any:
    """A value so much below what `count` estimates reach; the lowest of all where there are fewer."""
    if count >= len(estimates):
        return estimates.min().item()
    groups = len(estimates) // _GROUP
    if groups > 2 * count:  # the highest of each group are enough to know it by
        estimates = estimates[: groups * _GROUP].reshape(_GROUP, groups).max(axis=0)
    cut = np.partition(estimates, -count)[-count]
    if estimates.dtype == np.uint8:
        return max(1, int(cut) - math.ceil(margin))
    return float(cut) - margin

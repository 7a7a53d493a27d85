"""Finds the best items that a request may be answered with; how, depends on how many they are.

Few are scored exactly among themselves. Where most items pass, more is fetched from the index than is asked
for, and what does not pass is dropped; if too few are left, or the share that passes is small, those that
pass are searched leaf by leaf, or, without leaves, all of them are scored: no share costs recall.

Shape legend: B requests, K vectors a user, V items, R rows, d embedding size, F fetched items.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from export.filters.row_set import RowSet
from export.index.item_index import ItemIndex
from export.index.partitions import best_of

# How an answer was found, as it says itself.
INDEX, OVER_FETCH, PARTITIONS, EXACT, EMPTY = "index", "over_fetch", "partitions", "exact", "empty"
# Results that are fetched at once, some sixty bytes each: what a batch takes does not depend on how long its
# histories are.
_MOST_FETCHED = 1 << 22
# So many items are scored as fast as the index is searched.
_VERY_FEW = 2_048
# So many items are scored at least as fast as leaves are chosen among them.
_FEW = 65_536
# More than this is not fetched from a tree: its leaves are searched with the filter instead.
_WIDEST = 1_024
# So many times more is fetched when too few of the first were left.
_AGAIN = 4
# What is fetched beyond the expected share, since the share among the best items is not that of all.
_MARGIN = 1.5


@dataclass(frozen=True, eq=False)
class Wanted:
    """What a request may be answered with.

    Attributes:
      k: how many items.
      excluded: int64, distinct rows that it is not answered with: seen or denied.
      allowed: the rows that it may be answered with, each an item that can be; None: all.
    """

    k: int
    excluded: np.ndarray
    allowed: RowSet | None = None


class Found(NamedTuple):
    """Rows int64 [at most k] and scores float32, best first, and how they were found."""

    rows: np.ndarray
    scores: np.ndarray
    plan: str


def search(index: ItemIndex, vectors: np.ndarray, wanted: Sequence[Wanted]) -> list[Found]:
    """Finds, for each request, the best k of the items that it may be answered with.

    Args:
      index: of the items.
      vectors: float32 [B, d] or [B, K, d].
      wanted: B of them.

    Returns:
      B answers; fewer than k items where fewer pass.
    """
    return _Search(index, vectors, wanted).run() if len(wanted) else []


class _Search:
    """One call: plans all requests, then carries the plans out together where they can be."""

    def __init__(self, index: ItemIndex, vectors: np.ndarray, wanted: Sequence[Wanted]):
        self._index, self._vectors, self._wanted = index, vectors, wanted
        self._found: list[Found | None] = [None] * len(wanted)
        # Rows that are excluded, and among those that are allowed.
        self._excluded = [
            one.excluded if one.allowed is None else one.excluded[one.allowed.contains(one.excluded)]
            for one in wanted
        ]
        self._num_passing = [
            index.num_items if one.allowed is None else one.allowed.count - len(excluded)
            for one, excluded in zip(wanted, self._excluded, strict=True)
        ]

    def run(self) -> list[Found]:
        widths: dict[int, int] = {}
        few: list[int] = []
        for number, one in enumerate(self._wanted):
            if one.allowed is not None and not self._num_passing[number]:
                nothing = np.zeros(0, np.int64)
                self._found[number] = Found(nothing, nothing.astype(np.float32), EMPTY)
            elif (width := self._width(number)) is None:
                few.append(number)
            else:
                widths[number] = width
        while widths:
            wider: dict[int, int] = {}
            for width in sorted(set(widths.values())):
                again = min(self._index.num_items, _AGAIN * width)
                for number, num_kept in self._fetch(
                    [number for number, one in widths.items() if one == width], width
                ):
                    # Among the best items more may be excluded than among all: often a little more is enough.
                    is_enough = _AGAIN * num_kept >= min(self._wanted[number].k, self._num_passing[number])
                    if is_enough and width < again <= _AGAIN * _WIDEST:
                        wider[number] = again
                    else:
                        few.append(number)
            widths = wider
        for number in few:
            self._found[number] = self._among(number)
        return [one for one in self._found if one is not None]

    def _width(self, number: int) -> int | None:
        """How much is fetched for a request; None: what passes is searched instead."""
        one, num_items = self._wanted[number], self._index.num_items
        at_least = one.k + len(self._excluded[number])
        if one.allowed is None:
            # Enough to lose all that was seen. Requests that need about as much are searched together, so
            # that one long history does not make every other search as wide.
            return min(num_items, 2 ** math.ceil(math.log2(at_least)))
        passing = self._num_passing[number]
        if passing <= _VERY_FEW:
            return None
        share = one.allowed.count / num_items
        width = at_least if share == 1 else math.ceil(_MARGIN * at_least / share)
        step = 2 ** max(0, width.bit_length() - 3)
        width = min(num_items, step * math.ceil(width / step))
        widest = _WIDEST if self._index.partitions is not None else num_items // 4
        return width if width <= max(widest, 2 * at_least) else None

    def _fetch(self, numbers: list[int], width: int) -> list[tuple[int, int]]:
        """Searches the index, and gives the requests for which too few items are left, and how many are."""
        short = []
        each = self._vectors.shape[1] if self._vectors.ndim == 3 else 1
        together = max(1, _MOST_FETCHED // (each * width))
        for start in range(0, len(numbers), together):
            group = numbers[start : start + together]
            rows_BF, scores_BF = self._index.search(self._vectors[group], width)
            keep_BF = ~_contains(rows_BF, [self._excluded[n] for n in group], self._index.num_rows)
            keep_BF &= rows_BF >= 0
            for number, rows, scores, keep in zip(group, rows_BF, scores_BF, keep_BF, strict=True):
                one = self._wanted[number]
                if one.allowed is not None:
                    keep &= one.allowed.contains(rows)
                rows, scores = rows[keep][: one.k], scores[keep][: one.k]
                if one.allowed is None:
                    self._found[number] = Found(rows, scores, INDEX)
                elif len(rows) < min(one.k, self._num_passing[number]):
                    short.append((number, len(rows)))
                else:
                    self._found[number] = Found(rows, scores, OVER_FETCH)
        return short

    def _among(self, number: int) -> Found:
        """Searches the items that pass."""
        one, excluded = self._wanted[number], self._excluded[number]
        assert one.allowed is not None
        query, rows = np.atleast_2d(self._vectors[number]), one.allowed.rows
        more = one.k + len(excluded)
        exact, partitions = self._index.exact, self._index.partitions
        if partitions is None or len(rows) <= max(_FEW, more):
            rows, scores = best_of(rows, exact.scores(rows, query), more)
            plan = EXACT
        else:
            rows, scores = partitions.search(exact, query, rows, more)
            plan = PARTITIONS
        keep = ~np.isin(rows, excluded)
        return Found(rows[keep][: one.k], scores[keep][: one.k], plan)


def _contains(rows_BF: np.ndarray, excluded: Sequence[np.ndarray], num_rows: int) -> np.ndarray:
    """Tells which rows are excluded from their request, in one lookup for all: bool [B, F]."""
    owner_B = np.arange(len(rows_BF))
    keys_BF = rows_BF + owner_B[:, None] * (num_rows + 1)
    lengths = [len(rows) for rows in excluded]
    excluded_keys = np.concatenate(excluded) + np.repeat(owner_B, lengths) * (num_rows + 1)
    return np.isin(keys_BF, excluded_keys)

"""Finds the best items that a request may be answered with; how, depends on how many they are.

Few are scored exactly among themselves. Where many pass, more is fetched from the index than is asked for,
and what does not pass is dropped. Where fewer do, or too few were left, what a filter lists in the order of
one of its columns is scanned as rounded vectors, and the best that pass are scored exactly. What no column
lists is searched leaf by leaf, or, without leaves, all of it is scored: no share costs recall.

Shape legend: B requests, K vectors a user, V items, R rows, d embedding size, F fetched items.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from export.filters.passing_rows import PassingRows
from export.filters.row_set import RowSet
from export.index.item_index import ItemIndex
from export.index.partitions import best_of

# How an answer was found, as it says itself.
INDEX, OVER_FETCH, SCAN = "index", "over_fetch", "scan"
PARTITIONS, EXACT, EMPTY = "partitions", "exact", "empty"
# Results that are fetched at once, some sixty bytes each: what a batch takes does not depend on how long its
# histories are.
_MOST_FETCHED = 1 << 22
# So many items are scored as fast as the index is searched.
_VERY_FEW = 2_048
# So many items are scored at least as fast as leaves are chosen among them, and scanned at least as fast as
# many times what is asked for is fetched.
_FEW = 65_536
# More than this is not fetched from a tree: its leaves are searched with the filter instead.
_WIDEST = 1_024
# At most so many times more is fetched when too few of the first were left.
_AGAIN = 4
# What is fetched beyond the expected share, since the share among the best items is not that of all.
_MARGIN = 1.25


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
    allowed: RowSet | PassingRows | None = None


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
            one.excluded
            if one.allowed is None or not len(one.excluded)
            else one.excluded[one.allowed.contains(one.excluded)]
            for one in wanted
        ]
        # How many can be found at the most.
        self._at_most = [
            index.num_items if one.allowed is None else one.allowed.at_most - len(excluded)
            for one, excluded in zip(wanted, self._excluded, strict=True)
        ]

    def run(self) -> list[Found]:
        widths: dict[int, int] = {}
        few: list[int] = []
        for number, one in enumerate(self._wanted):
            if one.allowed is not None and self._at_most[number] <= 0:
                nothing = np.zeros(0, np.int64)
                self._found[number] = Found(nothing, nothing.astype(np.float32), EMPTY)
            elif (width := self._width(number)) is None:
                few.append(number)
            else:
                widths[number] = width
        while widths:
            wider: dict[int, int] = {}
            for width in sorted(set(widths.values())):
                for number, num_kept in self._fetch(
                    [number for number, one in widths.items() if one == width], width
                ):
                    # Among the best items more may be excluded than among all: often a little more is enough.
                    needed = min(self._wanted[number].k, self._at_most[number])
                    again = min(self._index.num_items, _rounded(_MARGIN * width * needed / max(1, num_kept)))
                    if width < again <= _AGAIN * min(width, _WIDEST):
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
        listing = one.allowed.listing
        if one.allowed.estimate - len(self._excluded[number]) <= _VERY_FEW:
            return None
        if listing is not None and listing.length <= _FEW and self._index.partitions is not None:
            return None
        share = one.allowed.estimate / num_items
        width = at_least if share == 1 else math.ceil(_MARGIN * at_least / share)
        width = min(num_items, _rounded(width))
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
                elif len(rows) < min(one.k, self._at_most[number]):
                    short.append((number, len(rows)))
                else:
                    self._found[number] = Found(rows, scores, OVER_FETCH)
        return short

    def _among(self, number: int) -> Found:
        """Searches the items that pass."""
        one, excluded = self._wanted[number], self._excluded[number]
        assert one.allowed is not None
        query, more = np.atleast_2d(self._vectors[number]), one.k + len(excluded)
        exact, partitions = self._index.exact, self._index.partitions
        scanned = None if partitions is None else self._scan(query, one.allowed, more)
        if scanned is not None:
            (rows, scores), plan = scanned, SCAN
        elif partitions is None or len(one.allowed.rows) <= max(_FEW, more):
            rows, scores = best_of(one.allowed.rows, exact.scores(one.allowed.rows, query), more)
            plan = EXACT
        else:
            rows, scores = partitions.search(exact, query, one.allowed.rows, more)
            plan = PARTITIONS
        if len(excluded):
            keep = ~np.isin(rows, excluded)
            rows, scores = rows[keep], scores[keep]
        rows, scores = rows[: one.k], scores[: one.k]
        return Found(rows, scores, plan if len(rows) else EMPTY)

    def _scan(
        self, query: np.ndarray, allowed: RowSet | PassingRows, k: int
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Scans what a column lists; None where none does, or what it lists is as soon scored exactly."""
        listing = allowed.listing
        if listing is None or listing.length <= max(_VERY_FEW, k):
            return None
        packed = self._index.packed.get(listing.order)
        if packed is None:
            return None
        share = allowed.estimate / listing.length
        return packed.search(self._index.exact, query, listing.places, allowed.contains, share, k)


def _rounded(width: float) -> int:
    """A width of at most an eighth more, so that requests of nearly one width are searched together."""
    step = 2 ** max(0, int(width).bit_length() - 4)
    return step * math.ceil(width / step)


def _contains(rows_BF: np.ndarray, excluded: Sequence[np.ndarray], num_rows: int) -> np.ndarray:
    """Tells which rows are excluded from their request, in one lookup for all: bool [B, F]."""
    owner_B = np.arange(len(rows_BF))
    keys_BF = rows_BF + owner_B[:, None] * (num_rows + 1)
    lengths = [len(rows) for rows in excluded]
    excluded_keys = np.concatenate(excluded) + np.repeat(owner_B, lengths) * (num_rows + 1)
    return np.isin(keys_BF, excluded_keys)

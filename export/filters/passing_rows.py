"""The rows that pass a filter, found as late as can be: at the rows that are asked about, or listed.

Shape legend: R rows, n ranges, N asked rows.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from export.filters.columns import FilterCondition
from export.filters.row_set import RowSet

# Up to this share of the rows they are listed by the sorted columns; beyond, whole columns are read.
_LISTED_SHARE = 1 / 8
# Rows on which the share that passes is measured where the columns do not tell it.
_SAMPLE = 1_024


@dataclass(frozen=True, eq=False)
class Every:
    """All parts hold."""

    parts: tuple["Compiled", ...]


@dataclass(frozen=True, eq=False)
class Either:
    """At least one part holds."""

    parts: tuple["Compiled", ...]


@dataclass(frozen=True, eq=False)
class Without:
    """The part does not hold."""

    part: "Compiled"


Compiled = FilterCondition | Every | Either | Without


class Listing(NamedTuple):
    """Ranges int64 [n, 2] of a column's order in which all that passes stands, and their length together."""

    order: np.ndarray
    places: np.ndarray
    length: int


@dataclass(frozen=True, eq=False)
class PassingRows:
    """What passes an expression, and lies in a set of rows if one is given; beside `RowSet`, lazily.

    Attributes:
      num_rows: R.
      compiled: the expression in the terms of the columns.
      within: where else each row must lie; None: nowhere.
    """

    num_rows: int
    compiled: Compiled
    within: RowSet | None = None

    @cached_property
    def at_most(self) -> int:
        """At least as many as they are; reads no column."""
        most = _at_most(self.compiled, self.num_rows)
        return most if self.within is None else min(most, self.within.count)

    @cached_property
    def estimate(self) -> int:
        """About as many as they are: what one comparison lists is known, else a sample is asked."""
        if not isinstance(self.compiled, Every | Either | Without) and self.compiled.is_exact:
            return self.at_most
        sample = np.arange(0, self.num_rows, max(1, self.num_rows // _SAMPLE))
        share = np.count_nonzero(self.contains(sample)) / max(1, len(sample))
        return min(self.at_most, round(share * self.num_rows))

    @cached_property
    def listing(self) -> Listing | None:
        """The shortest ranges of one order that have them all; None where there are none."""
        return _listing(self.compiled)

    @property
    def count(self) -> int:
        """How many they are."""
        return self.found.count

    @property
    def rows(self) -> np.ndarray:
        """They as a list, int64."""
        return self.found.rows

    @cached_property
    def found(self) -> RowSet:
        """All of them."""
        if _at_most(self.compiled, self.num_rows) > _LISTED_SHARE * self.num_rows:
            rows = RowSet(self.num_rows, mask=_holds(self.compiled, None))
        else:
            candidates = _candidates(self.compiled, self.num_rows)
            if isinstance(self.compiled, Every | Either | Without):
                candidates = candidates[_holds(self.compiled, candidates)]
            rows = RowSet(self.num_rows, listed=candidates)
        return rows if self.within is None else rows.where(self.within)

    def contains(self, rows: np.ndarray) -> np.ndarray:
        """Whether each of some rows, of any shape, is one of them; a row below 0 is none."""
        flat = np.maximum(rows.ravel(), 0)
        held = _holds(self.compiled, flat).reshape(rows.shape) & (rows >= 0)
        return held if self.within is None else held & self.within.contains(rows)

    def where(self, other: RowSet) -> "PassingRows":
        """Those of them that are in a set, too."""
        return replace(self, within=other if self.within is None else self.within.where(other))

    def among(self, rows: np.ndarray) -> RowSet:
        """Those of them that are in a list of distinct rows."""
        return RowSet(self.num_rows, listed=rows[self.contains(rows)])


def _at_most(compiled: Compiled, num_rows: int) -> int:
    if isinstance(compiled, Every):
        return min(_at_most(part, num_rows) for part in compiled.parts)
    if isinstance(compiled, Either):
        return min(num_rows, sum(_at_most(part, num_rows) for part in compiled.parts))
    if isinstance(compiled, Without):
        return num_rows
    return compiled.at_most


def _listing(compiled: Compiled) -> Listing | None:
    """Of several that must hold the shortest; what must not hold, or need not, is not listed."""
    if isinstance(compiled, Every):
        of_parts = [one for one in map(_listing, compiled.parts) if one is not None]
        return min(of_parts, key=lambda one: one.length, default=None)
    if isinstance(compiled, Either | Without):
        return None
    return Listing(compiled.order, compiled.places, compiled.length)


def _candidates(compiled: Compiled, num_rows: int) -> np.ndarray:
    """Distinct rows, among them all that pass; no Without is asked, since it may be every row."""
    if isinstance(compiled, Every):
        return _candidates(min(compiled.parts, key=lambda part: _at_most(part, num_rows)), num_rows)
    if isinstance(compiled, Either):
        return np.unique(np.concatenate([_candidates(part, num_rows) for part in compiled.parts]))
    if isinstance(compiled, Without):
        return np.arange(num_rows)
    return compiled.rows()


def _holds(compiled: Compiled, rows: np.ndarray | None) -> np.ndarray:
    if isinstance(compiled, Every):
        return np.logical_and.reduce([_holds(part, rows) for part in compiled.parts])
    if isinstance(compiled, Either):
        return np.logical_or.reduce([_holds(part, rows) for part in compiled.parts])
    if isinstance(compiled, Without):
        return ~_holds(compiled.part, rows)
    return compiled.holds(rows)

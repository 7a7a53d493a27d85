"""Numbers, or times as seconds since 1970 in UTC, as filters compare them. Shape legend: R rows."""

import reprlib
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Literal

import numpy as np

from export.filters.columns import FilterCondition, Kind, listed
from export.filters.expression import Among, Comparison, HasAll, IsMissing, Value
from export.store.bundle_errors import FilterError


class NumberColumn:
    """The number of each row, and the rows by their numbers."""

    def __init__(self, name: str, kind: Kind, values: np.ndarray):
        """Sorts float64 [R] values, of which NaN is missing; the kind is "numeric" or "time"."""
        self.name, self.kind = name, kind
        self.order = np.argsort(values, kind="stable")  # what is missing comes last
        self._sorted = values[self.order]
        self._num_present = int(np.searchsorted(self._sorted, np.nan))
        # Where each row stands in the order: what a comparison wants are ranges of it.
        self.place_of_row = np.empty(len(values), np.min_scalar_type(len(values)))
        self.place_of_row[self.order] = np.arange(len(values))

    def compile(self, comparison: Comparison) -> FilterCondition:
        """Finds where the rows that pass stand; raises FilterError where the comparison does not fit."""
        if isinstance(comparison, HasAll):
            raise FilterError(f"{self.name}: is {self.kind}; all compares the values of a multi column.")
        if isinstance(comparison, IsMissing):
            return NumberCondition(self, np.array([[self._num_present, len(self.order)]]))
        if isinstance(comparison, Among):
            numbers = sorted({self._number(value) for value in comparison.values})
            starts = np.searchsorted(self._sorted, numbers, "left")
            return NumberCondition(
                self, np.stack([starts, np.searchsorted(self._sorted, numbers, "right")], 1)
            )
        first, last = 0, self._num_present
        if comparison.low is not None:
            side: Literal["left", "right"] = "left" if comparison.low_counts else "right"
            first = int(np.searchsorted(self._sorted, self._number(comparison.low), side))
        if comparison.high is not None:
            side = "right" if comparison.high_counts else "left"
            last = int(np.searchsorted(self._sorted, self._number(comparison.high), side))
        return NumberCondition(self, np.array([[first, max(first, last)]]))

    def _number(self, value: Value) -> float:
        if isinstance(value, int | float) and not isinstance(value, bool):
            try:
                return float(value)
            except OverflowError:
                pass
        elif isinstance(value, str) and self.kind == "time":
            try:
                return seconds_of(value)
            except (ValueError, OverflowError):
                pass
        wanted = "a number" if self.kind == "numeric" else "a time such as 2026-01-31 or 2026-01-31T12:00:00Z"
        raise FilterError(f"{self.name}: got {reprlib.repr(value)}; it is {self.kind}, wanted {wanted}.")


@dataclass(frozen=True, eq=False)
class NumberCondition:
    """A row stands in some ranges [first, last) of the order: int64 [n, 2], ascending."""

    column: NumberColumn
    places: np.ndarray
    is_exact: bool = True

    @property
    def order(self) -> np.ndarray:
        """The rows by their numbers."""
        return self.column.order

    @cached_property
    def length(self) -> int:
        """How many places these are."""
        return sum(last - first for first, last in self.places.tolist())

    @property
    def at_most(self) -> int:
        """How many rows pass."""
        return self.length

    def rows(self) -> np.ndarray:
        """The rows that pass."""
        return np.sort(listed(self.order, self.places))

    def holds(self, rows: np.ndarray | None) -> np.ndarray:
        """Whether rows pass."""
        places = self.column.place_of_row if rows is None else self.column.place_of_row[rows]
        if len(self.places) == 1:
            [[first, last]] = self.places.tolist()
            return (places >= first) & (places < last)
        # Inside a range more starts than ends lie at or before the place.
        starts = np.searchsorted(self.places[:, 0], places, "right")
        return starts > np.searchsorted(self.places[:, 1], places, "right")


def seconds_of(text: str) -> float:
    """Seconds since 1970 of a date or a time in ISO 8601, in UTC where it names no zone; ValueError."""
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()

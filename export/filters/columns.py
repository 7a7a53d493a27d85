"""The columns that filters compare, by the rows of a catalogue.

Each keeps its values by row and, sorted, the rows by value: a comparison that few items pass reads only
those, one that many pass reads the column once. Shape legend: R rows, E entries (row, label) of labels.
"""

import reprlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal, Protocol

import numpy as np

from export.filters.expression import Among, Between, Comparison, HasAll, IsMissing, Value
from export.store.bundle_errors import FilterError

Kind = Literal["category", "multi", "boolean", "numeric", "time"]


class FilterColumn(Protocol):
    """Answers the comparisons of one column."""

    kind: Kind

    def check(self, comparison: Comparison) -> None:
        """Raises FilterError where the comparison does not fit the kind of the column."""

    def at_most(self, comparison: Comparison) -> int:
        """At least as many as the rows that pass; reads no column."""

    def passing(self, comparison: Comparison) -> np.ndarray:
        """The rows that pass, int64, distinct."""

    def holds(self, comparison: Comparison, rows: np.ndarray | None) -> np.ndarray:
        """Whether each of some rows passes, or each of all R when None: bool."""


class LabelColumn:
    """Categories, several of them in a row, or truth values."""

    def __init__(
        self, name: str, kind: Kind, num_rows: int, rows: np.ndarray, codes: np.ndarray, labels: Sequence[str]
    ):
        """Sorts the entries.

        Args:
          name: for messages.
          kind: "category", "multi" or "boolean"; only of "multi" may a row have several entries.
          num_rows: R.
          rows: int64 [E], each below R.
          codes: int [E], places in `labels`.
          labels: what is compared; of "boolean" "false" and "true".
        """
        self.name, self.kind, self._num_rows = name, kind, num_rows
        self._code_of = {label: code for code, label in enumerate(labels)}
        order = np.argsort(codes, kind="stable")
        self._rows_by_code = rows[order]
        self._starts = np.searchsorted(codes[order], np.arange(len(labels) + 1))
        # One label a row fits a single array; of several in a row only the sorted entries are kept.
        self._codes: np.ndarray | None = None
        if kind != "multi":
            smallest = np.min_scalar_type(-max(1, len(labels)))
            self._codes = np.full(num_rows, -1, smallest)
            self._codes[rows] = codes

    def check(self, comparison: Comparison) -> None:
        """Raises FilterError where the comparison does not fit."""
        if isinstance(comparison, Between):
            raise FilterError(f"{self.name}: is {self.kind}; lt, le, gt and ge compare numbers and times.")
        if isinstance(comparison, Among | HasAll):
            for value in comparison.values:
                self._label(value)

    def at_most(self, comparison: Comparison) -> int:
        """How many rows can pass."""
        if isinstance(comparison, IsMissing):
            return self._num_rows
        lengths = [self._starts[code + 1] - self._starts[code] for code in self._codes_in(comparison)]
        if isinstance(comparison, HasAll):
            return int(min(lengths, default=0)) if len(lengths) == len(set(comparison.values)) else 0
        return int(min(self._num_rows, sum(lengths)))

    def passing(self, comparison: Comparison) -> np.ndarray:
        """The rows that pass."""
        if isinstance(comparison, Among):
            lists = [self._of(code) for code in self._codes_in(comparison)]
            if self.kind == "multi" and len(lists) > 1:
                return np.unique(np.concatenate(lists))
            # In the order of the rows, so that whatever is read of them next is read in its order.
            return np.sort(np.concatenate(lists)) if lists else np.zeros(0, np.int64)
        if isinstance(comparison, HasAll):
            if not self.at_most(comparison):
                return np.zeros(0, np.int64)
            lists = sorted((self._of(code) for code in self._codes_in(comparison)), key=len)
            rows = lists[0]
            for other in lists[1:]:
                rows = np.intersect1d(rows, other, assume_unique=True)
            return rows
        return np.flatnonzero(self.holds(comparison, None))

    def holds(self, comparison: Comparison, rows: np.ndarray | None) -> np.ndarray:
        """Whether rows pass."""
        if self._codes is not None and not isinstance(comparison, HasAll):
            codes = self._codes if rows is None else self._codes[rows]
            if isinstance(comparison, IsMissing):
                return codes < 0
            wanted = self._codes_in(comparison)
            if len(wanted) == 1:
                return codes == wanted[0]
            is_wanted = np.zeros(len(self._starts), bool)  # the last place is that of -1
            is_wanted[wanted] = True
            return is_wanted[codes]
        mask = np.zeros(self._num_rows, bool)
        mask[self._rows_by_code if isinstance(comparison, IsMissing) else self.passing(comparison)] = True
        mask = ~mask if isinstance(comparison, IsMissing) else mask
        return mask if rows is None else mask[rows]

    def codes(self, rows: np.ndarray) -> np.ndarray:
        """Which label each row has, -1 for none; of a column with one label a row."""
        assert self._codes is not None
        return self._codes[rows]

    def _of(self, code: int) -> np.ndarray:
        return self._rows_by_code[self._starts[code] : self._starts[code + 1]]

    def _codes_in(self, comparison: Comparison) -> list[int]:
        """The codes of the values that any item has, each once."""
        assert isinstance(comparison, Among | HasAll)
        labels = dict.fromkeys(self._label(value) for value in comparison.values)
        return [self._code_of[label] for label in labels if label in self._code_of]

    def _label(self, value: Value) -> str:
        """The label that a value of a filter means; integers are taken for strings, as ids are."""
        if isinstance(value, bool) == (self.kind == "boolean") and not isinstance(value, float):
            return str(value).lower() if isinstance(value, bool) else str(value)
        wanted = "true or false" if self.kind == "boolean" else "strings or integers"
        raise FilterError(f"{self.name}: got {reprlib.repr(value)}; it is {self.kind}, wanted {wanted}.")


class NumberColumn:
    """Numbers, or times as seconds since 1970 in UTC."""

    def __init__(self, name: str, kind: Kind, values: np.ndarray):
        """Sorts float64 [R] values, of which NaN is missing; the kind is "numeric" or "time"."""
        self.name, self.kind, self._values = name, kind, values
        self._order = np.argsort(values, kind="stable")  # what is missing comes last
        self._sorted = values[self._order]
        self._num_present = int(np.searchsorted(self._sorted, np.nan))

    def check(self, comparison: Comparison) -> None:
        """Raises FilterError where the comparison does not fit."""
        self._ranges(comparison)

    def at_most(self, comparison: Comparison) -> int:
        """How many rows can pass."""
        return sum(max(0, last - first) for first, last in self._ranges(comparison))

    def passing(self, comparison: Comparison) -> np.ndarray:
        """The rows that pass."""
        parts = [self._order[first:last] for first, last in self._ranges(comparison)]
        return np.sort(np.concatenate(parts)) if parts else np.zeros(0, np.int64)

    def holds(self, comparison: Comparison, rows: np.ndarray | None) -> np.ndarray:
        """Whether rows pass."""
        values = self._values if rows is None else self._values[rows]
        if isinstance(comparison, IsMissing):
            return np.isnan(values)
        if isinstance(comparison, Between):
            mask = ~np.isnan(values) if comparison.low is None and comparison.high is None else None
            if comparison.low is not None:
                low = self._number(comparison.low)
                mask = values >= low if comparison.low_counts else values > low
            if comparison.high is not None:
                high = self._number(comparison.high)
                below = values <= high if comparison.high_counts else values < high
                mask = below if mask is None else mask & below
            return mask if mask is not None else np.zeros(len(values), bool)
        return np.isin(values, [self._number(value) for value in self._among(comparison)])

    def _ranges(self, comparison: Comparison) -> list[tuple[int, int]]:
        """Where the rows that pass stand in the order, one after the other."""
        if isinstance(comparison, IsMissing):
            return [(self._num_present, len(self._order))]
        if isinstance(comparison, Between):
            first, last = 0, self._num_present
            if comparison.low is not None:
                side: Literal["left", "right"] = "left" if comparison.low_counts else "right"
                first = int(np.searchsorted(self._sorted, self._number(comparison.low), side))
            if comparison.high is not None:
                side = "right" if comparison.high_counts else "left"
                last = int(np.searchsorted(self._sorted, self._number(comparison.high), side))
            return [(first, max(first, last))]
        numbers = sorted({self._number(value) for value in self._among(comparison)})
        starts = np.searchsorted(self._sorted, numbers, "left").tolist()
        return list(zip(starts, np.searchsorted(self._sorted, numbers, "right").tolist(), strict=True))

    def _among(self, comparison: Comparison) -> tuple[Value, ...]:
        if not isinstance(comparison, Among):
            raise FilterError(f"{self.name}: is {self.kind}; all compares the values of a multi column.")
        return comparison.values

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


def seconds_of(text: str) -> float:
    """Seconds since 1970 of a date or a time in ISO 8601, in UTC where it names no zone; ValueError."""
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()

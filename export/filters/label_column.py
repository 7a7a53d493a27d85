"""Categories, several of them in a row, or truth values, as filters compare them.

A label is a small whole number, its code. A comparison becomes a table of codes, so that it is read at the
rows that are asked about and nowhere else. Shape legend: R rows, E entries (row, label), C labels.
"""

import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from export.filters.columns import FilterCondition, Kind, listed
from export.filters.expression import Between, Comparison, HasAll, IsMissing, Value
from export.store.bundle_errors import FilterError


class _Codes(dict):
    """Label -> code; -1 of a label that no item has."""

    def __missing__(self, label: str) -> int:
        return -1


class LabelColumn:
    """The labels of each row, and the rows of each label."""

    def __init__(
        self, name: str, kind: Kind, num_rows: int, rows: np.ndarray, codes: np.ndarray, labels: Sequence[str]
    ):
        """Sorts the entries.

        Args:
          name: for messages.
          kind: "category", "multi" or "boolean"; only of "multi" may a row have several entries.
          num_rows: R.
          rows: int64 [E], each below R, ascending.
          codes: int [E], places in `labels`.
          labels: what is compared; of "boolean" "false" and "true".
        """
        self.name, self.kind, self.num_rows = name, kind, num_rows
        self._code_of = _Codes((label, code) for code, label in enumerate(labels))
        self.num_labels = len(labels)
        by_code = np.argsort(codes, kind="stable")
        has_none = np.ones(num_rows, bool)
        has_none[rows] = False
        # The rows of each code one after the other, at last those that have none.
        self.order = np.concatenate([rows[by_code], np.flatnonzero(has_none)])
        self.starts = np.append(
            np.searchsorted(codes[by_code], np.arange(self.num_labels + 1)), len(self.order)
        )
        # One label a row fits a single array, in which none is C. Of several a row has a range of entries.
        self.code_of_entry = codes.astype(np.min_scalar_type(self.num_labels))
        self.ends: np.ndarray | None = None
        if kind == "multi":
            self.ends = np.searchsorted(rows, np.arange(num_rows), "right")
        else:
            self.code_of_row = np.full(num_rows, self.num_labels, self.code_of_entry.dtype)
            self.code_of_row[rows] = self.code_of_entry

    def codes(self, rows: np.ndarray) -> np.ndarray:
        """Which label each row has, int64, -1 for none; of a column with one label a row."""
        codes = self.code_of_row[rows].astype(np.int64)
        return np.where(codes == self.num_labels, -1, codes)

    def compile(self, comparison: Comparison) -> FilterCondition:
        """Finds the codes; raises FilterError where the comparison does not fit."""
        if isinstance(comparison, Between):
            raise FilterError(f"{self.name}: is {self.kind}; lt, le, gt and ge compare numbers and times.")
        if isinstance(comparison, IsMissing):
            return LabelCondition(self, np.array([self.num_labels]), 1)
        labels = comparison.values
        if self.kind == "boolean" or set(map(type, labels)) != {str}:
            labels = tuple(map(self._label, labels))
        codes = np.fromiter(map(self._code_of.__getitem__, labels), np.int64, len(labels))
        codes.sort()
        is_first = np.append(True, codes[1:] != codes[:-1])[: len(codes)]
        needed = len(set(labels)) if isinstance(comparison, HasAll) else 1
        return LabelCondition(self, codes[is_first & (codes >= 0)], needed)

    def _label(self, value: Value) -> str:
        """The label that a value of a filter means; integers are taken for strings, as ids are."""
        if isinstance(value, bool) == (self.kind == "boolean") and not isinstance(value, float):
            return str(value).lower() if isinstance(value, bool) else str(value)
        wanted = "true or false" if self.kind == "boolean" else "strings or integers"
        raise FilterError(f"{self.name}: got {reprlib.repr(value)}; it is {self.kind}, wanted {wanted}.")


@dataclass(frozen=True, eq=False)
class LabelCondition:
    """A row has at least `needed` of some codes, of which C stands for none: int64, ascending."""

    column: LabelColumn
    codes: np.ndarray
    needed: int

    @property
    def order(self) -> np.ndarray:
        """The rows by their codes."""
        return self.column.order

    @cached_property
    def places(self) -> np.ndarray:
        """Where the codes stand; where a row needs several, the rarest of them."""
        codes, starts = self.codes, self.column.starts
        if self.needed > 1 and len(codes):
            codes = codes[[np.argmin(starts[codes + 1] - starts[codes])]]
        if len(self.codes) < self.needed:
            codes = codes[:0]
        return np.stack([starts[codes], starts[codes + 1]], axis=1)

    @property
    def is_exact(self) -> bool:
        """Whether every row that stands there passes."""
        return self.needed <= 1 or not len(self.places)

    @cached_property
    def length(self) -> int:
        """How many places these are."""
        return int(self.places[:, 1].sum() - self.places[:, 0].sum())

    @property
    def at_most(self) -> int:
        """How many rows can pass."""
        return min(self.column.num_rows, self.length)

    def rows(self) -> np.ndarray:
        """The rows that pass."""
        rows = listed(self.order, self.places)
        rows = np.unique(rows) if self.column.ends is not None else np.sort(rows)
        return rows if self.is_exact else rows[self.holds(rows)]

    def holds(self, rows: np.ndarray | None) -> np.ndarray:
        """Whether rows pass."""
        column = self.column
        if column.ends is not None:
            return self._holds_of_several(np.arange(column.num_rows) if rows is None else rows)
        codes = column.code_of_row if rows is None else column.code_of_row[rows]
        if len(self.codes) == self.needed == 1:
            return codes == self.codes[0]
        return self._is_wanted.take(codes, mode="clip")

    @cached_property
    def _is_wanted(self) -> np.ndarray:
        is_wanted = np.zeros(self.column.num_labels + 1, bool)
        is_wanted[self.codes] = self.needed <= len(self.codes)
        if self.column.ends is None and self.needed > 1:
            is_wanted[:] = False  # a row has but one
        return is_wanted

    def _holds_of_several(self, rows: np.ndarray) -> np.ndarray:
        """Counts the wanted codes of each row: those before its end less those before its start."""
        ends = self.column.ends
        assert ends is not None
        last = ends[rows]
        first = np.where(rows > 0, ends[rows - 1], 0)
        if len(self.codes) and self.codes[-1] == self.column.num_labels:
            return first == last
        if len(self.codes) < self.needed:
            return np.zeros(len(rows), bool)
        lengths = last - first
        before = np.cumsum(lengths) - lengths
        entries = np.arange(lengths.sum()) + np.repeat(first - before, lengths)
        counts = np.append(
            0, np.cumsum(self._is_wanted.take(self.column.code_of_entry[entries], mode="clip"))
        )
        return counts[before + lengths] - counts[before] >= max(1, self.needed)

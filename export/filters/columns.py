"""What a column that filters compare offers. Shape legend: R rows, E places of an order, n ranges."""

from typing import Literal, Protocol

import numpy as np

from export.filters.expression import Comparison

Kind = Literal["category", "multi", "boolean", "numeric", "time"]


class FilterCondition(Protocol):
    """A comparison in the terms of its column: what it costs is known before anything is compared."""

    @property
    def order(self) -> np.ndarray:
        """All R rows by their values, int64 [E]; those with several values several times."""

    @property
    def places(self) -> np.ndarray:
        """Ranges [first, last) of the order in which all that passes stands: int64 [n, 2], ascending."""

    @property
    def length(self) -> int:
        """How many places these are."""

    @property
    def is_exact(self) -> bool:
        """Whether every row that stands there passes."""

    @property
    def at_most(self) -> int:
        """At least as many as the rows that pass."""

    def rows(self) -> np.ndarray:
        """The rows that pass, int64, ascending."""

    def holds(self, rows: np.ndarray | None) -> np.ndarray:
        """Whether each of some rows [N] passes, or each of all R when None: bool."""


class FilterColumn(Protocol):
    """Reads the comparisons of one column."""

    kind: Kind

    def compile(self, comparison: Comparison) -> FilterCondition:
        """Raises FilterError where the comparison does not fit the kind of the column."""


def listed(order: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The rows that stand in ranges of an order, in its order."""
    parts = [order[first:last] for first, last in places.tolist()]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)

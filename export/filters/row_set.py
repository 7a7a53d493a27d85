"""Some rows of a catalogue: as a list where they are few, as a mask where they are many."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

_SORTED_AT_ONCE = 1_024  # a longer list is looked up in a mask: to sort it would take longer


@dataclass(frozen=True, eq=False)
class RowSet:
    """Rows below `num_rows`; exactly one of the two forms is given.

    Attributes:
      num_rows: R.
      listed: int64, distinct, in no order.
      mask: bool [R].
    """

    num_rows: int
    listed: np.ndarray | None = None
    mask: np.ndarray | None = None

    @cached_property
    def count(self) -> int:
        """How many they are."""
        return len(self.listed) if self.listed is not None else int(np.count_nonzero(self._held))

    @property
    def at_most(self) -> int:
        """How many they are, as of `PassingRows` at least as many."""
        return self.count

    @property
    def estimate(self) -> int:
        """How many they are."""
        return self.count

    @property
    def listing(self) -> None:
        """No column lists them."""
        return None

    @cached_property
    def rows(self) -> np.ndarray:
        """They as a list, int64."""
        return self.listed if self.listed is not None else np.flatnonzero(self._held)

    @cached_property
    def _held(self) -> np.ndarray:
        if self.mask is not None:
            return self.mask
        held = np.zeros(self.num_rows, bool)
        held[self.listed] = True
        return held

    def contains(self, rows: np.ndarray) -> np.ndarray:
        """Whether each of some rows, of any shape, is one of them; a row below 0 is none."""
        if self.listed is not None and len(self.listed) <= _SORTED_AT_ONCE:
            return np.isin(rows, self.listed)
        return self._held[rows] & (rows >= 0)

    def where(self, other: "RowSet") -> "RowSet":
        """Those of them that are in another set, too."""
        if self.listed is not None:
            return RowSet(self.num_rows, listed=self.listed[other.contains(self.listed)])
        if other.listed is not None:
            return other.where(self)
        return RowSet(self.num_rows, mask=self._held & other._held)

    def among(self, rows: np.ndarray) -> "RowSet":
        """Those of them that are in a list of distinct rows."""
        return RowSet(self.num_rows, listed=rows[self.contains(rows)])

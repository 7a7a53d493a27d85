"""What has changed since an index was built: items added, replaced and withdrawn.

ScaNN's files stay as they were built. What is added is searched exactly beside them, what is withdrawn
or replaced is left out of their answers. (ScaNN 1.4.2 can change its own index in place, but with spilling or
int8 that corrupts its memory: it ended the process on the first deletions and reloads that were tried.)

A row stands for an item for ever: rows are never moved or given to another item, since row r is also
vocabulary index r + 1 of the tower. A slot is a place among the vectors that ScaNN holds.
Shape legend: R rows, S slots, A added or replaced items, W withdrawn ones, d embedding size.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from export.errors import BundleError

CHANGES = "changes.npz"


@dataclass(frozen=True)
class Changes:
    """The difference between what ScaNN holds and the catalogue.

    Attributes:
      num_rows: R, withdrawn items included.
      row_of_slot: int64 [S].
      added_rows: int64 [A], ascending: the items whose vector is not, or not any more, the one of a slot.
      added_vectors: float32 [A, d].
      withdrawn_rows: int64 [W], ascending: the items that are never answered.
    """

    num_rows: int
    row_of_slot: np.ndarray
    added_rows: np.ndarray
    added_vectors: np.ndarray
    withdrawn_rows: np.ndarray

    @classmethod
    def none(cls, num_items: int, dimension: int) -> "Changes":
        """The state of an index that was just built: slot s is row s."""
        nothing = np.zeros(0, np.int64)
        return cls(num_items, np.arange(num_items), nothing, np.zeros((0, dimension), np.float32), nothing)

    @cached_property
    def is_hidden(self) -> np.ndarray:
        """Bool [R]: rows for which a slot must not answer."""
        hidden = np.zeros(self.num_rows, bool)
        hidden[self.withdrawn_rows] = True
        hidden[self.added_rows] = True
        return hidden

    @cached_property
    def num_hidden(self) -> int:
        """How many slots must not answer."""
        return int(self.is_hidden[self.row_of_slot].sum())

    @property
    def num_items(self) -> int:
        """The items that can be answered."""
        return self.num_rows - len(self.withdrawn_rows)

    @property
    def share(self) -> float:
        """Items added, replaced or withdrawn since the index was built, as a share of what it holds."""
        only_added = len(self.added_rows) - int(np.isin(self.added_rows, self.row_of_slot).sum())
        return (only_added + self.num_hidden) / len(self.row_of_slot)

    def save(self, path: Path) -> None:
        """Writes the arrays as one uncompressed .npz."""
        np.savez(
            path,
            num_rows=self.num_rows,
            row_of_slot=self.row_of_slot,
            added_rows=self.added_rows,
            added_vectors=self.added_vectors,
            withdrawn_rows=self.withdrawn_rows,
        )

    @classmethod
    def load(cls, path: Path) -> "Changes":
        """Reads what `save` wrote; raises BundleError when it cannot be read."""
        names = ("row_of_slot", "added_rows", "added_vectors", "withdrawn_rows")
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return cls(int(arrays["num_rows"]), *(arrays[name] for name in names))
        except (OSError, ValueError, KeyError) as error:
            raise BundleError(f"{path} cannot be read ({error}); publish again.") from error

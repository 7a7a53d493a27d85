"""Lists of different lengths as one flat array, row after row: a row is one user's list. No TensorFlow.

Shapes: U users; entries, the items of all users together.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np


def row_splits(lengths: np.ndarray) -> np.ndarray:
    """Where rows of these lengths, int [U], start, and where the last one ends: int64 [U + 1]."""
    splits = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=splits[1:])
    return splits


def rows_and_positions(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The row of each entry of rows of these lengths, int [U], and its place in the row: int64 [entries]."""
    rows = np.repeat(np.arange(len(lengths)), lengths)
    return rows, np.arange(len(rows)) - row_splits(lengths)[rows]


@dataclass(frozen=True)
class ItemLists:
    """A list of items for each user, ragged.

    Attributes:
      items: int32 [entries], vocabulary indices.
      row_splits: int64 [U + 1]; user `u` owns the entries from `row_splits[u]` on, up to but
        without `row_splits[u + 1]`.
    """

    items: np.ndarray
    row_splits: np.ndarray

    def __len__(self) -> int:
        """The number of users, U."""
        return len(self.row_splits) - 1

    def __getitem__(self, user: int) -> np.ndarray:
        """The items of one user, int32 [items of the user]; -1 is the last user."""
        user = range(len(self))[user]
        return self.items[self.row_splits[user] : self.row_splits[user + 1]]

    def __iter__(self) -> Iterator[np.ndarray]:
        """The items of one user after the other."""
        return (self[user] for user in range(len(self)))

    def part(self, start: int, stop: int) -> "ItemLists":
        """The lists of the users from `start` up to but without `stop`."""
        splits = self.row_splits[start : stop + 1]
        return ItemLists(self.items[splits[0] : splits[-1]], splits - splits[0])

    def take(self, users: np.ndarray) -> "ItemLists":
        """The lists of some users, int [any number], in that order."""
        lengths = np.diff(self.row_splits)[users]
        rows, positions = rows_and_positions(lengths)
        return ItemLists(self.items[self.row_splits[users][rows] + positions], row_splits(lengths))

    def rows_and_positions(self) -> tuple[np.ndarray, np.ndarray]:
        """The user of each entry and its position in the user's list, int64 [entries] each."""
        return rows_and_positions(np.diff(self.row_splits))

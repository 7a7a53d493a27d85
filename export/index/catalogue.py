"""One version's catalogue: ids, names and index; finds the best items that a user has not seen.

Shape legend: B requests, K vectors a user, V items, R rows (V and the withdrawn ones), d embedding size.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from export.index.engine import OpenEngine
from export.index.engines import open_best
from export.index.filtered_search import EMPTY, EXACT, Found, Wanted, search
from export.index.item_index import ItemIndex
from export.index.labels import read_labels
from export.index.nearest import nearest
from export.store.bundle_errors import BundleError

POPULAR = "popular"  # how an answer was found that is the most popular items
_ROWS_OF_A_TEXT = 4096


class Catalogue:
    """The items of one version. A row is a line of `ids.txt`, counted from 0.

    `export/update_index.py` adds rows that the tower does not know, and withdraws rows that it does. What
    was added is answered, and is unknown in histories; what was withdrawn is known there, and never answered.
    """

    def __init__(self, index: ItemIndex, item_ids: Sequence[str], item_names: Sequence[str] | None = None):
        """Composes the parts; `Catalogue.load` takes them from a directory.

        The R ids, and the names for people if there are any, stand in the order of the index's rows: the most
        popular first, then what was added later.
        """
        self._index = index
        self._item_ids = np.array(item_ids, dtype=object)
        self._names = item_names
        self._row_of = {item_id: row for row, item_id in enumerate(item_ids)}

    @classmethod
    def load(cls, directory: Path, open_engine: OpenEngine = open_best) -> "Catalogue":
        """Opens `<bundle>/item_index/<fingerprint>`, to be searched with an engine.

        Raises:
          BundleError: a file is missing or damaged, or the directory holds another version's index.
        """
        index = ItemIndex.load(directory, open_engine)
        if index.fingerprint != directory.name:
            raise BundleError(
                f"The index {directory} has the fingerprint {index.fingerprint}: it and the tower"
                f" {directory.name} do not belong together. Publish the run again."
            )
        return cls(index, *read_labels(directory, index.num_rows))

    def __len__(self) -> int:
        """R, the rows, withdrawn ones included."""
        return self._index.num_rows

    @property
    def version(self) -> str:
        """The fingerprint of the index, and of the tower whose vectors it answers."""
        return self._index.fingerprint

    @property
    def num_items(self) -> int:
        """The items that can be answered, V."""
        return self._index.num_items

    @property
    def dimension(self) -> int:
        """Size of the vectors that are searched, d."""
        return self._index.description["dimension"]

    @property
    def is_updated(self) -> bool:
        """Whether `export/update_index.py` changed the items since the run was published."""
        return "update" in self._index.description

    @property
    def num_rows(self) -> int:
        """The items of the index, withdrawn ones included, R."""
        return self._index.num_rows

    @property
    def vocabulary_size(self) -> int:
        """The tower knows so many of the first rows."""
        return self._index.vocabulary_size

    @property
    def vocabulary(self) -> list[str]:
        """The ids that the tower knows, in the order of its vocabulary."""
        return self._item_ids[: self._index.vocabulary_size].tolist()

    @property
    def all_ids(self) -> list[str]:
        """The ids of all R rows."""
        return self._item_ids.tolist()

    def can_answer(self, rows: np.ndarray) -> np.ndarray:
        """Whether each of some rows can be answered, bool: is not withdrawn."""
        return self._index.can_answer(rows)

    @property
    def answered_ids(self) -> list[str]:
        """The ids that can be answered, most popular first."""
        return self.ids(self.answered_rows)

    @property
    def answered_rows(self) -> np.ndarray:
        """The rows that can be answered, int64 [V], most popular first."""
        return self._index.first_rows(self._index.num_rows)

    @property
    def has_names(self) -> bool:
        """Whether items have names of their own, beside their ids."""
        return self._names is not None

    def vectors_of(self, rows: np.ndarray) -> np.ndarray:
        """The exact vectors of N rows, float32 [N, d]: with a user's, their inner product is the score."""
        return self._index.vectors_of(rows)

    def ids(self, rows: np.ndarray) -> list[str]:
        """The ids of some rows."""
        return self._item_ids[rows].tolist()

    def rows(self, history: Sequence[str]) -> np.ndarray:
        """The rows int64 [n] of a history's items, in its order, without those that have none."""
        rows = (self._row_of.get(item, -1) for item in history)
        return np.array([row for row in rows if row >= 0], np.int64)

    def known(self, rows: np.ndarray) -> np.ndarray:
        """Those of some rows that the tower knows, in their order."""
        return rows[rows < self._index.vocabulary_size]

    def knows(self, item_id: str) -> bool:
        """Tells whether the tower knows an item."""
        return self._row_of.get(item_id, self._index.vocabulary_size) < self._index.vocabulary_size

    def name_of(self, item_id: str) -> str:
        """A name to read: the item's, or its id when there is none."""
        row = self._row_of.get(item_id)
        return item_id if row is None or self._names is None else self._names[row]

    def find(self, text: str, limit: int) -> list[str]:
        """The ids of items whose id or name contains a text, upper and lower case alike.

        First those whose id or name begins with it, the most popular first, then the others likewise.
        """
        wanted = text.casefold()
        if "\n" in wanted:  # which stands between the lines that are searched
            return []
        found = list(itertools.islice(self._rows_with(f"\n{wanted}"), limit))
        if len(found) < limit:
            begin = set(found)
            others = (row for row in self._rows_with(wanted) if row not in begin)
            found += itertools.islice(others, limit - len(found))
        return self.ids(np.array(found, np.int64))

    def _rows_with(self, wanted: str) -> Iterator[int]:
        """The rows, ascending, whose lines contain a text."""
        for number, (lines, starts) in enumerate(self._folded):
            place = 0
            while 0 <= (place := lines.find(wanted, place)) < len(lines):
                row = int(np.searchsorted(starts, place, side="right")) - 1
                yield number * _ROWS_OF_A_TEXT + row
                place = int(starts[row + 1])

    @functools.cached_property
    def _folded(self) -> list[tuple[str, np.ndarray]]:
        r"""What is searched for a text, made at the first search: texts of some thousand rows.

        Of each row one has "\n" and the name, if there are names, then "\n" and the id, without upper case;
        beside it stands where each of its rows begins, and where the last one ends. Python searches a text
        without letting another thread go on: all rows in one would hold up every request.
        """
        lines = [f"\n{item_id}".casefold() for item_id in self._item_ids]
        if self._names is not None:
            lines = [f"\n{name}".casefold() + line for name, line in zip(self._names, lines, strict=True)]
        blocks = (lines[start : start + _ROWS_OF_A_TEXT] for start in range(0, len(lines), _ROWS_OF_A_TEXT))
        return [("".join(block), np.cumsum([0, *map(len, block)])) for block in blocks]

    def most_popular(self, wanted: Wanted) -> Found:
        """The answer for a user of whom nothing is known: k of the rows that are wanted, and zeros."""
        k, excluded = wanted.k, wanted.excluded
        if wanted.allowed is None:
            rows = self._index.first_rows(k + len(excluded))
        else:
            rows = np.sort(wanted.allowed.rows)
        # The ids are ordered by how often they occur in training.
        rows = np.setdiff1d(rows, excluded, assume_unique=True)[:k]
        return Found(rows, np.zeros(len(rows), np.float32), POPULAR if len(rows) else EMPTY)

    def similar(self, row: int, wanted: Wanted) -> Found:
        """Finds the items nearest to a row's, without itself, by the cosine of their vectors.

        Where all vectors have length one that is the inner product, and the index is searched; elsewhere
        everything that may be answered is compared.
        """
        excluded = np.union1d(wanted.excluded, row)
        if self._index.description["similarity"] == "cosine":
            without = dataclasses.replace(wanted, excluded=excluded)
            return self.top(self.vectors_of(np.array([row])), [without])[0]
        rows = np.sort(wanted.allowed.rows) if wanted.allowed is not None else self.answered_rows
        rows = np.setdiff1d(rows, excluded, assume_unique=True)
        if not len(rows):
            return Found(rows, np.zeros(0, np.float32), EMPTY)
        return Found(*nearest(self._index, row, rows, wanted.k), EXACT)

    def top(self, vectors: np.ndarray, wanted: Sequence[Wanted]) -> list[Found]:
        """Finds the best of what each of B users [B, d] or [B, K, d] wants: see `filtered_search.search`."""
        return search(self._index, vectors, wanted)

    @property
    def answerable(self) -> np.ndarray:
        """Bool [R], a new array: the rows that are not withdrawn."""
        mask = np.zeros(self._index.num_rows, bool)
        mask[self._index.first_rows(self._index.num_rows)] = True
        return mask

    def prepare(self) -> None:
        """Makes now what the first filtered search would wait for."""
        _ = self._index.partitions

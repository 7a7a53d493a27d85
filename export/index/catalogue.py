"""One version's catalogue: ids, names and index; finds the best items that a user has not seen.

Shape legend: B requests, K vectors a user, V items, R rows (V and the withdrawn ones), d embedding size,
F fetched items.
"""

import functools
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from export.index.engine import OpenEngine
from export.index.engines import open_best
from export.index.item_index import ItemIndex
from export.index.labels import read_labels
from export.index.nearest import nearest
from export.store.bundle_errors import BundleError

# Results that are fetched at once, some sixty bytes each: what a batch takes does not depend on how long its
# histories are.
_MOST_FETCHED = 1 << 22


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
        """The ids of the most popular items whose id or name contains a text; upper and lower case alike."""
        wanted = text.casefold()
        found = (
            item_id for item_id, folded in zip(self._item_ids, self._folded, strict=True) if wanted in folded
        )
        return list(itertools.islice(found, limit))

    @functools.cached_property
    def _folded(self) -> list[str]:
        """What is searched for a text: R times name and id without upper case, made at the first search."""
        if self._names is None:
            return [item_id.casefold() for item_id in self._item_ids]
        # Both are lines of a file, so the end of a line keeps them apart.
        return [
            f"{name}\n{item_id}".casefold() for name, item_id in zip(self._names, self._item_ids, strict=True)
        ]

    def most_popular(self, k: int, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The answer for a user of whom nothing is known: k rows that are not in `seen`, and zeros."""
        # The ids are ordered by how often they occur in training.
        rows = np.setdiff1d(self._index.first_rows(k + len(seen)), seen)[:k]
        return rows, np.zeros(len(rows), np.float32)

    def similar(self, row: int, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Finds the k items nearest to a row's, without itself, by the cosine of their vectors.

        Where all vectors have length one that is the inner product, and the index is searched; elsewhere
        everything is compared.

        Returns:
          rows int64 [at most k] and cosines float32, best first.
        """
        itself = np.array([row])
        if self._index.description["similarity"] == "cosine":
            return self.top(self.vectors_of(itself), [itself], [k])[0]
        return nearest(self._index, row, np.setdiff1d(self.answered_rows, itself), k)

    def top(
        self, vectors: np.ndarray, seen: Sequence[np.ndarray], ks: Sequence[int]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Finds, for each user, the rows and scores of the best k that are not in `seen`.

        Args:
          vectors: float32 [B, d] or [B, K, d].
          seen: B arrays of distinct rows to leave out.
          ks: B numbers of items; fewer are found where fewer are left.

        Returns:
          B pairs (rows int64 [at most k], scores float32 of the same length), best first.
        """
        if not len(ks):
            return []
        # Enough is fetched to lose all that was seen. Requests that need about as much are searched
        # together, so that one long history does not make every other search as wide.
        wanted = np.array([k + len(rows) for k, rows in zip(ks, seen, strict=True)])
        fetch = np.minimum(2 ** np.ceil(np.log2(wanted)).astype(np.int64), self.num_items)
        found: list[tuple[np.ndarray, np.ndarray]] = [(np.empty(0), np.empty(0))] * len(ks)
        vectors_each = vectors.shape[1] if vectors.ndim == 3 else 1
        for width in np.unique(fetch).tolist():
            of_width = np.flatnonzero(fetch == width).tolist()
            together = max(1, _MOST_FETCHED // (vectors_each * width))
            for start in range(0, len(of_width), together):
                group = of_width[start : start + together]
                rows_BF, scores_BF = self._index.search(vectors[group], width)
                keep_BF = ~_contains(rows_BF, [seen[number] for number in group], self._index.num_rows)
                keep_BF &= rows_BF >= 0
                for number, rows, scores, keep in zip(group, rows_BF, scores_BF, keep_BF, strict=True):
                    found[number] = rows[keep][: ks[number]], scores[keep][: ks[number]]
        return found


def _contains(rows_BF: np.ndarray, seen: Sequence[np.ndarray], num_rows: int) -> np.ndarray:
    """Tells which rows are seen by their request, in one lookup for all: bool [B, F]."""
    owner_B = np.arange(len(rows_BF))
    keys_BF = rows_BF + owner_B[:, None] * (num_rows + 1)
    lengths = [len(rows) for rows in seen]
    seen_keys = np.concatenate(seen) + np.repeat(owner_B, lengths) * (num_rows + 1)
    return np.isin(keys_BF, seen_keys)

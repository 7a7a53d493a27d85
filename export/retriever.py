"""From a bundle to recommendations: encode, search, drop what was seen, fall back.

Neither the training library nor Keras is imported here: the bundle is all that is needed.
Shape legend: B requests, L = max_history, K vectors a user, d embedding size, F fetched items.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from export.answers import Influence, Recommendation
from export.errors import BundleError
from export.item_index import ItemIndex, check_k, read_ids, read_names
from export.layout import index_directory, read_tower, resolve_number, tower_directory
from export.runtime import tf


class TowerAnswer(NamedTuple):
    """What a tower answers: user_vectors float32 [B, d] or [B, K, d], version [B] of bytes."""

    user_vectors: np.ndarray
    version: np.ndarray


# item_ids int64 [B, L], 0 is padding -> the answer
RemoteTower = Callable[[np.ndarray], TowerAnswer]


class Retriever:
    """Answers histories of item ids with the items to recommend next."""

    def __init__(
        self,
        tower: RemoteTower,
        index: ItemIndex,
        item_ids: Sequence[str],
        max_history: int,
        item_names: Sequence[str] | None = None,
        vocabulary_size: int | None = None,
    ):
        """Composes the parts; `Retriever.load` takes them from a bundle.

        Args:
          tower: int64 [B, L] -> its answer.
          index: the index whose fingerprint the tower answers.
          item_ids: the ids of the index's rows, most popular first; what was withdrawn is among them.
          max_history: L.
          item_names: as many names for people, or None.
          vocabulary_size: the tower knows so many of the first rows, the others were added to the index
            later; None: all.
        """
        self._tower = tower
        self._index = index
        self._item_ids = np.array(item_ids, dtype=object)
        self._names = item_names
        self._row_of = {item_id: row for row, item_id in enumerate(item_ids)}
        self._max_history = max_history
        self._vocabulary_size = len(item_ids) if vocabulary_size is None else vocabulary_size

    @classmethod
    def load(
        cls, bundle: Path | str, *, version: int | None = None, tower: RemoteTower | None = None
    ) -> "Retriever":
        """Opens a bundle, wherever it lies.

        Args:
          bundle: its directory.
          version: the number of the tower to use; the latest when None.
          tower: answers in place of the bundle's own tower, from another machine for instance.

        Raises:
          BundleError: there is no such version, a file is missing or damaged, or the tower and the
            index do not belong together.
        """
        bundle = Path(bundle)
        directory = tower_directory(bundle, resolve_number(bundle, version))
        description = read_tower(directory)
        fingerprint = description["version"]
        place = index_directory(bundle, fingerprint)
        if not place.is_dir():
            raise BundleError(
                f"{directory} belongs to the index {fingerprint}, which is not in {place.parent};"
                " publish the run again."
            )
        index = ItemIndex.load(place)
        if index.fingerprint != fingerprint:
            raise BundleError(
                f"The tower {directory} has the fingerprint {fingerprint}, the index {place} has"
                f" {index.fingerprint}: they do not belong together. Publish the run again."
            )
        if index.description["dimension"] != description["dimension"]:
            raise BundleError(
                f"The tower gives {description['dimension']} dimensions, the index has"
                f" {index.description['dimension']}: they do not belong together."
            )
        tower = tower or _local_tower(directory)
        max_history = description["max_history"]
        retriever = cls(tower, index, read_ids(place), max_history, read_names(place), description["items"])
        retriever._encode(np.zeros((1, max_history), np.int64))  # asks the tower who it is
        return retriever

    @property
    def version(self) -> str:
        """The fingerprint of the tower and the index."""
        return self._index.fingerprint

    @property
    def num_items(self) -> int:
        """The size of the catalogue, the largest k."""
        return self._index.num_items

    def name_of(self, item_id: str) -> str:
        """A name to read: the item's, or its id when there is none."""
        row = self._row_of.get(item_id)
        return item_id if row is None or self._names is None else self._names[row]

    def recommend(
        self,
        histories: Sequence[Sequence[str]],
        k: int | Sequence[int],
        exclude_seen: bool = True,
    ) -> list[Recommendation]:
        """Recommends items for each history; a history's answer does not depend on the others.

        Args:
          histories: B lists of item ids, oldest first, of any length. Unknown items are ignored, so
            the tower reads the last `max_history` known ones.
          k: how many items, one number or one a history.
          exclude_seen: leave out every item of the history, however long ago.

        Returns:
          B recommendations.

        Raises:
          BundleError: k is not in [1, V], or a history is not a list of strings.
        """
        ks = [k] * len(histories) if isinstance(k, int) else list(k)
        if len(ks) != len(histories):
            raise BundleError(f"{len(ks)} values of k for {len(histories)} histories.")
        for one in set(ks):
            check_k(one, self.num_items)
        rows_of = [self._rows(number, history) for number, history in enumerate(histories)]
        known = [rows[rows < self._vocabulary_size] for rows in rows_of]
        seen = [np.unique(rows) if exclude_seen else rows[:0] for rows in rows_of]
        found = self._top(known, seen, ks)
        return [
            Recommendation(
                items=self._item_ids[rows].tolist(),
                scores=scores.tolist(),
                num_unknown=len(history) - len(known_rows),
                fallback=not len(known_rows),
                version=self.version,
            )
            for history, known_rows, (rows, scores) in zip(histories, known, found, strict=True)
        ]

    def explain(self, history: Sequence[str], k: int, exclude_seen: bool = True) -> list[Influence]:
        """Tells which past items the top k rests on, by leaving out each in turn.

        Args:
          history: item ids, oldest first.
          k: how many recommended items are looked at, in [1, V].
          exclude_seen: as in `recommend`; the item left out still counts as seen.

        Returns:
          One entry for each distinct item that the tower reads, the most influential first; empty
          for a history with nothing known.
        """
        check_k(k, self.num_items)
        all_rows = self._rows(0, history)
        rows = all_rows[all_rows < self._vocabulary_size]
        if not len(rows):
            return []
        read = np.unique(rows[-self._max_history :])
        variants = [rows, *(rows[rows != row] for row in read)]
        seen = np.unique(all_rows) if exclude_seen else rows[:0]
        found = self._top(variants, [seen] * len(variants), [k] * len(variants))
        vectors = self._encode(self._padded(variants))
        whole = found[0][0]
        influences = [
            Influence(
                item=str(self._item_ids[row]),
                share=1.0 - len(np.intersect1d(whole, without)) / max(1, len(whole)),
                vector_change=float(np.linalg.norm(vector - vectors[0])),
            )
            for row, (without, _), vector in zip(read, found[1:], vectors[1:], strict=True)
        ]
        return sorted(influences, key=lambda one: (-one.share, -one.vector_change, one.item))

    def _rows(self, number: int, history: Sequence[str]) -> np.ndarray:
        if isinstance(history, str) or not all(isinstance(item, str) for item in history):
            raise BundleError(f"history {number} is {history!r:.200}; wanted a list of strings.")
        rows = (self._row_of.get(item, -1) for item in history)
        return np.array([row for row in rows if row >= 0], np.int64)

    def _padded(self, known: Sequence[np.ndarray]) -> np.ndarray:
        padded_BL = np.zeros((len(known), self._max_history), np.int64)
        for padded, rows in zip(padded_BL, known, strict=True):
            last = rows[-self._max_history :]
            padded[: len(last)] = last + 1
        return padded_BL

    def _encode(self, item_ids_BL: np.ndarray) -> np.ndarray:
        answer = self._tower(item_ids_BL)
        versions = set(answer.version.tolist())
        if versions - {self.version.encode()}:
            raise BundleError(
                f"The tower answers version {sorted(versions)}, the index is {self.version!r}: they"
                " do not belong together."
            )
        return answer.user_vectors

    def _most_popular(self, k: int, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # The ids are ordered by how often they occur in training.
        rows = np.setdiff1d(self._index.first_rows(k + len(seen)), seen)[:k]
        return rows, np.zeros(len(rows), np.float32)

    def _top(
        self, known: Sequence[np.ndarray], seen: Sequence[np.ndarray], ks: Sequence[int]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Finds, for each request, the rows and scores of the best k that are not in `seen`."""
        results = {
            number: self._most_popular(ks[number], seen[number])
            for number, rows in enumerate(known)
            if not len(rows)
        }
        requests = [number for number, rows in enumerate(known) if len(rows)]
        if not requests:
            return [results[number] for number in range(len(known))]
        vectors = self._encode(self._padded([known[number] for number in requests]))
        # Enough is fetched to lose all that was seen. Requests that need about as much are searched
        # together, so that one long history does not make every other search as wide.
        wanted = np.array([ks[number] + len(seen[number]) for number in requests])
        fetch = np.minimum(2 ** np.ceil(np.log2(wanted)).astype(np.int64), self.num_items)
        for width in np.unique(fetch):
            places = np.flatnonzero(fetch == width)
            rows_BF, scores_BF = self._index.search(vectors[places], int(width))
            group = [requests[place] for place in places]
            keep_BF = ~_contains(rows_BF, [seen[number] for number in group], self._index.num_rows)
            keep_BF &= rows_BF >= 0
            for number, rows, scores, keep in zip(group, rows_BF, scores_BF, keep_BF, strict=True):
                results[number] = rows[keep][: ks[number]], scores[keep][: ks[number]]
        return [results[number] for number in range(len(known))]


def _contains(rows_BF: np.ndarray, seen: Sequence[np.ndarray], num_rows: int) -> np.ndarray:
    """Tells which rows are seen by their request, in one lookup for all: bool [B, F]."""
    owner_B = np.arange(len(rows_BF))
    keys_BF = rows_BF + owner_B[:, None] * (num_rows + 1)
    lengths = [len(rows) for rows in seen]
    seen_keys = np.concatenate(seen) + np.repeat(owner_B, lengths) * (num_rows + 1)
    return np.isin(keys_BF, seen_keys)


def _local_tower(directory: Path) -> RemoteTower:
    try:
        loaded = tf.saved_model.load(str(directory))
        loaded.signatures["serving_default"]
    except (OSError, KeyError, ValueError, tf.errors.OpError) as error:
        raise BundleError(f"{directory} cannot be loaded ({error}); publish again.") from error

    def answer(item_ids_BL: np.ndarray) -> TowerAnswer:
        # The signature is taken from `loaded` each time: alone it would not keep its variables.
        outputs = loaded.signatures["serving_default"](item_ids=tf.constant(item_ids_BL))
        return TowerAnswer(outputs["user_vectors"].numpy(), outputs["version"].numpy())

    return answer

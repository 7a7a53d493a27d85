"""An update of a published index, checked and carried out on ids, names and exact vectors.

Shape legend: N upserts, R rows, d embedding size.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from export.index.changes import IndexChanges
from export.index.item_index import ItemIndex, read_vectors
from export.index.labels import check_ids, read_labels
from export.index.queries import read_queries
from export.store.bundle_errors import BundleError
from export.store.text_files import is_utf_8


@dataclass(frozen=True)
class Update:
    """What is to change; all of it happens or nothing does.

    Attributes:
      upsert_ids: N ids, new or known; a withdrawn item comes back.
      upsert_vectors: float32 [N, d], in the space of the index, finite, and short enough that float32 holds
        their squared length. Where the similarity is the cosine they are brought to length one.
      upsert_names: N names for people, or None. Where a name is None or empty a known item keeps the one that
        it has, and a new item is named by its id.
      delete_ids: ids that are to be withdrawn.
      rebuild: build the index anew from what is then in it.
    """

    upsert_ids: Sequence[str] = ()
    upsert_vectors: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    upsert_names: Sequence[str | None] | None = None
    delete_ids: Sequence[str] = ()
    rebuild: bool = False

    def digest(self) -> str:
        """Hashes what is asked for: 16 hexadecimal digits."""
        digest = hashlib.sha256(f"{self.rebuild} {len(self.upsert_ids)} {len(self.delete_ids)}\n".encode())
        # Half a surrogate pair is refused when the update is checked, not here.
        digest.update("\n".join([*self.upsert_ids, *self.delete_ids]).encode(errors="surrogatepass"))
        digest.update(np.ascontiguousarray(self.upsert_vectors, np.float32).tobytes())
        names = (name or "" for name in self.upsert_names or ())
        digest.update("\n".join(names).encode(errors="surrogatepass"))
        return digest.hexdigest()[:16]


class UpdatedCatalogue:
    """Ids, names and exact vectors [R, d] by row, and what has changed; `apply` changes all of them."""

    def __init__(self, source: Path):
        """Reads an index; raises BundleError when it cannot be read."""
        self.index = ItemIndex.load(source)
        self.ids, self.names = read_labels(source, self.index.num_rows)
        self.changes = self.index.changes or IndexChanges.none(
            self.index.num_items, self.index.description["dimension"]
        )
        self.vectors = read_vectors(source, self.changes)
        self.queries = read_queries(source)

    def apply(self, update: Update) -> None:
        """Carries out an update; raises BundleError before anything has changed."""
        row_of = {item_id: row for row, item_id in enumerate(self.ids)}
        withdrawn = set(self.changes.withdrawn_rows.tolist())
        similarity = self.index.description["similarity"]
        upserts = _checked_vectors(update, self.vectors.shape[1], similarity)
        _check_deletes(update, {item for item, row in row_of.items() if row not in withdrawn})

        new = [item_id for item_id in update.upsert_ids if item_id not in row_of]
        row_of |= {item_id: len(self.ids) + place for place, item_id in enumerate(new)}
        rows = np.array([row_of[item_id] for item_id in update.upsert_ids], np.int64)
        deleted = np.array([row_of[item_id] for item_id in update.delete_ids], np.int64)
        now_withdrawn = np.union1d(np.setdiff1d(self.changes.withdrawn_rows, rows), deleted)
        if len(now_withdrawn) == len(row_of):
            raise BundleError("The update would withdraw every item; an index holds at least one.")
        given = zip(update.upsert_ids, update.upsert_names or (), strict=False)
        named = {item: name for item, name in given if name}
        if named or self.names is not None:
            old_names = self.names or self.ids
            self.names = [named.get(item, name) for item, name in zip(self.ids, old_names, strict=True)]
            self.names += [named.get(item, item) for item in new]
        self.ids = [*self.ids, *new]
        self.vectors = np.vstack([self.vectors, np.zeros((len(new), self.vectors.shape[1]), np.float32)])
        self.vectors[rows] = upserts
        added = np.setdiff1d(np.union1d(self.changes.added_rows, rows), deleted)
        self.changes = IndexChanges(
            num_rows=len(self.ids),
            row_of_slot=self.changes.row_of_slot,
            added_rows=added,
            added_vectors=self.vectors[added],
            withdrawn_rows=now_withdrawn,
        )


def _checked_vectors(update: Update, dimension: int, similarity: str) -> np.ndarray:
    """The vectors [N, d] as they are to be searched."""
    count = len(update.upsert_ids)
    if not count:
        return np.zeros((0, dimension), np.float32)
    vectors = np.asarray(update.upsert_vectors, np.float32)
    if vectors.shape != (count, dimension):
        raise BundleError(
            f"upsert_vectors is {list(vectors.shape)} for {count} ids; wanted [{count}, {dimension}], the"
            " dimension of the index."
        )
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise BundleError(f"The vector of {update.upsert_ids[bad[0]]!r} holds a value that is not finite.")
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    long = np.flatnonzero(lengths**2 > np.finfo(np.float32).max)
    if len(long):
        raise BundleError(
            f"The vector of {update.upsert_ids[long[0]]!r} has the length {lengths[long[0]]:.3g}, and a"
            " search would overflow; wanted one whose square float32 holds."
        )
    if update.upsert_names is not None and len(update.upsert_names) != count:
        raise BundleError(f"upsert_names has {len(update.upsert_names)} names for {count} ids.")
    check_ids(update.upsert_ids)
    _check_utf_8(update.upsert_ids, update.upsert_names or ())
    if similarity == "cosine":
        zero = np.flatnonzero(lengths == 0)
        if len(zero):
            raise BundleError(
                f"The vector of {update.upsert_ids[zero[0]]!r} is zero and has no direction: this bundle's"
                " similarity is the cosine, of vectors of length one."
            )
        return (vectors / lengths[:, None]).astype(np.float32)
    return vectors


def _check_utf_8(ids: Sequence[str], names: Sequence[str | None]) -> None:
    for what, values in (("id", ids), ("name", names)):
        for text in filter(None, values):
            if not is_utf_8(text):
                raise BundleError(
                    f"The {what} {text!r:.100} cannot be written: half a surrogate pair has no UTF-8. Mend it"
                    " where it comes from."
                )


def _check_deletes(update: Update, known: set[str]) -> None:
    seen: set[str] = set()
    upserted = set(update.upsert_ids)
    for item_id in update.delete_ids:
        if item_id in upserted:
            raise BundleError(f"{item_id!r} is to be upserted and deleted; give it once.")
        if item_id in seen:
            raise BundleError(f"{item_id!r} is to be deleted twice; give it once.")
        if item_id not in known:
            raise BundleError(f"{item_id!r} is to be deleted, and the index has no such item.")
        seen.add(item_id)

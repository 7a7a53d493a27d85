"""Adds, replaces and withdraws items of a published index, and builds it again: each makes a new version.

The protocol is that of publishing: the changed index is complete, under a fingerprint of its own, before the
tower that answers this fingerprint appears by one rename. The version before stays as it was.
Shape legend: N upserts, R rows, V items, d embedding size.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from export.errors import BundleError
from export.housekeeping import collect, locked, version_of
from export.index_building import build_index, measured
from export.index_changes import Changes
from export.item_index import ItemIndex, link_or_copy, read_ids, read_names, read_queries, read_vectors
from export.layout import commit, index_directory, resolve_number, tower_directory, tower_numbers
from export.publication import Publication
from export.recall import kth_best_scores
from export.recall_curve import PICTURE, draw_curve
from export.tower_identity import copy_under
from export.user_tower import check_ids

# What is added is searched one by one, so its cost grows with the share: a twentieth of 300,000 items of 64
# dimensions takes about as long as the tree itself.
REBUILD_ABOVE_SHARE = 0.05


@dataclass(frozen=True)
class Update:
    """What is to change; all of it happens or nothing does.

    Attributes:
      upsert_ids: N ids, new or known; a withdrawn item comes back.
      upsert_vectors: float32 [N, d], in the space of the index, finite.
      upsert_names: N names for people, or None: a new item is then named by its id.
      delete_ids: ids that are to be withdrawn.
      rebuild: build the index anew from what is then in it.
    """

    upsert_ids: Sequence[str] = ()
    upsert_vectors: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    upsert_names: Sequence[str] | None = None
    delete_ids: Sequence[str] = ()
    rebuild: bool = False

    def digest(self) -> str:
        """Hashes what is asked for: 16 hexadecimal digits."""
        digest = hashlib.sha256(f"{self.rebuild} {len(self.upsert_ids)} {len(self.delete_ids)}\n".encode())
        digest.update("\n".join([*self.upsert_ids, *self.delete_ids]).encode())
        digest.update(np.ascontiguousarray(self.upsert_vectors, np.float32).tobytes())
        digest.update("\n".join(self.upsert_names or ()).encode())
        return digest.hexdigest()[:16]


def update_index(bundle: Path, update: Update, *, keep: int = 3, dry_run: bool = False) -> Publication:
    """Publishes the latest version again with a changed index, under a fingerprint of its own.

    The tower's vectors and its vocabulary stay: a new item can be recommended at once, and is an unknown
    one in histories until a model that knows it is published. The update that made the latest version
    is not applied again, so that a command may be repeated.

    Args:
      bundle: the bundle's directory.
      update: what is to change.
      keep: how many towers stay, this one included, and with them the indexes that they name.
      dry_run: checks the update and tells what would be done; writes nothing.

    Returns:
      What was done. Its `index` holds recall at the last build (`recall`) and now (`now`), with the
      reasons to rebuild, if any (`now.rebuild_advised`).

    Raises:
      BundleError: the update does not fit, or another process is publishing. Nothing has changed then.
    """
    if keep < 1:
        raise BundleError(f"keep is {keep}; at least the version just published is kept.")
    if not (update.upsert_ids or update.delete_ids or update.rebuild):
        raise BundleError("The update is empty: give items to upsert, ids to delete, or rebuild.")
    resolve_number(bundle, None)  # nothing is made where there is no bundle
    if dry_run:
        return _update(bundle, update, keep, dry_run)
    with locked(bundle):
        return _update(bundle, update, keep, dry_run)


def _update(bundle: Path, update: Update, keep: int, dry_run: bool) -> Publication:
    latest = resolve_number(bundle, None)
    before = version_of(bundle, latest)
    if before is None:
        raise BundleError(f"{tower_directory(bundle, latest)} was not made by export/bundle.py.")
    source = index_directory(bundle, before)
    index = ItemIndex.load(source)
    digest = update.digest()
    if index.description.get("update", {}).get("digest") == digest:
        return Publication(latest, before, "unchanged", index.description, True)
    ids, names = read_ids(source), read_names(source)
    changed = _Catalogue(index, source, ids, names)
    changed.apply(update)
    number, fingerprint = tower_numbers(bundle)[-1] + 1, _fingerprint(before, digest)
    action = "rebuilt" if update.rebuild else "updated"
    if dry_run:
        return Publication(number, fingerprint, action)
    place = index_directory(bundle, fingerprint)
    description, reused = _whole(place), True
    if description is None:
        new = _rebuilt(changed) if update.rebuild else _with_changes(changed)
        new.description["update"] = {"of": before, "digest": digest}
        made = place.with_name(f".updating-{fingerprint}")
        new.save(
            made,
            fingerprint=fingerprint,
            item_ids=changed.ids,
            item_names=changed.names,
            item_vectors=changed.vectors[new.changes.row_of_slot] if update.rebuild and new.changes else None,
            queries=changed.queries if update.rebuild else None,
            unchanged_in=None if update.rebuild else source,
        )
        if update.rebuild:
            draw_curve(new.description, made / PICTURE)
        elif (source / PICTURE).is_file():
            link_or_copy(source / PICTURE, made / PICTURE)
        commit(made, place)
        description, reused = new.description, False
    made = tower_directory(bundle, number).with_name(f".relabelling-{number}")
    copy_under(tower_directory(bundle, latest), made, fingerprint)
    commit(made, tower_directory(bundle, number))
    return Publication(number, fingerprint, action, description, reused, *collect(bundle, keep))


def _fingerprint(before: str, digest: str) -> str:
    return hashlib.sha256(f"{before} {digest}".encode()).hexdigest()[:16]


def _whole(place: Path) -> dict[str, Any] | None:
    """The description of an index that a killed update has left whole; a damaged one is set aside."""
    if not place.is_dir():
        return None
    try:
        return ItemIndex.load(place).description
    except BundleError:
        place.rename(place.with_name(f".damaged-{place.name}"))
        return None


class _Catalogue:
    """Ids, names and exact vectors by row, and what has changed; `apply` checks before it changes any."""

    def __init__(self, index: ItemIndex, source: Path, ids: list[str], names: list[str] | None):
        dimension = index.description["dimension"]
        self.index, self.ids, self.names = index, ids, names
        self.changes = index.changes or Changes.none(index.num_items, dimension)
        self.vectors = read_vectors(source, self.changes)
        self.queries = read_queries(source)

    def apply(self, update: Update) -> None:
        """Carries out an update; raises BundleError before anything has changed."""
        row_of = {item_id: row for row, item_id in enumerate(self.ids)}
        withdrawn = set(self.changes.withdrawn_rows.tolist())
        upserts = _checked_vectors(update, self.vectors.shape[1])
        _check_deletes(update, {item for item, row in row_of.items() if row not in withdrawn})

        new = [item_id for item_id in update.upsert_ids if item_id not in row_of]
        row_of |= {item_id: len(self.ids) + place for place, item_id in enumerate(new)}
        rows = np.array([row_of[item_id] for item_id in update.upsert_ids], np.int64)
        deleted = np.array([row_of[item_id] for item_id in update.delete_ids], np.int64)
        now_withdrawn = np.union1d(np.setdiff1d(self.changes.withdrawn_rows, rows), deleted)
        if len(now_withdrawn) == len(row_of):
            raise BundleError("The update would withdraw every item; an index holds at least one.")
        named = dict(zip(update.upsert_ids, update.upsert_names or update.upsert_ids, strict=True))
        if self.names is not None or update.upsert_names is not None:
            self.names = [*(self.names or self.ids), *(named[item_id] for item_id in new)]
        self.ids = [*self.ids, *new]
        self.vectors = np.vstack([self.vectors, np.zeros((len(new), self.vectors.shape[1]), np.float32)])
        self.vectors[rows] = upserts
        added = np.setdiff1d(np.union1d(self.changes.added_rows, rows), deleted)
        self.changes = Changes(
            num_rows=len(self.ids),
            row_of_slot=self.changes.row_of_slot,
            added_rows=added,
            added_vectors=self.vectors[added],
            withdrawn_rows=now_withdrawn,
        )

    def live_rows(self) -> np.ndarray:
        """Rows of the items that can be answered."""
        return np.setdiff1d(np.arange(len(self.ids)), self.changes.withdrawn_rows, assume_unique=True)


def _checked_vectors(update: Update, dimension: int) -> np.ndarray:
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
    if update.upsert_names is not None and len(update.upsert_names) != count:
        raise BundleError(f"upsert_names has {len(update.upsert_names)} names for {count} ids.")
    check_ids(update.upsert_ids)
    return vectors


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


def _with_changes(catalogue: _Catalogue) -> ItemIndex:
    old = catalogue.index
    description = old.description | {"items": catalogue.changes.num_items}
    index = ItemIndex(old.searcher, description, catalogue.changes)
    description["now"] = _now(index, catalogue)
    return index


def _rebuilt(catalogue: _Catalogue) -> ItemIndex:
    if catalogue.queries is None:
        raise BundleError("This index holds no queries to be tuned on; publish the run again instead.")
    old, rows = catalogue.index.description, catalogue.live_rows()
    vectors = catalogue.vectors[rows]
    index = build_index(
        vectors,
        queries=catalogue.queries,
        target_recall=old["target_recall"],
        k=old["k"],
        method=old.get("requested_method", "auto"),
        memory=old["memory"],
    )
    nothing = np.zeros(0, np.int64)
    index.changes = Changes(len(catalogue.ids), rows, nothing, vectors[:0], catalogue.changes.withdrawn_rows)
    return index


def _now(index: ItemIndex, catalogue: _Catalogue) -> dict[str, Any]:
    """Measures the index as it is now, and says why it should be built again, if it should."""
    changes, description = catalogue.changes, index.description
    advised = []
    if changes.share > REBUILD_ABOVE_SHARE:
        advised.append(f"{changes.share:.1%} of the items changed, more than {REBUILD_ABOVE_SHARE:.0%}")
    point: dict[str, Any] = {"recall": None, "recall_low": None, "milliseconds": None}
    k = description["k"]
    if catalogue.queries is not None and k <= index.num_items:
        thresholds = kth_best_scores(catalogue.vectors[catalogue.live_rows()], catalogue.queries, k)
        point = measured(index, catalogue.vectors, catalogue.queries, thresholds)
        if point["recall"] is not None and point["recall"] < description["target_recall"]:
            advised.append(f"recall@{k} is {point['recall']:.4f}, below {description['target_recall']}")
    return {
        "recall": point["recall"],
        "recall_low": point["recall_low"],
        "milliseconds_per_query": point["milliseconds"],
        "searched_beside": len(changes.added_rows),
        "hidden": changes.num_hidden,
        "withdrawn": len(changes.withdrawn_rows),
        "changed_share": round(changes.share, 5),
        "rebuild_advised": advised,
    }

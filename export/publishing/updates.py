"""Adds, replaces and withdraws items of a published index, and builds it again: each makes a new version.

The protocol is that of publishing: the changed index is complete, under a fingerprint of its own, before the
tower that answers this fingerprint appears by one rename. The version before stays as it was.
"""

import hashlib
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from export.index.building import build_index
from export.index.catalogue_cache import CatalogueCache
from export.index.changes import IndexChanges
from export.index.description import read_index
from export.index.index_options import IndexOptions
from export.index.item_index import ItemIndex
from export.index.measuring import Truth, measured
from export.index.updated_catalogue import Update, UpdatedCatalogue
from export.publishing.publication import Publication
from export.store.bundle_errors import BundleError
from export.store.housekeeping import VERSIONS_KEPT, collect, locked, version_of
from export.store.layout import (
    beside,
    commit,
    index_directory,
    resolve_number,
    tower_directory,
)
from export.towers.identity import copy_under
from export.towers.local import LocalTower

__all__ = ["Update", "update_index"]

# What is added is searched one by one, so its cost grows with the share: a twentieth of 300,000 items of 64
# dimensions takes about as long as the tree itself.
REBUILD_ABOVE_SHARE = 0.05


def update_index(
    bundle: Path, update: Update, *, keep: int = VERSIONS_KEPT, dry_run: bool = False
) -> Publication:
    """Publishes the latest version again with a changed index, under a fingerprint of its own.

    The tower's vectors and its vocabulary stay: a new item can be recommended at once, and is an unknown
    one in histories until a model that knows it is published. The update that made the latest version
    is not applied again, so that a command may be repeated. `keep` and `dry_run` are as in `publish`.

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
    with nullcontext() if dry_run else locked(bundle):
        latest = resolve_number(bundle, None)
        before = version_of(bundle, latest)
        if before is None:
            raise BundleError(f"{tower_directory(bundle, latest)} was not made by export/bundle.py.")
        source, digest = index_directory(bundle, before), update.digest()
        last = read_index(source)
        if last.get("update", {}).get("digest") == digest:
            LocalTower.load(bundle, latest, CatalogueCache(bundle))  # it says so of a whole version only
            return Publication(latest, before, "unchanged", last, True)
        catalogue = UpdatedCatalogue(source)
        rows_before = len(catalogue.ids)
        catalogue.apply(update)
        added = len(catalogue.ids) - rows_before
        number = latest + 1
        fingerprint = hashlib.sha256(f"{before} {digest}".encode()).hexdigest()[:16]
        action = "rebuilt" if update.rebuild else "updated"
        if dry_run:
            return Publication(number, fingerprint, action, added=added)
        place = index_directory(bundle, fingerprint)
        description = _whole(place)
        reused = description is not None
        if description is None:
            made = beside(place, "updating")
            make = _make_rebuilt if update.rebuild else _make_changed
            description = make(made, catalogue, source, fingerprint, {"of": before, "digest": digest})
            commit(made, place)
        made = beside(tower_directory(bundle, number), "relabelling")
        copy_under(tower_directory(bundle, latest), made, fingerprint)
        commit(made, tower_directory(bundle, number))
        removed = collect(bundle, keep, number, fingerprint, dry_run=False)
        return Publication(number, fingerprint, action, description, reused, *removed, added=added)


def _whole(place: Path) -> dict[str, Any] | None:
    """The description of an index that a killed update has left whole; a damaged one is set aside."""
    if not place.is_dir():
        return None
    try:
        return ItemIndex.load(place).description
    except BundleError:
        place.rename(beside(place, "damaged"))
        return None


def _make_changed(
    made: Path, catalogue: UpdatedCatalogue, source: Path, fingerprint: str, update: dict[str, str]
) -> dict[str, Any]:
    """Writes the index as it was built, with the changes beside it."""
    old = catalogue.index
    description = old.description | {
        "items": catalogue.changes.num_items,
        "vocabulary_size": old.vocabulary_size,
        "update": update,
    }
    index = ItemIndex(old.engine, description, catalogue.changes)
    description["now"] = _now(index, catalogue)
    index.save(
        made,
        fingerprint=fingerprint,
        item_ids=catalogue.ids,
        item_names=catalogue.names,
        unchanged_in=source,
    )
    return description


def _make_rebuilt(
    made: Path, catalogue: UpdatedCatalogue, source: Path, fingerprint: str, update: dict[str, str]
) -> dict[str, Any]:
    """Builds an index of what can be answered; the rows stay what they were."""
    if catalogue.queries is None:
        raise BundleError(f"{source} holds no queries to be tuned on; publish the run again instead.")
    before, rows = catalogue.index, catalogue.changes.live_rows
    old = before.description
    vectors = catalogue.vectors[rows]
    options = IndexOptions(
        target_recall=old["target_recall"],
        k=old["k"],
        method=old["requested_method"],
        memory=old["memory"],
        parts=old.get("requested_parts", 0),
    )
    scratch = beside(made.with_name(fingerprint), "parts")
    index = build_index(vectors, queries=catalogue.queries, options=options, scratch=scratch)
    index.description |= {
        "similarity": old["similarity"],
        "vocabulary_size": before.vocabulary_size,
        "update": update,
    }
    index.changes = IndexChanges(
        num_rows=len(catalogue.ids),
        row_of_slot=rows,
        added_rows=rows[:0],
        added_vectors=vectors[:0],
        withdrawn_rows=catalogue.changes.withdrawn_rows,
    )
    index.save(
        made,
        fingerprint=fingerprint,
        item_ids=catalogue.ids,
        item_names=catalogue.names,
        item_vectors=vectors,
        queries=catalogue.queries,
    )
    return index.description


def _now(index: ItemIndex, catalogue: UpdatedCatalogue) -> dict[str, Any]:
    """Measures the index as it is now, and says why it should be built again, if it should."""
    changes, description = catalogue.changes, index.description
    advised = []
    if changes.share > REBUILD_ABOVE_SHARE:
        advised.append(f"{changes.share:.1%} of the items changed, more than {REBUILD_ABOVE_SHARE:.0%}")
    point: dict[str, Any] = {"recall": None, "recall_low": None, "milliseconds": None}
    k = description["k"]
    if catalogue.queries is not None and k <= index.num_items:
        truth = Truth.of(catalogue.vectors[catalogue.changes.live_rows], catalogue.queries, k)
        point = measured(index, catalogue.vectors, truth)
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

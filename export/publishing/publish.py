"""Publishes a tower with its index, rolls back, and removes what is no longer kept.

The index is complete before its tower appears, and the tower appears by one rename: whoever watches
the bundle sees a version whole or not at all. A process killed in between leaves rubbish under
hidden names, which the next publication removes.
"""

import json
import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from export.index.building import build_index
from export.index.catalogue import Catalogue
from export.index.catalogue_cache import CatalogueCache
from export.index.description import read_index
from export.index.index_options import IndexOptions
from export.index.item_index import ItemIndex
from export.index.measuring import measuring_queries
from export.publishing.publication import Model, Publication, fingerprint_of
from export.store import checksums
from export.store.bundle_errors import BundleError
from export.store.housekeeping import VERSIONS_KEPT, collect, locked, version_of
from export.store.layout import (
    TOWER_DESCRIPTION,
    TOWER_EXTRA,
    beside,
    check_place,
    commit,
    index_directory,
    read_tower,
    resolve_number,
    tower_directory,
    tower_numbers,
)
from export.store.published_card import is_card_of, write_model_card
from export.towers.local import LocalTower
from export.towers.user_tower import export_user_tower


def publish(
    bundle: Path,
    model: Model,
    *,
    queries: np.ndarray,
    warm_up_histories: Sequence[Sequence[int]],
    options: IndexOptions | None = None,
    keep: int = VERSIONS_KEPT,
    card: dict[str, Any] | None = None,
    dry_run: bool = False,
) -> Publication:
    """Publishes a model under the next version number, unless the latest version is this model.

    A latest version that is this model is mended where it is damaged: its index is built again in its place,
    its tower published under the next number. So is a tower with another model card.

    Args:
      bundle: the bundle's directory, made when it does not exist.
      model: the pieces to publish.
      queries: float32 [Q, d] or [Q, K, d], user vectors on which the index is tuned and measured.
      warm_up_histories: see `export_user_tower`.
      options: how the index is built; the defaults of `IndexOptions` when None.
      keep: how many towers stay, this one included, and with them the indexes that they name.
      card: the model card as JSON, see `export.store.published_card`; None: none, or that which is there.
      dry_run: tells what would be done, and writes nothing.

    Raises:
      BundleError: the pieces do not fit, the directory is something else than a bundle, the reloaded
        tower answers something else, or another process is publishing into this bundle. Nothing new is
        visible then.
    """
    if keep < 1:
        raise BundleError(f"keep is {keep}; at least the version just published is kept.")
    if model.item_vectors.shape[:1] != (len(model.item_ids),):
        raise BundleError(
            f"item_vectors is {list(model.item_vectors.shape)} for {len(model.item_ids)} item ids."
        )
    check_place(bundle)
    options = options or IndexOptions()
    fingerprint = fingerprint_of(model, options)
    with nullcontext() if dry_run else locked(bundle):
        numbers = tower_numbers(bundle)
        latest = numbers[-1] if numbers else 0
        tower = tower_directory(bundle, latest)
        is_latest = bool(numbers) and _is_whole(tower, fingerprint, model)
        is_latest = is_latest and (card is None or is_card_of(tower, card))
        index = _whole_index(index_directory(bundle, fingerprint))
        reused = index is not None
        if not reused and not dry_run:
            index = _publish_index(bundle, fingerprint, model, queries, options)
        if is_latest:
            return Publication(latest, fingerprint, "unchanged", index, reused)
        if not dry_run:
            _publish_tower(bundle, latest + 1, fingerprint, model, warm_up_histories, card)
        removed = collect(bundle, keep, latest + 1, fingerprint, dry_run=dry_run)
        return Publication(latest + 1, fingerprint, "published", index, reused, *removed)


def roll_back(bundle: Path, *, dry_run: bool = False) -> Publication:
    """Publishes the version before the latest again, under a higher number.

    Its fingerprint stays, so the index that it had is found again. A second roll-back goes one
    version further back, not forth again. A version that no longer tells its fingerprint is passed over:
    nobody could load it. Nothing is removed.

    Raises:
      BundleError: there is no earlier version, it is damaged, or the latest version cannot be read.
    """
    resolve_number(bundle, None)  # nothing is made where there is no bundle
    with nullcontext() if dry_run else locked(bundle):
        numbers = tower_numbers(bundle)
        latest = read_tower(tower_directory(bundle, numbers[-1]))
        # A copy stands where its original stood, or a second roll-back would undo the first.
        latest_origin = latest.get("origin", numbers[-1])
        useless = (None, latest["version"])
        earlier = [n for n in numbers if n < latest_origin and version_of(bundle, n) not in useless]
        if not earlier:
            raise BundleError(
                f"{bundle} keeps no version earlier than {latest_origin}; it has {numbers}. A larger"
                " --keep when publishing lets you go further back."
            )
        source, number = earlier[-1], numbers[-1] + 1
        directory = tower_directory(bundle, source)
        description = read_tower(directory)
        fingerprint = description["version"]
        LocalTower.load(bundle, source, CatalogueCache(bundle))
        index = read_index(index_directory(bundle, fingerprint))
        if not dry_run:
            made = beside(tower_directory(bundle, number), "copying")
            shutil.copytree(directory, made)
            description = {"origin": source} | description
            name = f"{TOWER_EXTRA}/{TOWER_DESCRIPTION}"
            (made / name).write_text(json.dumps(description, indent=2) + "\n")
            sums = checksums.recorded(directory)
            del sums[name]
            checksums.write(made, sums)
            commit(made, tower_directory(bundle, number))
    return Publication(number, fingerprint, "rolled back", index, True)


def _is_whole(tower: Path, fingerprint: str, model: Model) -> bool:
    """Tells whether a tower is this very model, as it was published, whatever has become of its index."""
    items = {"items": len(model.item_ids), "dimension": model.item_vectors.shape[1]}
    catalogue = Catalogue(ItemIndex(None, {"fingerprint": fingerprint} | items), model.item_ids)
    try:
        if read_tower(tower)["version"] == fingerprint:
            LocalTower(tower, catalogue)
            return True
    except BundleError:
        pass
    return False


def _whole_index(place: Path) -> dict[str, Any] | None:
    """The description of an index; None: it is missing, damaged or another's."""
    try:
        Catalogue.load(place)
        return read_index(place)
    except BundleError:
        return None


def _publish_index(
    bundle: Path, fingerprint: str, model: Model, queries: np.ndarray, options: IndexOptions
) -> dict[str, Any]:
    place = index_directory(bundle, fingerprint)
    index = build_index(model.item_vectors, queries=queries, options=options, scratch=beside(place, "parts"))
    index.description["similarity"] = model.similarity
    made = beside(place, "building")
    index.save(
        made,
        fingerprint=fingerprint,
        item_ids=model.item_ids,
        item_names=model.item_names,
        item_vectors=model.item_vectors,
        queries=measuring_queries(queries),
    )
    if place.is_dir():
        place.rename(beside(place, "damaged"))
    commit(made, place)
    return index.description


def _publish_tower(
    bundle: Path,
    number: int,
    fingerprint: str,
    model: Model,
    warm_up_histories: Sequence[Sequence[int]],
    card: dict[str, Any] | None,
) -> None:
    place = tower_directory(bundle, number)
    made = beside(place, "exporting")
    export_user_tower(
        made,
        item_embeddings=model.item_embeddings,
        user_tower=model.user_tower,
        item_ids=model.item_ids,
        max_history=model.max_history,
        version=fingerprint,
        warm_up_histories=warm_up_histories,
        history_scores=model.history_scores,
        context=model.context,
    )
    if card is not None:
        write_model_card(made, card)
    checksums.write(made, {})
    commit(made, place)

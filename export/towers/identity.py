"""A published tower under another fingerprint: the same answers, another `version`.

An updated index needs a tower that names it, and the bundle has no Keras model to export again. The
fingerprint is a constant of the saved graph, one in each signature, so it is changed there.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from export.store import checksums
from export.store.bundle_errors import BundleError
from export.store.foreign import loading
from export.store.layout import (
    TOWER_DESCRIPTION,
    TOWER_EXTRA,
    TOWER_VOCABULARY,
    link_or_copy,
    read_tower,
)
from export.store.runtime import tf
from export.tower_columns import TowerColumns
from export.towers.requests import tower_requests

_GRAPH = "saved_model.pb"
# TensorFlow's own checksums of the graph; optional, and no longer true for another version.
_CHECKSUMS = "fingerprint.pb"
_WRITTEN_ANEW = (_GRAPH, _CHECKSUMS, f"{TOWER_EXTRA}/{TOWER_DESCRIPTION}", checksums.CHECKSUMS)


def copy_under(source: Path, made: Path, version: str) -> None:
    """Copies a published tower, lets the copy answer another version, and compares the two.

    Files that stay are shared by links.

    Raises:
      BundleError: the tower is damaged or not one of ours, or the copy answers something else.
    """
    description = read_tower(source)
    checksums.verify(source)
    shutil.copytree(
        source,
        made,
        copy_function=link_or_copy,
        ignore=shutil.ignore_patterns(*(Path(name).name for name in _WRITTEN_ANEW)),
    )
    (made / _GRAPH).write_bytes(_relabelled(source, description["version"], version))
    # Not a copy of a roll-back any more, if it was one.
    written = {name: value for name, value in description.items() if name != "origin"} | {"version": version}
    (made / TOWER_EXTRA / TOWER_DESCRIPTION).write_text(json.dumps(written, indent=2) + "\n")
    with loading(source):
        columns = TowerColumns.described(description, f"{source}:")
        _check_equal(source, made, description["max_history"], columns, version)
    sums = checksums.recorded(source)
    checksums.write(made, {name: digest for name, digest in sums.items() if name not in _WRITTEN_ANEW})


def read_graph(directory: Path) -> Any:
    """Reads a SavedModel message; raises BundleError when it names assets that are not among its files."""
    from tensorflow.core.protobuf import saved_model_pb2

    with loading(directory / _GRAPH):
        saved = saved_model_pb2.SavedModel.FromString((directory / _GRAPH).read_bytes())
    for asset in (asset for meta in saved.meta_graphs for asset in meta.asset_file_def):
        checksums.inside(directory, f"assets/{asset.filename}")
    return saved


def _relabelled(tower: Path, old: str, new: str) -> bytes:
    saved = read_graph(tower)
    functions = [one for meta in saved.meta_graphs for one in meta.graph_def.library.function]
    places = [
        node.attr["value"].tensor
        for function in functions
        for node in function.node_def
        if node.op == "Const" and list(node.attr["value"].tensor.string_val) == [old.encode()]
    ]
    if not places:
        raise BundleError(f"{tower / _GRAPH} does not answer the version {old}; publish the run again.")
    for place in places:
        place.string_val[0] = new.encode()
    return saved.SerializeToString(deterministic=True)


def _check_equal(source: Path, made: Path, max_history: int, columns: TowerColumns, version: str) -> None:
    item_ids = (source / TOWER_VOCABULARY).read_bytes().decode().split("\n")[:-1]
    histories = [[1], list(range(1, min(len(item_ids), max_history) + 1)), [len(item_ids)]]
    old, new = (tf.saved_model.load(str(directory)) for directory in (source, made))
    for signature, inputs in tower_requests(histories, item_ids, max_history, columns).items():
        wanted, got = (loaded.signatures[signature](**inputs) for loaded in (old, new))
        for name in wanted.keys() - {"version"}:
            if not np.array_equal(wanted[name].numpy(), got[name].numpy()):
                raise BundleError(f"Signature {signature} of {made} answers other {name} than {source}.")
        if set(got["version"].numpy().tolist()) != {version.encode()}:
            raise BundleError(f"Signature {signature} of {made} does not answer version {version}.")

"""Builds one ScaNN index: everything scored, or a tree of a stated shape."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from export.index.item_index import ItemIndex
from export.index.scann_engine import ScannEngine
from export.index.scann_runtime import scann
from export.store.bundle_errors import BundleError

LEAST_FOR_TREE = 16  # asymmetric hashing trains 16 centres a block
_ANISOTROPIC = 0.2
# An item lies in two leaves, so twice the candidates are taken as are scored exactly. With less a search of
# everything would miss some.
_OVERRETRIEVE = 2.0
_STORED = {
    "full": scann.scann_builder.ReorderType.FLOAT32,
    "bfloat16": scann.scann_builder.ReorderType.BFLOAT16,
    "int8": scann.scann_builder.ReorderType.INT8,
}


@dataclass(frozen=True)
class TreeShape:
    """What is decided when a tree is built.

    Attributes:
      num_leaves: parts of the space.
      soar_lambda: each item lies in two leaves, chosen by SOAR with this weight; None: in one.
    """

    num_leaves: int
    soar_lambda: float | None


def build_exact(item_vectors: np.ndarray, k: int, memory: str) -> ItemIndex:
    """Builds an index that scores every vector of float32 [V, d], which ScaNN copies."""
    builder = scann.builder(item_vectors, k, "dot_product").score_brute_force(_STORED[memory])
    return _built(builder, item_vectors, k, "exact", memory, {})


def build_tree(item_vectors: np.ndarray, k: int, memory: str, shape: TreeShape) -> ItemIndex:
    """Builds a tree over float32 [V, d], which ScaNN copies; it searches everything until it is tuned."""
    num_items = len(item_vectors)
    spilling = {}
    if shape.soar_lambda is not None:
        spilling = {"soar_lambda": shape.soar_lambda, "overretrieve_factor": _OVERRETRIEVE}
    noise = _ANISOTROPIC if memory == "int8" else math.nan
    builder = (
        scann.builder(item_vectors, k, "dot_product")
        .tree(shape.num_leaves, shape.num_leaves, **spilling)
        .score_ah(2, anisotropic_quantization_threshold=_ANISOTROPIC)
        .reorder(num_items, quantize=_STORED[memory], anisotropic_quantization_threshold=noise)
    )
    settings = asdict(shape) | {"leaves_to_search": shape.num_leaves, "reorder": num_items}
    return _built(builder, item_vectors, k, "tree", memory, settings)


def _built(
    builder: Any, item_vectors: np.ndarray, k: int, method: str, memory: str, settings: dict[str, Any]
) -> ItemIndex:
    num_items, dimension = item_vectors.shape
    description = {
        "method": method,
        "memory": memory,
        "settings": settings,
        "items": num_items,
        "dimension": dimension,
        "k": k,
    }
    try:
        return ItemIndex(ScannEngine(builder.build(), description), description)
    except RuntimeError as error:
        raise BundleError(f"ScaNN could not build the index: {error}") from error

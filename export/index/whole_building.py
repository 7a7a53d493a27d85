"""Builds one ScaNN index, of a catalogue or of a part of it: exact, or a tuned tree."""

import math
from typing import Any

import numpy as np

from export.index.index_options import IndexOptions
from export.index.item_index import ItemIndex
from export.index.measuring import Truth, measured
from export.index.scann_building import LEAST_FOR_TREE, TreeShape, build_exact, build_tree
from export.index.tuning import tune

_SOAR_LAMBDA = 1.5


def build_whole(
    item_vectors: np.ndarray, truth: Truth, options: IndexOptions, method: str
) -> tuple[ItemIndex, dict[str, Any], list[dict[str, Any]]]:
    """Builds one ScaNN index by the method that is asked for, or the faster one where it may choose.

    Only one is in memory at a time: that of exhaustive search is measured, let go, and made again where it is
    chosen, which takes no longer than to copy the vectors.

    Args:
      item_vectors: float32 [V, d], contiguous.
      truth: what is to be found in them.
      options: the recall to reach, k and memory.
      method: "exact", "tree" or "auto".

    Returns:
      The index, the point of its setting, and all points that were measured.
    """
    k, memory, target = min(options.k, len(item_vectors)), options.memory, options.target_recall
    exhaustive = build_exact(item_vectors, k, memory)
    exhaustive_point = measured(exhaustive, item_vectors, truth)
    if method == "exact":
        return exhaustive, exhaustive_point, [exhaustive_point]
    del exhaustive
    is_enough = memory == "full" or exhaustive_point["recall_low"] >= target
    slowest = exhaustive_point["milliseconds"] if method == "auto" and is_enough else math.inf
    tree = build_tree(item_vectors, k, memory, tree_shape(len(item_vectors)))
    point, curve = tune(tree, item_vectors, truth, target, slowest)
    curve.append(exhaustive_point)
    if point is not None and point["milliseconds"] < slowest:
        return tree, point, curve
    del tree
    return build_exact(item_vectors, k, memory), exhaustive_point, curve


def tree_shape(num_items: int) -> TreeShape:
    """The shape of a tree over so many items."""
    num_leaves = max(1, min(int(2 * math.sqrt(num_items)), num_items // LEAST_FOR_TREE))
    return TreeShape(num_leaves, _SOAR_LAMBDA)

"""Builds an item index and chooses its settings by measured recall, not by hope."""

import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from export.index.index_options import INDEX_MEMORIES, INDEX_METHODS, IndexOptions
from export.index.item_index import ItemIndex
from export.index.recall import kth_best_scores, recall_at_k
from export.index.scann_engine import ScannEngine
from export.index.scann_runtime import scann
from export.store.bundle_errors import BundleError

# Up to here exhaustive search takes an eighth of a millisecond a query (64 dimensions, one thread):
# a tree would save a third of a request's other costs at best, and would not be exact.
EXACT_BELOW = 20_000
_MOST_QUERIES = 1_000  # a recall of .99 at 50 is then known to about .0005
_TIMED_QUERIES = 200
_LEAST_FOR_TREE = 16  # asymmetric hashing trains 16 centres a block
_SOAR_LAMBDA = 1.5
_ANISOTROPIC = 0.2
_LEAST_GAIN = 0.002
_STORED = {
    "full": scann.scann_builder.ReorderType.FLOAT32,
    "bfloat16": scann.scann_builder.ReorderType.BFLOAT16,
    "int8": scann.scann_builder.ReorderType.INT8,
}


def build_index(
    item_vectors: np.ndarray,
    *,
    queries: np.ndarray,
    options: IndexOptions,
) -> ItemIndex:
    """Builds the index of a catalogue; the metric is the dot product, which training ranks by.

    A tree is tuned: of the settings (leaves to search, candidates to score exactly) whose recall@k
    on `queries` reaches the target, the one with the smallest query time is kept. To hold for other
    users too, the mean recall less two standard errors must reach it. If none does short of
    everything, everything is searched, which is exact. The curve is kept in the description.

    Args:
      item_vectors: float32 [V, d], finite.
      queries: float32 [Q, d] or [Q, K, d], user vectors like those to come; at most 1,000, evenly
        spaced, are used. Q may be 0 only when the search is exact.
      options: the recall to reach, and how.

    Raises:
      BundleError: the vectors or the settings cannot be used (ScaNN would end the process), or the
        target is not reached with rounded vectors.
    """
    item_vectors = np.ascontiguousarray(item_vectors, np.float32)
    queries = np.ascontiguousarray(queries, np.float32)
    _check(item_vectors, queries, options)
    target_recall, method, memory = options.target_recall, options.method, options.memory
    num_items = len(item_vectors)
    k = min(options.k, num_items)
    queries = measuring_queries(queries)
    thresholds = kth_best_scores(item_vectors, queries, k)

    started = time.perf_counter()
    exhaustive = _built(item_vectors, k, "exact", memory, {})
    exhaustive_point = measured(exhaustive, item_vectors, queries, thresholds)
    chosen, point, curve = exhaustive, exhaustive_point, [exhaustive_point]
    if method == "tree" or (method == "auto" and num_items >= EXACT_BELOW):
        if not len(queries):
            raise BundleError("A tree is tuned on queries and there are none; use method='exact'.")
        is_enough = memory == "full" or exhaustive_point["recall_low"] >= target_recall
        slowest = exhaustive_point["milliseconds"] if method == "auto" and is_enough else math.inf
        tree, tree_point, curve = _tuned_tree(
            item_vectors, queries, thresholds, k, target_recall, slowest, memory
        )
        curve.append(exhaustive_point)
        if tree_point is not None and tree_point["milliseconds"] < slowest:
            chosen, point = tree, tree_point
    if memory != "full" and not (point["recall_low"] or 0) >= target_recall:
        best = max(one["recall_low"] for one in curve)
        raise BundleError(
            f"With memory={memory!r} no setting reaches recall@{k} {target_recall}: the best is {best:.4f},"
            " two standard errors taken off. Lower the target recall, or use bfloat16 or full."
        )
    chosen.description |= {
        "metric": "dot_product",
        "similarity": "dot",
        "requested_method": method,
        "recall": point["recall"],
        "recall_low": point["recall_low"],
        "target_recall": target_recall,
        "milliseconds_per_query": point["milliseconds"],
        "queries": len(queries),
        "build_seconds": round(time.perf_counter() - started, 2),
        "curve": curve,
    }
    return chosen


def measuring_queries(queries: np.ndarray) -> np.ndarray:
    """The queries [Q, ...] that recall is measured on: at most 1,000 of them, evenly spaced."""
    return queries[_evenly_spaced(len(queries), _MOST_QUERIES)]


def _check(item_vectors: np.ndarray, queries: np.ndarray, options: IndexOptions) -> None:
    method, memory = options.method, options.memory
    if item_vectors.ndim != 2 or not item_vectors.size:
        raise BundleError(f"item_vectors is {list(item_vectors.shape)}; wanted [V, d], V above 0.")
    if queries.ndim not in (2, 3) or queries.shape[-1] != item_vectors.shape[1]:
        raise BundleError(
            f"queries is {list(queries.shape)}; wanted [Q, {item_vectors.shape[1]}] or [Q, K,"
            f" {item_vectors.shape[1]}], the dimension of the item vectors."
        )
    for name, values in (("item_vectors", item_vectors), ("queries", queries)):
        if not np.isfinite(values).all():
            row = int(np.argwhere(~np.isfinite(values))[0][0])
            raise BundleError(f"{name} holds a value that is not finite in row {row}.")
    if not 0 < options.target_recall <= 1:
        raise BundleError(f"target_recall is {options.target_recall}; it must be above 0 and at most 1.")
    if options.k < 1:
        raise BundleError(f"k is {options.k}; recall is measured at 1 or more.")
    if method not in INDEX_METHODS:
        raise BundleError(f"method is {method!r}; it is one of {', '.join(INDEX_METHODS)}.")
    if memory not in INDEX_MEMORIES:
        raise BundleError(f"memory is {memory!r}; it is one of {', '.join(INDEX_MEMORIES)}.")
    if memory != "full" and not len(queries):
        raise BundleError(
            f"memory={memory!r} is chosen by measured recall and there are no queries; use full."
        )
    if method == "tree" and len(item_vectors) < _LEAST_FOR_TREE:
        raise BundleError(
            f"A tree needs at least {_LEAST_FOR_TREE} items and got {len(item_vectors)}; use exact."
        )


def _evenly_spaced(size: int, most: int) -> np.ndarray:
    return np.unique(np.linspace(0, size - 1, min(size, most)).astype(np.int64))


def _built(item_vectors: np.ndarray, k: int, method: str, memory: str, settings: dict[str, Any]) -> ItemIndex:
    builder = scann.builder(item_vectors, k, "dot_product")
    kind = _STORED[memory]
    noise = _ANISOTROPIC if memory == "int8" else math.nan
    if method == "tree":
        builder = (
            builder.tree(
                settings["num_leaves"],
                settings["leaves_to_search"],
                soar_lambda=settings["soar_lambda"],
                overretrieve_factor=2.0,
            )
            .score_ah(2, anisotropic_quantization_threshold=_ANISOTROPIC)
            .reorder(settings["reorder"], quantize=kind, anisotropic_quantization_threshold=noise)
        )
    else:
        builder = builder.score_brute_force(kind)
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


def _tuned_tree(
    item_vectors: np.ndarray,
    queries: np.ndarray,
    thresholds: np.ndarray,
    k: int,
    target: float,
    give_up_above: float,
    memory: str,
) -> tuple[ItemIndex, dict[str, Any] | None, list[dict[str, Any]]]:
    """Builds a tree and searches its settings; no point when none below a time reaches the target.

    At its end the search scores everything in every leaf, so a tree of full vectors that may take any
    time does reach the target. One of rounded vectors need not: it ends where scoring twice the candidates
    gains nothing.
    """
    num_items = len(item_vectors)
    num_leaves = max(1, min(int(2 * math.sqrt(num_items)), num_items // _LEAST_FOR_TREE))
    settings = {
        "num_leaves": num_leaves,
        "leaves_to_search": num_leaves,
        "reorder": num_items,
        "soar_lambda": _SOAR_LAMBDA,
    }
    tree = _built(item_vectors, k, "tree", memory, settings)
    curve: list[dict[str, Any]] = []

    def measure(reorder: int, leaves: int) -> dict[str, Any]:
        settings.update(leaves_to_search=leaves, reorder=reorder)
        point = measured(tree, item_vectors, queries, thresholds)
        curve.append({"leaves_to_search": leaves, "reorder": reorder, **point})
        return curve[-1]

    best: dict[str, Any] | None = None
    reached = 0.0
    for reorder in _doubling(2 * k, num_items):
        point = _least_leaves(partial(measure, reorder), num_leaves, target)
        if point is None:
            highest = max(one["recall"] for one in curve if one["reorder"] == reorder)
            gains_nothing = memory != "full" and highest - reached < _LEAST_GAIN
            if curve[-1]["milliseconds"] > give_up_above or gains_nothing:
                break
            reached = highest
            continue
        if best is not None and point["milliseconds"] >= best["milliseconds"]:
            break  # scoring more candidates exactly no longer pays for the leaves it saves
        best = point
    if best is not None:
        settings.update(leaves_to_search=best["leaves_to_search"], reorder=best["reorder"])
    return tree, best, curve


def _least_leaves(
    measure: Callable[[int], dict[str, Any]], num_leaves: int, target: float
) -> dict[str, Any] | None:
    """Finds about the fewest leaves that reach the target, or None where more would not help."""
    too_few, previous = 0, -1.0
    for leaves in _doubling(math.ceil(num_leaves / 200), num_leaves):
        point = measure(leaves)
        if point["recall_low"] >= target:
            break
        if point["recall"] - previous < _LEAST_GAIN:
            return None  # what is missing is lost by the reordering, not by the leaves
        too_few, previous = leaves, point["recall"]
    else:
        return None
    for _ in range(2):
        between = round(math.sqrt(max(1, too_few) * leaves))
        if not too_few < between < leaves:
            break
        closer = measure(between)
        if closer["recall_low"] >= target:
            point, leaves = closer, between
        else:
            too_few = between
    return point


def _doubling(first: int, last: int) -> Iterator[int]:
    value = min(first, last)
    while value < last:
        yield value
        value *= 2
    yield last


def measured(
    index: ItemIndex, item_vectors: np.ndarray, queries: np.ndarray, thresholds: np.ndarray
) -> dict[str, Any]:
    """Measures an index against exact search.

    Args:
      index: to be measured, at the k of its description.
      item_vectors: float32 [R, d], the exact vectors of its rows.
      queries: float32 [Q, d] or [Q, K, d].
      thresholds: float32 [Q] from `kth_best_scores` over the items that can be answered.

    Returns:
      `recall`, `recall_low` (the mean less two standard errors) and `milliseconds`, the median time of a
      query alone; None each when there are no queries.
    """
    if not len(queries):
        return {"recall": None, "recall_low": None, "milliseconds": None}
    k = index.description["k"]
    rows, _ = index.search(queries, k)
    seconds = []
    for position in _evenly_spaced(len(queries), _TIMED_QUERIES):
        started = time.perf_counter()
        index.search(queries[position : position + 1], k)
        seconds.append(time.perf_counter() - started)
    recalls = recall_at_k(item_vectors, queries, rows, thresholds)
    error = recalls.std() / math.sqrt(len(recalls))
    return {
        "recall": round(float(recalls.mean()), 5),
        "recall_low": round(float(recalls.mean() - 2 * error), 5),
        "milliseconds": round(1000 * float(np.median(seconds)), 4),
    }

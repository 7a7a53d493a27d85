"""Builds an item index and chooses its settings by measured recall, not by hope."""

import math
import time
from pathlib import Path

import numpy as np

from export.index.index_options import INDEX_MEMORIES, INDEX_METHODS, MOST_PARTS, IndexOptions
from export.index.item_index import ItemIndex
from export.index.measuring import Truth, measuring_queries
from export.index.parted_building import build_parts
from export.index.scann_building import LEAST_FOR_TREE
from export.index.whole_building import build_whole
from export.store.bundle_errors import BundleError

# Up to here exhaustive search takes an eighth of a millisecond a query (64 dimensions, one thread):
# a tree would save a third of a request's other costs at best, and would not be exact.
EXACT_BELOW = 20_000
# Vectors that are built as one: ScaNN copies them, and takes a fifth more for a tree.
_PART_BYTES = 1 << 30
_CHECKED_TOGETHER = 1 << 16


def build_index(
    item_vectors: np.ndarray,
    *,
    queries: np.ndarray,
    options: IndexOptions,
    scratch: Path | None = None,
) -> ItemIndex:
    """Builds the index of a catalogue; the metric is the dot product, which training ranks by.

    A tree is tuned: of the settings (leaves to search, candidates to score exactly) whose recall@k
    on `queries` reaches the target, the one with the smallest query time is kept. To hold for other
    users too, the mean recall less two standard errors must reach it. If none does short of
    everything, everything is searched, which is exact. The curve is kept in the description.

    A catalogue of several parts is built part after part, so that beside `item_vectors` only the parts that
    are being built are in memory.

    Args:
      item_vectors: float32 [V, d], finite; it may be mapped from a file.
      queries: float32 [Q, d] or [Q, K, d], user vectors like those to come; at most 1,000, evenly
        spaced, are used. Q may be 0 only when the search is exact.
      options: the recall to reach, and how.
      scratch: where parts are written until the index is saved; it must not exist. Wanted with several parts.

    Raises:
      BundleError: the vectors or the settings cannot be used (ScaNN would end the process), or the
        target is not reached with rounded vectors.
    """
    item_vectors = np.ascontiguousarray(item_vectors, np.float32)
    queries = np.ascontiguousarray(queries, np.float32)
    _check(item_vectors, queries, options)
    queries = measuring_queries(queries)
    num_parts = options.parts or math.ceil(item_vectors.nbytes / _PART_BYTES)
    num_parts = min(num_parts, max(1, len(item_vectors) // LEAST_FOR_TREE))
    method = options.method
    if method == "auto" and len(item_vectors) < EXACT_BELOW * num_parts:
        method = "exact"
    if method != "exact" and not len(queries):
        raise BundleError("A tree is tuned on queries and there are none; use method='exact'.")

    started = time.perf_counter()
    if num_parts > 1:
        if scratch is None:
            raise BundleError(f"An index in {num_parts} parts needs a scratch directory to be built in.")
        index, point, curve = build_parts(item_vectors, queries, options, method, num_parts, scratch)
    else:
        truth = Truth.of(item_vectors, queries, min(options.k, len(item_vectors)))
        index, point, curve = build_whole(item_vectors, truth, options, method)
    # Everything is searched exactly only in one index of full vectors.
    is_rounded_or_parted = options.memory != "full" or num_parts > 1
    if is_rounded_or_parted and len(queries) and point["recall_low"] < options.target_recall:
        best = max(one["recall_low"] for one in curve)
        in_parts = f"In {num_parts} parts w" if num_parts > 1 else "W"
        raise BundleError(
            f"{in_parts}ith memory={options.memory!r} no setting reaches"
            f" recall@{index.description['k']} {options.target_recall}: the best is {best:.4f}, two standard"
            " errors taken off. Lower the target recall, or use fewer parts, or bfloat16 or full."
        )
    index.description |= {
        "metric": "dot_product",
        "similarity": "dot",
        "requested_method": options.method,
        "recall": point["recall"],
        "recall_low": point["recall_low"],
        "target_recall": options.target_recall,
        "milliseconds_per_query": point["milliseconds"],
        "queries": len(queries),
        "build_seconds": round(time.perf_counter() - started, 2),
        "curve": curve,
    }
    return index


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
        for start in range(0, len(values), _CHECKED_TOGETHER):
            is_finite = np.isfinite(values[start : start + _CHECKED_TOGETHER])
            if not is_finite.all():
                row = start + int(np.argwhere(~is_finite)[0][0])
                raise BundleError(f"{name} holds a value that is not finite in row {row}.")
    if not 0 < options.target_recall <= 1:
        raise BundleError(f"target_recall is {options.target_recall}; it must be above 0 and at most 1.")
    if options.k < 1:
        raise BundleError(f"k is {options.k}; recall is measured at 1 or more.")
    if not 0 <= options.parts <= MOST_PARTS:
        raise BundleError(f"parts is {options.parts}; wanted 1 to {MOST_PARTS}, or 0 to have it chosen.")
    if method not in INDEX_METHODS:
        raise BundleError(f"method is {method!r}; it is one of {', '.join(INDEX_METHODS)}.")
    if memory not in INDEX_MEMORIES:
        raise BundleError(f"memory is {memory!r}; it is one of {', '.join(INDEX_MEMORIES)}.")
    if memory != "full" and not len(queries):
        raise BundleError(
            f"memory={memory!r} is chosen by measured recall and there are no queries; use full."
        )
    if method == "tree" and len(item_vectors) < LEAST_FOR_TREE:
        raise BundleError(
            f"A tree needs at least {LEAST_FOR_TREE} items and got {len(item_vectors)}; use exact."
        )

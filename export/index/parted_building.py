"""Builds a catalogue as several ScaNN indexes, side by side, with no more in memory than those in the making.

Shape legend: Q queries, V items, P parts, W widths of search, d embedding size,
k results.
"""

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from export.index.index_options import IndexOptions
from export.index.item_index import ItemIndex
from export.index.measuring import Truth, milliseconds_of, recall_of
from export.index.part_places import part_directory
from export.index.parted_engine import PartedEngine
from export.index.recall import best_scores, is_found, is_reaching
from export.index.scann_building import TreeShape, build_exact, build_tree
from export.index.scann_engine import ScannEngine
from export.index.whole_building import build_whole
from export.store import checksums
from export.store.freed_memory import give_back_freed

# Built side by side: ScaNN uses all cores for most of a build, so more would take memory and no less time.
_SIDE_BY_SIDE = 2
# Times the leaves that the first part needs: what all are measured with, until the whole reaches the target.
_WIDER = (1.0, 1.25, 1.5, 2.0, 4.0)


@dataclass(frozen=True)
class _Measured:
    """What a part answers at each of the W widths.

    Attributes:
      scores: float32 [W, Q, k of the part], by which the answers are merged.
      is_hit: bool of the same shape, which of them are among the best of the whole.
      milliseconds: float64 [W], of a query alone.
    """

    scores: np.ndarray
    is_hit: np.ndarray
    milliseconds: np.ndarray


def build_parts(
    item_vectors: np.ndarray,
    queries: np.ndarray,
    options: IndexOptions,
    method: str,
    num_parts: int,
    scratch: Path,
) -> tuple[ItemIndex, dict[str, Any], list[dict[str, Any]]]:
    """Builds every part, saves it, lets it go, and measures what all of them find together.

    The first part is tuned on what it holds of the best k of the whole catalogue, which is all that is wanted
    of it; the others are searched as it is. Where the whole misses the target, all search more leaves.

    Args:
      item_vectors: float32 [V, d]; slot s is place s // P of part s % P.
      queries: float32 [Q, d] or [Q, K, d].
      options: the recall to reach, k and memory.
      method: "exact", "tree" or "auto", of every part what the first part chooses.
      num_parts: P.
      scratch: a directory that is made, in which the parts are saved.

    Returns:
      The index, whose parts are loaded when it is first searched; the point of its setting; and the points of
      the first part and of the whole.
    """
    k = min(options.k, len(item_vectors))
    truths = _truths(item_vectors, queries, k, num_parts)
    scratch.mkdir(parents=True)
    first, _, curve = build_whole(_copied(item_vectors, 0, num_parts), truths[0], options, method)
    method, settings = first.description["method"], first.description["settings"]
    widths = _widths(settings) if method == "tree" else [{}]

    def finish(part: int, index: ItemIndex) -> _Measured:
        """Saves a part, and measures it at each width."""
        assert isinstance(index.engine, ScannEngine)
        made = part_directory(scratch, part)
        made.mkdir()
        index.engine.save(made)
        checksums.write(made, {})
        truth, vectors = truths[part], item_vectors[part::num_parts]
        scores, hits, times = [], [], []
        for width in widths if len(queries) else []:
            index.description["settings"].update(settings | width)
            rows, found = index.search(queries, index.description["k"])
            scores.append(found)
            hits.append(is_found(vectors, queries, rows, truth.thresholds))
            times.append(milliseconds_of(index, queries))
        return _Measured(np.array(scores), np.array(hits), np.array(times))

    def build(part: int) -> _Measured:
        vectors = _copied(item_vectors, part, num_parts)
        size = min(k, len(vectors))
        if method == "exact":
            index = build_exact(vectors, size, options.memory)
        else:
            shape = TreeShape(settings["num_leaves"], settings["soar_lambda"])
            index = build_tree(vectors, size, options.memory, shape)
        del vectors  # ScaNN has its own
        measured = finish(part, index)
        del index
        give_back_freed()
        return measured

    results = [finish(0, first)]
    del first
    give_back_freed()
    with ThreadPoolExecutor(max(1, min(_SIDE_BY_SIDE, os.cpu_count() or 1))) as threads:
        results += threads.map(build, range(1, num_parts))
    point: dict[str, Any] = {"recall": None, "recall_low": None, "milliseconds": None}
    if len(queries):
        point = _chosen(results, widths, k, options.target_recall)
        settings.update({name: point[name] for name in widths[0]})
        curve.append(point | {"parts": num_parts})
    description = {
        "method": method,
        "memory": options.memory,
        "settings": settings,
        "items": len(item_vectors),
        "dimension": item_vectors.shape[1],
        "k": k,
        "parts": num_parts,
        "requested_parts": options.parts,
    }
    return ItemIndex(PartedEngine(scratch, description), description), point, curve


def _copied(item_vectors: np.ndarray, part: int, num_parts: int) -> np.ndarray:
    """A part's vectors, one after another as ScaNN wants them."""
    return np.ascontiguousarray(item_vectors[part::num_parts])


def _truths(item_vectors: np.ndarray, queries: np.ndarray, k: int, num_parts: int) -> list[Truth]:
    """What of the best k of all is in each part."""
    parts = [item_vectors[part::num_parts] for part in range(num_parts)]
    best = [best_scores(one, queries, min(k, len(one))) for one in parts]
    thresholds = np.partition(np.hstack(best), -k, axis=1)[:, -k]
    return [Truth(queries, thresholds, is_reaching(one, thresholds).sum(axis=1)) for one in best]


def _widths(settings: dict[str, Any]) -> list[dict[str, int]]:
    """The numbers of leaves that the parts are measured with, the fewest first."""
    most, leaves = settings["num_leaves"], settings["leaves_to_search"]
    return [{"leaves_to_search": one} for one in sorted({min(most, math.ceil(f * leaves)) for f in _WIDER})]


def _chosen(
    results: Sequence[_Measured], widths: Sequence[dict[str, int]], k: int, target: float
) -> dict[str, Any]:
    """The point of the first width at which the parts together reach the target, or of the last."""
    scores_WQ = np.concatenate([one.scores for one in results], axis=2)
    hits_WQ = np.concatenate([one.is_hit for one in results], axis=2)
    best_WQ = np.argsort(-scores_WQ, axis=2, kind="stable")[:, :, :k]
    found_WQ = np.take_along_axis(hits_WQ, best_WQ, axis=2).sum(axis=2)
    milliseconds_W = np.sum([one.milliseconds for one in results], axis=0)
    points = [
        width | recall_of(found, np.full(len(found), k)) | {"milliseconds": round(float(milliseconds), 4)}
        for width, found, milliseconds in zip(widths, found_WQ, milliseconds_W, strict=True)
    ]
    return next((one for one in points if one["recall_low"] >= target), points[-1])

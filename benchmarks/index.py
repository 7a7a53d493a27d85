"""The item index: time of a query against recall, beside exact search and other libraries.

Clustered unit vectors, one query at a time, one thread for each. faiss and hnswlib are measured where they
are installed (pip install faiss-cpu hnswlib) and are left out, visibly, where they are not.
"""

import dataclasses
import importlib.util
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks import pictures, rounds
from benchmarks.report import Result
from export.index.building import build_index
from export.index.index_options import IndexOptions
from export.index.item_index import ItemIndex
from export.index.recall import kth_best_scores, recall_at_k
from export.store.bundle_errors import BundleError

PEERS = {"faiss": "faiss-cpu", "hnswlib": "hnswlib"}

# queries [B, d] -> rows [B, k]
Search = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Attributes:
      num_items: V.
      width: d.
      k: of recall@k.
      target_recall: that the index is chosen for.
      num_tuning: queries on which it is chosen.
      num_queries: other queries, on which it is measured.
      timed: queries that a block sends one by one, of `exact` a tenth.
      memories: in which an index is built; "full" must be among them.
    """

    num_items: int = 300_000
    width: int = 64
    k: int = 50
    target_recall: float = 0.99
    num_tuning: int = 1_000
    num_queries: int = 1_000
    timed: int = 500
    memories: tuple[str, ...] = ("full", "bfloat16", "int8")


@dataclass(frozen=True)
class _Point:
    """A setting of a system: its recall on the measured queries, and how it searches."""

    recall: float
    search: Search


def measure(scale: Scale, num_rounds: int, say: Callable[[str], None] = print) -> Result:
    """Builds every index, then times one query at a time, all settings in the same rounds.

    Args:
      scale: how much is measured.
      num_rounds: how often.
      say: told how it goes on.

    Returns:
      The result; `ratios` divides times of a query: exact search in NumPy over the chosen index.
    """
    vectors, tuning, queries = _world(scale)
    thresholds = kth_best_scores(vectors, queries, scale.k)
    result = Result("index", details={"scale": dataclasses.asdict(scale), "build_seconds": {}, "recall": {}})

    def point(search: Search) -> _Point:
        recalls = recall_at_k(vectors, queries, search(queries), thresholds)
        return _Point(float(recalls.mean()), search)

    curves: dict[str, dict[str, _Point]] = {"exact": {"exact": point(partial(_exact, vectors, k=scale.k))}}
    for memory in scale.memories:
        say(f"building our index of {scale.num_items:,} items, {memory} vectors")
        started = time.perf_counter()
        try:
            options = IndexOptions(target_recall=scale.target_recall, k=scale.k, memory=memory)
            index = build_index(vectors, queries=tuning, options=options)
        except BundleError as error:
            if memory == "full":
                raise
            say(f"left out: {error}")
            continue
        result.details["build_seconds"][f"ours_{memory}"] = time.perf_counter() - started
        name = "ours" if memory == "full" else f"ours_{memory}"
        curves[name] = _our_curve(name, index, scale.k, point)
        result.details.setdefault("index", {})[name] = {
            key: index.description[key] for key in ("method", "settings", "memory", "recall", "queries")
        }
    result.details["peers"] = {}
    for module, package in PEERS.items():
        if importlib.util.find_spec(module) is None:
            say(f"{package} is not installed and is left out: pip install {package}")
            result.details["peers"][package] = None
            continue
        say(f"building the indexes of {package}")
        result.details["peers"][package] = metadata.version(package)
        curve = _faiss_curves if module == "faiss" else _hnswlib_curve
        started = time.perf_counter()
        curves |= curve(vectors, scale.k, point)
        result.details["build_seconds"][package] = time.perf_counter() - started
    _time(result, curves, queries, scale, num_rounds, say)
    return result


def draw(result: Result, directory: Path) -> None:
    """Draws every system's curve."""
    curves: dict[str, list[tuple[float, float]]] = {}
    for name, recall in result.details["recall"].items():
        system = name.partition(" ")[0]
        curves.setdefault(system, []).append((recall, result.median(name)))
    title = "A query at a time on one thread, medians of rounds"
    pictures.draw_curves(directory / "index.png", title, curves)


def _world(scale: Scale) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Items and two sets of queries: unit vectors in clusters of about fifty items."""
    random = np.random.default_rng(0)
    centres = random.standard_normal([max(2, scale.num_items // 50), scale.width], np.float32)

    def around(count: int) -> np.ndarray:
        noise = 0.5 * random.standard_normal([count, scale.width], np.float32)
        vectors = centres[random.integers(len(centres), size=count)] + noise
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    return around(scale.num_items), around(scale.num_tuning), around(scale.num_queries)


def _exact(vectors: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    """Exact search in NumPy: product, partition, sort of the k."""
    rows = np.empty([len(queries), k], np.int64)
    for place, query in enumerate(queries):
        scores = vectors @ query
        best = np.argpartition(scores, -k)[-k:]
        rows[place] = best[np.argsort(-scores[best])]
    return rows


def _our_curve(name: str, index: ItemIndex, k: int, point: Callable[[Search], _Point]) -> dict[str, _Point]:
    """The chosen setting, and with full vectors a few around it."""

    def search(settings: Mapping[str, int], queries: np.ndarray) -> np.ndarray:
        index.description["settings"] = settings
        return index.search(queries, k)[0]

    chosen = dict(index.description["settings"])
    curve = {f"{name} chosen": point(partial(search, chosen))}
    if name == "ours" and index.description["method"] == "tree":
        for factor in (0.25, 0.5, 2, 4):
            leaves = min(chosen["num_leaves"], max(1, round(factor * chosen["leaves_to_search"])))
            setting = chosen | {"leaves_to_search": leaves}
            curve[f"{name} {leaves} leaves"] = point(partial(search, setting))
    return curve


def _faiss_curves(
    vectors: np.ndarray, k: int, point: Callable[[Search], _Point]
) -> dict[str, dict[str, _Point]]:
    import faiss

    num_lists = max(1, min(1024, len(vectors) // 40))
    flat, centres = faiss.IndexFlatIP(vectors.shape[1]), faiss.IndexFlatIP(vectors.shape[1])
    flat.add(vectors)
    inverted = faiss.IndexIVFFlat(centres, vectors.shape[1], num_lists, faiss.METRIC_INNER_PRODUCT)
    inverted.train(vectors)
    inverted.add(vectors)

    def search(probes: int, queries: np.ndarray) -> np.ndarray:
        inverted.nprobe = probes
        return inverted.search(queries, k)[1]

    def search_flat(queries: np.ndarray) -> np.ndarray:
        return flat.search(queries, k)[1]

    probed = (probes for probes in (5, 10, 20, 40, 80) if probes <= num_lists)
    return {
        "faiss_flat": {"faiss_flat exact": point(search_flat)},
        "faiss_ivf": {f"faiss_ivf nprobe {probes}": point(partial(search, probes)) for probes in probed},
    }


def _hnswlib_curve(
    vectors: np.ndarray, k: int, point: Callable[[Search], _Point]
) -> dict[str, dict[str, _Point]]:
    import hnswlib

    graph = hnswlib.Index(space="ip", dim=vectors.shape[1])
    graph.init_index(max_elements=len(vectors), ef_construction=200, M=16)
    graph.add_items(vectors)
    graph.set_num_threads(1)

    def search(breadth: int, queries: np.ndarray) -> np.ndarray:
        graph.set_ef(breadth)
        return graph.knn_query(queries, k)[0].astype(np.int64)

    return {
        "hnswlib": {f"hnswlib ef {ef}": point(partial(search, ef)) for ef in (50, 64, 96, 128, 256)},
    }


def _time(
    result: Result,
    curves: Mapping[str, Mapping[str, _Point]],
    queries: np.ndarray,
    scale: Scale,
    num_rounds: int,
    say: Callable[[str], None],
) -> None:
    """Times all points in turn on one thread; adds measures, recalls and ratios."""
    points = {name: point for curve in curves.values() for name, point in curve.items()}
    counts = {name: scale.timed // (10 if "exact" in name else 1) for name in points}

    def block(name: str) -> None:
        for place in range(counts[name]):
            points[name].search(queries[place % len(queries)][None])

    with threadpool_limits(1):  # the products of NumPy, and faiss
        blocks = {name: partial(block, name) for name in points}
        seconds = rounds.interleave(blocks, num_rounds, say=say)
    milliseconds = {name: [1e3 * one / counts[name] for one in seconds[name]] for name in points}
    for name, point in points.items():
        result.details["recall"][name] = point.recall
        result.add(name, "ms per query", milliseconds[name])
    for name in (one for one in points if one.endswith(" chosen")):
        suffix = name.removesuffix(" chosen").removeprefix("ours")
        ratio = rounds.quotients(milliseconds["exact"], milliseconds[name])
        result.ratios[f"exact_over_index{suffix}_at_recall_99"] = ratio

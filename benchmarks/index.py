"""The item index: time of a query against recall, beside exact search and other libraries.

Item and user vectors of a model that was trained here (`benchmarks.trained_vectors`): queries one by one and
in batches, one thread for each. Times are the processor's, so that what else the machine does is not counted.
"""

import copy
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

from benchmarks import index_peers, pictures, rounds, trained_vectors
from benchmarks.index_peers import Curves, Search
from benchmarks.report import Result
from export.index.building import build_index
from export.index.index_options import IndexOptions
from export.index.item_index import ItemIndex
from export.index.recall import kth_best_scores, recall_at_k
from export.index.scann_engine import ScannEngine
from export.store.bundle_errors import BundleError

IN_BATCHES = ", in batches"


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Attributes:
      trained: the vectors of a trained model; False: clusters of `num_items`, unit vectors of `width`.
      num_items: V.
      width: d.
      k: of recall@k.
      target_recall: that the index is chosen for, and at which times are compared.
      num_tuning: queries on which it is chosen.
      num_queries: other queries, on which it is measured.
      timed: queries that a block sends one by one, of `exact` a tenth.
      batch: queries that are sent together.
      memories: in which an index is built; "full" must be among them.
    """

    trained: bool = True
    num_items: int = trained_vectors.NUM_ITEMS
    width: int = 64
    k: int = 50
    target_recall: float = 0.99
    num_tuning: int = 1_000
    num_queries: int = 1_024
    timed: int = 512
    batch: int = 64
    memories: tuple[str, ...] = ("full", "bfloat16", "int8")


@dataclass(frozen=True)
class _Point:
    """A setting of a system: its recall on the measured queries, and how it searches."""

    recall: float
    search: Search


def measure(scale: Scale, directory: Path, num_rounds: int, say: Callable[[str], None] = print) -> Result:
    """Builds every index, then times one query at a time and batches, all settings in the same rounds.

    Args:
      scale: how much is measured.
      directory: of the trained vectors, and of hnswlib's graph, which are made once.
      num_rounds: how often.
      say: told how it goes on.

    Returns:
      The result; `ratios` divides times of a query: exact search in NumPy over the chosen index, and the
      fastest setting of hnswlib that reaches the recall over it.
    """
    vectors, tuning, queries = _world(scale, directory, say)
    thresholds = kth_best_scores(vectors, queries, scale.k)
    result = Result("index", details={"scale": dataclasses.asdict(scale), "build_seconds": {}, "recall": {}})
    curves: Curves = {"exact": {"exact": partial(_exact, vectors, k=scale.k)}}
    for memory in scale.memories:
        say(f"building our index of {len(vectors):,} items, {memory} vectors")
        started = time.process_time()
        try:
            options = IndexOptions(target_recall=scale.target_recall, k=scale.k, memory=memory)
            index = build_index(vectors, queries=tuning, options=options)
        except BundleError as error:
            if memory == "full":
                raise
            say(f"left out: {error}")
            continue
        result.details["build_seconds"][f"ours_{memory}"] = time.process_time() - started
        name = "ours" if memory == "full" else f"ours_{memory}"
        curves[name] = _our_curve(name, index, scale.k)
        result.details.setdefault("index", {})[name] = {
            key: copy.copy(index.description[key])  # the settings will be searched with others
            for key in ("method", "settings", "memory", "recall", "queries")
        }
    result.details["peers"] = {}
    for module, package in index_peers.PEERS.items():
        if importlib.util.find_spec(module) is None:
            say(f"{package} is not installed and is left out: pip install {package}")
            result.details["peers"][package] = None
            continue
        say(f"building the indexes of {package}")
        result.details["peers"][package] = version = metadata.version(package)
        started = time.process_time()
        if module == "faiss":
            curves |= index_peers.faiss_curves(vectors, scale.k)
        else:
            graph = directory / f"hnswlib-{version}.graph" if scale.trained else None
            was_there = graph is not None and graph.exists()
            curves |= index_peers.hnswlib_curve(vectors, scale.k, graph)
            if was_there:
                continue
        result.details["build_seconds"][package] = time.process_time() - started

    def point(search: Search) -> _Point:
        recalls = recall_at_k(vectors, queries, search(queries), thresholds)
        return _Point(float(recalls.mean()), search)

    points = {name: point(search) for curve in curves.values() for name, search in curve.items()}
    _time(result, points, queries, scale, num_rounds, say)
    _compare(result, scale.target_recall)
    return result


def draw(result: Result, directory: Path) -> None:
    """Draws every system's curve."""
    curves: dict[str, list[tuple[float, float]]] = {}
    for name, recall in result.details["recall"].items():
        system = name.partition(" ")[0]
        curves.setdefault(system, []).append((recall, result.median(name)))
    title = "A query at a time on one thread, medians of rounds"
    pictures.draw_curves(directory / "index.png", title, curves)


def _world(
    scale: Scale, directory: Path, say: Callable[[str], None]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Items and two sets of queries: of the trained model, or unit vectors in clusters of about fifty."""
    if scale.trained:
        trained = trained_vectors.load_or_train(directory, say)
        return trained.items, trained.tuning[: scale.num_tuning], trained.queries[: scale.num_queries]
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


def _our_curve(name: str, index: ItemIndex, k: int) -> dict[str, Search]:
    """The chosen setting, and with full vectors a few around it."""
    assert isinstance(index.engine, ScannEngine)
    index.engine.searcher.set_num_threads(1)

    def search(settings: Mapping[str, int], queries: np.ndarray) -> np.ndarray:
        index.description["settings"].update(settings)
        return index.search(queries, k)[0]

    chosen = dict(index.description["settings"])
    curve = {f"{name} chosen": partial(search, chosen)}
    if name == "ours" and index.description["method"] == "tree":
        for factor in (0.25, 0.5, 2, 4):
            leaves = min(chosen["num_leaves"], max(1, round(factor * chosen["leaves_to_search"])))
            curve[f"{name} {leaves} leaves"] = partial(search, chosen | {"leaves_to_search": leaves})
    return curve


def _time(
    result: Result,
    points: Mapping[str, _Point],
    queries: np.ndarray,
    scale: Scale,
    num_rounds: int,
    say: Callable[[str], None],
) -> None:
    """Times all points in turn on one thread; adds measures and recalls."""
    counts = {name: scale.timed // (10 if "exact" in name else 1) for name in points}

    def one_by_one(name: str) -> None:
        for place in range(counts[name]):
            points[name].search(queries[place % len(queries)][None])

    def in_batches(name: str) -> None:
        for start in range(0, len(queries), scale.batch):
            points[name].search(queries[start : start + scale.batch])

    blocks: dict[str, Callable[[], None]] = {name: partial(one_by_one, name) for name in points}
    for name in points:
        if "exact" not in name:
            blocks[name + IN_BATCHES] = partial(in_batches, name)
            counts[name + IN_BATCHES] = len(queries)
    with threadpool_limits(1):  # the products of NumPy, and faiss
        seconds = rounds.interleave(blocks, num_rounds, say=say, clock=time.process_time)
    for name, point in points.items():
        result.details["recall"][name] = point.recall
    for name, taken in seconds.items():
        result.add(name, "ms per query", [1e3 * one / counts[name] for one in taken])


def _compare(result: Result, target: float) -> None:
    """Adds the ratios."""
    rounds_of = {one.name: one.values for one in result.measures}
    recall = result.details["recall"]
    for name in (one for one in recall if one.endswith(" chosen")):
        suffix = name.removesuffix(" chosen").removeprefix("ours")
        ratio = rounds.quotients(rounds_of["exact"], rounds_of[name])
        result.ratios[f"exact_over_index{suffix}_at_recall_99"] = ratio
    reaching = [one for one in recall if one.startswith("hnswlib") and recall[one] >= target]
    if reaching:
        best = min(reaching, key=result.median)
        for suffix, what in (("", ""), ("_in_batches", IN_BATCHES)):
            ratio = rounds.quotients(rounds_of[best + what], rounds_of["ours chosen" + what])
            result.ratios[f"hnswlib_over_index{suffix}_at_recall_99"] = ratio

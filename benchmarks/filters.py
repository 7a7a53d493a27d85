"""Filtered searches: recall against exact search, and time beside the search without a filter.

Vectors and queries of a trained model (`benchmarks.trained_vectors`), one query at a time, one thread. For
each share of the items that passes there are three kinds of filters: random items; whole interests, in any
order; and the interests whose items score lowest for the query. The time of a filtered search is that of
reading the JSON, evaluating it, which nothing keeps, and searching. Each query is asked without its filter
and with it in turn: so both meet the same caches, as in a service, and the same load of the machine. Beside
it: hnswlib with its filter, a Python function that it asks about every item that it meets, where it is
installed; and dropping what does not pass from the best 500 of an unfiltered search.

    python benchmarks/run.py --only=filters
"""

import dataclasses
import importlib.util
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks import pictures, rounds
from benchmarks.report import Measure, Result
from export.filters.expression import parse_filter
from export.filters.stored_attributes import ItemAttributes, Labels, Numbers
from export.index.building import build_index
from export.index.catalogue import Catalogue
from export.index.filtered_search import Wanted, search
from export.index.index_options import IndexOptions
from export.index.item_index import ItemIndex

KINDS = ("random", "category", "against")
_POST_FILTERED = 500


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Attributes:
      num_items: V; with fewer than 300,000 the vectors are generated, not trained.
      width: d of generated vectors.
      shares: of the items that pass.
      k: of recall@k.
      num_queries: of each kind of filter.
      num_peer_queries: of these, on the first of which the other systems are measured, once.
      world: directory of the trained vectors, made when it is missing.
      kept: directory of the index and of hnswlib's graph, each built when it is missing.
    """

    num_items: int = 300_000
    width: int = 64
    shares: tuple[float, ...] = (0.5, 0.1, 0.01, 0.001, 0.0001)
    k: int = 50
    num_queries: int = 40
    num_peer_queries: int = 5
    world: Path = Path("datasets/trained_vectors")
    kept: Path = Path("datasets/benchmark_filters")


class _Asked(NamedTuple):
    """A query [d], its filter as JSON, and the rows that pass."""

    query: np.ndarray
    text: str
    passing: np.ndarray


def measure(scale: Scale, num_rounds: int, say: Callable[[str], None] = print) -> Result:
    """Measures every share and kind in the same rounds; `ratios` have the worst of the three kinds.

    Args:
      scale: how much is measured.
      num_rounds: how often.
      say: told how it goes on.
    """
    world = _World.made(scale, say)
    result = Result("filters", details={"scale": _json(dataclasses.asdict(scale)), "by_kind": {}})
    asked = {
        (share, kind): list(_asked(world, scale, share, kind)) for share in scale.shares for kind in KINDS
    }
    peers = {"post_filter": world.post_filtered}
    if world.graph is not None:
        peers["hnswlib"] = world.hnsw_filtered
    seconds: dict[Any, list[float]] = {}
    with threadpool_limits(1):
        for number in range(num_rounds):
            for (share, kind), cases in asked.items():
                for name, value in _in_turns(
                    {"unfiltered": world.unfiltered, "ours": world.ours}, cases
                ).items():
                    seconds.setdefault((name, share, kind), []).append(value)
            say(f"round {number + 1} of {num_rounds}")
        for share in scale.shares:
            percent, quotients, recalls = f"{100 * share:g}", {}, []
            for kind in KINDS:
                cases = asked[share, kind]
                ours, unfiltered = seconds["ours", share, kind], seconds["unfiltered", share, kind]
                found = _found(world, cases, peers, scale.num_peer_queries)
                found["ours"]["milliseconds"] = 1e3 * float(np.median(ours))
                found["unfiltered_milliseconds"] = 1e3 * float(np.median(unfiltered))
                result.details["by_kind"][f"{percent} % {kind}"] = found
                result.add(f"{percent} % {kind}", "ms", [1e3 * one for one in ours])
                recalls.append(found["ours"]["recall"])
                quotients[kind] = rounds.quotients(ours, unfiltered)
                result.ratios[f"time_over_unfiltered_at_{percent}_{kind}"] = quotients[kind]
            result.ratios[f"recall_at_{percent}"] = [min(recalls)] * num_rounds
            worst = max(KINDS, key=lambda kind: float(np.median(quotients[kind])))
            result.ratios[f"time_over_unfiltered_at_{percent}"] = quotients[worst]
            say(f"{percent} %: recall {min(recalls):.4f}, {np.median(quotients[worst]):.2f} times the time")
    return result


def _found(
    world: "_World", cases: list["_Asked"], peers: dict[str, Callable], num_peer_queries: int
) -> dict[str, Any]:
    """Recall of every system against exact search, and the time of the peers."""
    exact = [world.best(one) for one in cases]

    def recall(answers: list[np.ndarray]) -> float:
        pairs = zip(answers, exact, strict=False)
        return round(float(np.mean([_recall(found, best) for found, best in pairs])), 5)

    found: dict[str, Any] = {"passing": int(np.median([len(one.passing) for one in cases]))}
    found |= {"plans": world.plans(cases), "ours": {"recall": recall([world.ours(one) for one in cases])}}
    for name, system in peers.items():
        times, answers = _timed(system, cases[:num_peer_queries])
        found[name] = {"recall": recall(answers), "milliseconds": 1e3 * times}
    return found


def draw(result: Result, directory: Path) -> None:
    """Draws the time of each share and kind."""
    title = "A filtered search by the share that passes, k = 50"
    measures = [Measure(one.name, one.unit, one.values) for one in result.measures]
    pictures.draw_bars(directory / "filters.png", title, measures)


class _World:
    """The catalogue with its attributes, and every system that searches it."""

    def __init__(self, vectors, queries, interests, index: ItemIndex, graph: Any, k: int):
        self.vectors, self.queries, self.interests, self._k = vectors, queries, interests, k
        self._index, self.graph = index, graph
        self.uniform = np.random.default_rng(0).permutation(len(vectors)) / len(vectors)
        ids = [str(row) for row in range(len(vectors))]
        labels, codes = np.unique(interests, return_inverse=True)
        columns: dict[str, Labels | Numbers] = {
            "uniform": Numbers("numeric", self.uniform),
            "interest": Labels(
                "category", np.arange(len(ids)), codes.astype(np.int32), [str(x) for x in labels]
            ),
        }
        self._table = ItemAttributes(ids, columns).by_row(Catalogue(index, ids).all_ids)
        order = np.argsort(interests, kind="stable")
        self.by_interest = np.split(order, np.cumsum(np.bincount(codes))[:-1])
        self.centres = np.stack([vectors[rows].mean(axis=0) for rows in self.by_interest])
        self.names = [str(x) for x in labels]
        _ = index.partitions

    @classmethod
    def made(cls, scale: Scale, say: Callable[[str], None]) -> "_World":
        if scale.num_items >= 300_000:
            from benchmarks.trained_vectors import load_or_train

            made = load_or_train(scale.world, say)
            vectors, queries, interests = made.items, made.queries, made.interests
            tuning = made.tuning
        else:
            rng = np.random.default_rng(0)
            interests = rng.integers(20, size=scale.num_items)
            centres = rng.normal(size=(20, scale.width))
            noise = rng.normal(size=(scale.num_items, scale.width))
            vectors = (centres[interests] + 0.5 * noise).astype(np.float32)
            queries = tuning = vectors[rng.integers(scale.num_items, size=400)] + np.float32(0.1)
        place = scale.kept / "item_index" / "filters"
        if not place.is_dir():
            say(f"building an index of {len(vectors):,} items, once")
            built = build_index(vectors, queries=tuning[:1_000], options=IndexOptions(method="tree"))
            ids = [str(row) for row in range(len(vectors))]
            built.save(place, fingerprint="filters", item_ids=ids, item_vectors=vectors)
        graph = None
        if importlib.util.find_spec("hnswlib") is not None:
            graph = _graph(vectors, scale.kept / "graph.bin", say)
        return cls(vectors, queries, interests, ItemIndex.load(place), graph, scale.k)

    def ours(self, one: _Asked) -> np.ndarray:
        return self._searched(one).rows

    def plans(self, cases: list[_Asked]) -> dict[str, int]:
        plans = [self._searched(one).plan for one in cases]
        return {plan: plans.count(plan) for plan in sorted(set(plans))}

    def _searched(self, one: _Asked):
        expression = parse_filter(json.loads(one.text))
        assert expression is not None
        wanted = Wanted(self._k, np.zeros(0, np.int64), self._table.passing(expression))
        return search(self._index, one.query[None], [wanted])[0]

    def unfiltered(self, one: _Asked) -> np.ndarray:
        return search(self._index, one.query[None], [Wanted(self._k, np.zeros(0, np.int64))])[0].rows

    def post_filtered(self, one: _Asked) -> np.ndarray:
        expression = parse_filter(json.loads(one.text))
        assert expression is not None
        passing = self._table.passing(expression)
        count = min(_POST_FILTERED, self._index.num_items)
        rows = self._index.search(one.query[None], count)[0][0]
        return rows[passing.contains(rows)][: self._k]

    def hnsw_filtered(self, one: _Asked) -> np.ndarray:
        expression = parse_filter(json.loads(one.text))
        assert expression is not None
        passing = self._table.passing(expression)
        mask = np.zeros(len(self.vectors), bool)
        mask[passing.rows] = True
        try:
            return self.graph.knn_query(one.query[None], self._k, filter=mask.__getitem__)[0][0].astype(
                np.int64
            )
        except RuntimeError:  # it found fewer than k
            return np.zeros(0, np.int64)

    def best(self, one: _Asked) -> np.ndarray:
        scores = self.vectors[one.passing] @ one.query
        return one.passing[np.argsort(-scores, kind="stable")[: self._k]]


def _asked(world: _World, scale: Scale, share: float, kind: str) -> Iterator[_Asked]:
    rng = np.random.default_rng(int(share * 1e6))
    sizes = np.array([len(rows) for rows in world.by_interest])
    for query in world.queries[: scale.num_queries]:
        if kind == "random":
            low = rng.random() * (1 - share)
            mask = (world.uniform >= low) & (world.uniform < low + share)
            wanted: dict[str, Any] = {"uniform": {"ge": low, "lt": low + share}}
            passing = np.flatnonzero(mask)
        else:
            order = np.argsort(world.centres @ query) if kind == "against" else rng.permutation(len(sizes))
            count = max(1, int(np.searchsorted(np.cumsum(sizes[order]), share * len(world.vectors))))
            passing = np.sort(np.concatenate([world.by_interest[place] for place in order[:count]]))
            wanted = {"interest": [world.names[place] for place in order[:count]]}
            part = share * len(world.vectors) / len(passing)
            if part < 0.9:  # less than one interest
                wanted["uniform"] = {"lt": part}
                passing = passing[world.uniform[passing] < part]
        yield _Asked(query, json.dumps(wanted), passing)


def _graph(vectors: np.ndarray, path: Path, say: Callable[[str], None]) -> Any:
    import hnswlib

    graph = hnswlib.Index(space="ip", dim=vectors.shape[1])
    if path.exists():
        graph.load_index(str(path))
    else:
        say(f"building hnswlib's graph of {len(vectors):,} items, once")
        graph.init_index(max_elements=len(vectors), ef_construction=200, M=16)
        graph.add_items(vectors)
        graph.save_index(str(path))
    graph.set_num_threads(1)
    graph.set_ef(128)
    return graph


def _in_turns(systems: dict[str, Callable[[_Asked], Any]], cases: list[_Asked]) -> dict[str, float]:
    """The median of the processor's seconds for a query of each system, asked one after the other."""
    times: dict[str, list[float]] = {name: [] for name in systems}
    for one in cases:
        for name, system in systems.items():
            times[name] += [_timed(system, [one])[0]]
    return {name: float(np.median(values)) for name, values in times.items()}


def _timed(system: Callable[[_Asked], np.ndarray], cases: list[_Asked]) -> tuple[float, list[np.ndarray]]:
    """The median of the processor's seconds for a query, since others may be at work; and the answers."""
    times, answers = [], []
    for one in cases:
        started = time.thread_time()
        answers.append(system(one))
        times.append(time.thread_time() - started)
    return float(np.median(times)), answers


def _recall(found: np.ndarray, best: np.ndarray) -> float:
    return len(np.intersect1d(found, best)) / len(best) if len(best) else 1.0


def _json(values: dict[str, Any]) -> dict[str, Any]:
    return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}

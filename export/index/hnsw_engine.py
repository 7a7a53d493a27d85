"""hnswlib as an engine: a graph, built in memory when an index is opened. It runs on macOS and on ARM, too.

Shape legend: B queries, S slots, d embedding size, k results.
"""

import math
import threading
from typing import Any

import numpy as np

from export.index.engine import StoredIndex
from export.index.numpy_engine import NumpyEngine
from export.index.queries import read_queries
from export.index.recall import kth_best_scores, recall_at_k
from export.store.bundle_errors import BundleError

_NEIGHBOURS = 16
_BUILD_WIDTH = 200
_SEED = 100
_ADDED_TOGETHER = 65_536  # hnswlib copies what it is given
_MOST_QUERIES = 200


class HnswEngine:
    """A graph over the vectors; see `export.index.engine.Engine`.

    Its width of search, hnswlib's `ef`, is the smallest power of two at which the recall that the index was
    published with is reached, measured on the same users.
    """

    def __init__(self, vectors: np.ndarray):
        """Builds the graph over float32 [S, d]; 300,000 of 64 take about a minute on two cores.

        Raises:
          BundleError: hnswlib is not installed.
        """
        try:
            import hnswlib
        except ImportError as error:
            raise BundleError(
                f"--engine=hnswlib needs a package ({error}): pip install -e '.[hnswlib]' in the checkout."
            ) from error
        self._vectors = vectors
        self._graph: Any = hnswlib.Index(space="ip", dim=vectors.shape[1])
        self._graph.init_index(len(vectors), M=_NEIGHBOURS, ef_construction=_BUILD_WIDTH, random_seed=_SEED)
        for start in range(0, len(vectors), _ADDED_TOGETHER):
            part = np.asarray(vectors[start : start + _ADDED_TOGETHER])
            self._graph.add_items(part, np.arange(start, start + len(part)))
        self._exhaustive = NumpyEngine(vectors)
        self._width, self._at_k = 64, 50
        self._searching = threading.Lock()  # the width is the graph's, not the search's

    @classmethod
    def open(cls, stored: StoredIndex) -> "HnswEngine":
        """Builds the graph of a saved index and chooses its width of search by measured recall."""
        engine = cls(stored.vectors)
        queries = read_queries(stored.directory)
        if queries is not None and len(queries):
            engine._choose_width(queries, stored.description["k"], stored.description["target_recall"])
        return engine

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Finds the k best slots of each query; exactly where the graph does not lead to k of them."""
        width = max(k, math.ceil(self._width * max(1.0, k / self._at_k)))
        try:
            with self._searching:
                self._graph.set_ef(width)
                slots, _ = self._graph.knn_query(queries, k=k)
        except RuntimeError:  # fewer than k are reached
            return self._exhaustive.search(queries, k)
        slots = slots.astype(np.int64)
        # Its distance is one less the product, which loses digits.
        scores = np.einsum("bd,bkd->bk", queries, self._vectors[slots])
        order = np.argsort(-scores, axis=1, kind="stable")
        return np.take_along_axis(slots, order, axis=1), np.take_along_axis(scores, order, axis=1)

    def _choose_width(self, queries: np.ndarray, k: int, target_recall: float) -> None:
        flat = queries.reshape(-1, queries.shape[-1])[:: max(1, len(queries) // _MOST_QUERIES)]
        thresholds = kth_best_scores(self._vectors, flat, k)
        self._width, self._at_k = k, k
        while self._width < len(self._vectors):
            slots, _ = self.search(flat, k)
            if recall_at_k(self._vectors, flat, slots, thresholds).mean() >= target_recall:
                break
            self._width *= 2

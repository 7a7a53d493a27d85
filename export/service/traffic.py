"""What is asked and answered, over the last few thousand histories, beside what the tower was trained on.

Nothing here grows with time or with what clients send: two bytes for each item of the catalogue, and a few
dozen counts. A history costs one look-up for each item that the tower reads and for each item of its answer.
"""

import functools
import threading
from collections.abc import Sequence

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge

from export.index.catalogue import Catalogue
from export.index.history_shape import PARTS, HistoryShape, divergence, parts_of
from export.query import Query, ids_of
from export.towers.answers import Recommendation


class _Half:
    """Half of the window: the histories that came after one another."""

    def __init__(self, num_rows: int):
        self.asked = HistoryShape()
        self.is_answered = np.zeros(num_rows, bool)
        self.histories = 0


class Traffic:
    """The window of one version; a newer version begins a new one."""

    def __init__(self, registry: CollectorRegistry, window: int):
        """Makes the metrics.

        Args:
          registry: gets them.
          window: how many histories the gauges look back on, about: at least half as many once they came.
        """
        self._half_window = max(1, window // 2)
        self._lock = threading.Lock()
        self._catalogue: Catalogue | None = None
        self._training: dict | None = None
        self._max_history = 1
        self._halves = [_Half(0), _Half(0)]  # the one before, and the one that is being filled
        items = Counter(
            "causerec_answered_items",
            "Items in answers, by part of the catalogue: up to this share of it, the most popular first, or"
            " added to the index later.",
            ["popularity"],
            registry=registry,
        )
        self._items = [items.labels(part) for part in PARTS]
        Gauge(
            "causerec_answered_coverage",
            "Share of the catalogue that was in an answer within the window.",
            registry=registry,
        ).set_function(self.coverage)
        drift = Gauge(
            "causerec_history_drift",
            "Jensen-Shannon divergence, 0 to 1, of the window's histories from those of training: of their"
            " items' popularity, or of their lengths. NaN where the bundle has no model card.",
            ["of"],
            registry=registry,
        )
        for what in ("popularity", "lengths"):
            drift.labels(what).set_function(functools.partial(self.drift, what))
        Gauge(
            "causerec_window_histories", "Histories on which coverage and drift rest.", registry=registry
        ).set_function(self.histories)

    def follow(self, catalogue: Catalogue, max_history: int, training: dict | None) -> None:
        """Begins a window.

        Args:
          catalogue: of the version that is asked from now on; answers of others are not counted.
          max_history: how many known items of a history its tower reads, the last ones.
          training: `histories` of its model card, if it has one.
        """
        with self._lock:
            self._catalogue, self._max_history, self._training = catalogue, max_history, training
            self._halves = [_Half(catalogue.num_rows), _Half(catalogue.num_rows)]

    def observe(self, queries: Sequence[Query], answers: Sequence[Recommendation]) -> None:
        """Counts B queries and their B answers, those of the version that is followed; from any thread."""
        catalogue = self._catalogue
        if catalogue is None:
            return
        pairs = [
            (query.history, answer.items)
            for query, answer in zip(queries, answers, strict=True)
            if answer.version == catalogue.version
        ]
        # Not more of a history than the tower may read: its length is the client's.
        lasts = (ids_of(history[-self._max_history :]) for history, _ in pairs)
        read = [catalogue.known(catalogue.rows(last)) for last in lasts]
        answered = catalogue.rows([item for _, items in pairs for item in items])
        parts = np.bincount(parts_of(answered, catalogue.vocabulary_size), minlength=len(PARTS))
        for counter, count in zip(self._items, parts.tolist(), strict=True):
            counter.inc(count)
        with self._lock:
            if catalogue is not self._catalogue:  # a newer one has come meanwhile
                return
            half = self._halves[1]
            half.asked.add(read, catalogue.vocabulary_size)
            half.is_answered[answered] = True
            half.histories += len(pairs)
            if half.histories >= self._half_window:
                self._halves = [half, _Half(len(half.is_answered))]

    def coverage(self) -> float:
        """The share of the items that was answered within the window; NaN before anything was."""
        with self._lock:
            if self._catalogue is None or not self.histories():
                return float("nan")
            before, now = self._halves
            answered = int(np.count_nonzero(before.is_answered | now.is_answered))
            return answered / self._catalogue.num_items

    def drift(self, what: str) -> float:
        """How far the histories of the window are from those of training, in `popularity` or `lengths`."""
        with self._lock:
            counts = sum(getattr(half.asked, what) for half in self._halves)
            if self._training is None or len(self._training[what]) != len(counts):
                return float("nan")
            return divergence(counts, np.array(self._training[what]))

    def histories(self) -> int:
        """How many histories the window holds."""
        return sum(half.histories for half in self._halves)

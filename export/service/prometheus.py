"""What the service counts, for Prometheus."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)

from export.service.logs import DROPPED_LINES
from export.service.traffic import Traffic

# From half a millisecond, below which no request comes, to the longest timeout.
_SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 60.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Metrics:
    """The metrics of one service, in a registry of their own."""

    def __init__(self, traffic_window: int) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        registry.register(DROPPED_LINES)
        self.requests = Counter(
            "causerec_requests", "Requests that were answered.", ["path", "status"], registry=registry
        )
        self.request_seconds = Histogram(
            "causerec_request_seconds",
            "Seconds from the head of a request to the end of its answer.",
            ["path"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.tower_seconds = Histogram(
            "causerec_tower_seconds",
            "A call of the user tower, for a batch of histories.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.batch_size = Histogram(
            "causerec_batch_histories",
            "Histories that were answered together.",
            buckets=_SIZES,
            registry=registry,
        )
        self.waiting = Gauge(
            "causerec_waiting_histories", "Histories that no thread has taken yet.", registry=registry
        )
        self.answers = Counter(
            "causerec_answers", "Histories that were answered, by version.", ["version"], registry=registry
        )
        self.fallbacks = Counter(
            "causerec_fallbacks",
            "Users of whom nothing is known, answered with the most popular items.",
            registry=registry,
        )
        self.history_items = Counter(
            "causerec_history_items", "Items in histories, known or not.", registry=registry
        )
        self.unknown_items = Counter(
            "causerec_unknown_items", "Unknown items in histories.", registry=registry
        )
        self.unknown_values = Counter(
            "causerec_unknown_values", "Values of features that training never saw.", registry=registry
        )
        self.short_answers = Counter(
            "causerec_short_answers", "Histories that got fewer than k items.", registry=registry
        )
        self.traffic = Traffic(registry, traffic_window)
        self.plans = Counter(
            "causerec_plans",
            "Answers by how they were found; `empty`: no item passed the filter.",
            ["plan"],
            registry=registry,
        )
        self.unavailable = Gauge(
            "causerec_unavailable_items", "Items of the catalogue that are out.", registry=registry
        )
        self.unavailable_failures = Counter(
            "causerec_unavailable_failures",
            "Times that the file of unavailable items could not be read.",
            registry=registry,
        )
        self.reranker = Counter(
            "causerec_reranked",
            "Lists that a re-ranker was asked about: used, late, busy or failed.",
            ["outcome"],
            registry=registry,
        )
        self.explored = Counter(
            "causerec_explored_items", "Items in answers that were drawn to explore.", registry=registry
        )
        self.number = Gauge(
            "causerec_published_number", "Number of the newest version that is loaded.", registry=registry
        )
        self.load_failures = Counter(
            "causerec_load_failures",
            "Newer versions, or attributes, that could not be loaded.",
            registry=registry,
        )

"""The settings of a service with their defaults; flags are made of them, so that nothing is loaded here."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from export.index.engines import ENGINES
from export.store.layout import MODEL_NAME


def _option(default: Any, meaning: str, *, least: float | None = None) -> Any:
    return field(default=default, metadata={"meaning": meaning, "least": least})


@dataclass(frozen=True)
class Options:
    """What a service serves, and how much of it; those with a meaning are flags of `export/serve.py`.

    Of `allowed_hosts`, what the header Host may name, `*` is anything.
    """

    bundle: Path
    allowed_hosts: tuple[str, ...] = ("*",)
    tower_address: str | None = _option(
        None, "host:port of TensorFlow Serving's gRPC port. None: the tower runs here."
    )
    tower_name: str = _option(MODEL_NAME, "The tower's model name on TensorFlow Serving.")
    engine: str = _option("auto", f"What searches the items: {', '.join(ENGINES)}.")
    max_k: int = _option(200, "Largest k of a request.", least=1)
    max_batch: int = _option(128, "Most histories of a request.", least=1)
    max_history_ids: int = _option(10_000, "Most item ids of a history.", least=1)
    max_waiting: int = _option(512, "Most waiting histories; more are refused with status 429.", least=1)
    max_together: int = _option(32, "Most histories that are answered as one batch.", least=1)
    threads: int = _option(1, "Threads that answer; more than one pays off with --tower_address.", least=1)
    timeout_ms: int = _option(1_000, "Milliseconds for a request that names no limit.", least=1)
    max_timeout_ms: int = _option(60_000, "Longest limit that a request may name, in milliseconds.", least=1)
    max_body_bytes: int = _option(2**20, "Most bytes of a request's body.", least=1)
    max_body_values: int = _option(
        50_000, "Most values of a body, counted by its commas and brackets.", least=1
    )
    max_body_seconds: float = _option(10.0, "Seconds in which the body of a request must arrive.", least=0.05)
    max_head_bytes: int = _option(
        16_384, "Most bytes of a request's head; more is refused with status 431.", least=256
    )
    max_head_seconds: float = _option(
        10.0,
        "Seconds in which the head of a connection's next request must arrive, and an answer be taken.",
        least=0.05,
    )
    max_connections: int = _option(
        1_000,
        "Most open connections; for one more, the one that has waited longest for its client is closed.",
        least=1,
    )
    traffic_window: int = _option(
        10_000, "Histories that coverage and drift in /metrics look back on, about.", least=2
    )
    filter: str | None = _option(None, "Filter in JSON that every answer passes, beside the request's own.")
    unavailable: str | None = _option(
        None, "File of ids that are out, one a line, followed. None: unavailable.txt of the bundle."
    )
    unavailable_token_file: str | None = _option(
        None, "File with the token of POST /unavailable. None: there is no such path."
    )
    diversity: float = _option(
        0.0, "Score that an item loses for each better item of its category in the list.", least=0
    )
    relevance: float = _option(
        1.0,
        "Share of the score against the cosine to the nearest item of the list: maximal marginal relevance.",
        least=0,
    )
    category_cap: int = _option(0, "Most items of one category in a list; 0: any number.", least=0)
    item_categories: str | None = _option(
        None, "For --diversity and --category_cap: csv or tsv file with item id and category."
    )
    category_column: str | None = _option(
        None, "Instead of --item_categories: a column of the bundle's item attributes, which is followed."
    )
    max_diversity: float = _option(
        0.0, "Largest diversity that a request may ask for itself; 0: it may not.", least=0
    )
    min_category_cap: int = _option(
        0, "Smallest category_cap that a request may ask for itself; 0: it may not.", least=0
    )
    reranker: str | None = _option(
        None, "What scores the candidates again: module:function, or an http or https address."
    )
    reranker_ms: int = _option(50, "Milliseconds for that; then the list stays as it was found.", least=1)
    explore: float = _option(0.0, "Share of a list that is drawn from --explore_from.", least=0)
    explore_from: str = _option(
        "tail", "tail: all but the most popular items; new: those added since the tower was trained."
    )
    poll_seconds: float = _option(2.0, "Seconds between two looks for a newer version.", least=0.05)

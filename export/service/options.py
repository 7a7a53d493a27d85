"""The settings of a service with their defaults; nothing is loaded for them, so that flags can read them."""

from dataclasses import dataclass
from pathlib import Path

from export.store.layout import MODEL_NAME


@dataclass(frozen=True)
class Options:
    """What a service serves, and how much of it.

    Attributes:
      bundle: its directory.
      tower_address: host:port of TensorFlow Serving's gRPC port; None: the tower runs in this process.
      tower_name: the model's name there.
      max_k: the largest k that is answered.
      max_batch: histories in one request.
      max_history_ids: item ids in one history.
      max_waiting: histories that may wait for a thread; more are refused.
      max_together: histories that are answered in one go.
      threads: that answer at the same time; with a tower elsewhere they mostly wait for it.
      timeout_ms: of a request that names none.
      max_timeout_ms: the longest that a request may name.
      max_body_bytes: of a request.
      max_body_values: item ids, histories and whatever else, by the commas and brackets of a request.
      max_body_seconds: from a request's head to the end of its body.
      allowed_hosts: what the header Host may name; `*` is anything.
      poll_seconds: between two looks for a newer version.
    """

    bundle: Path
    tower_address: str | None = None
    tower_name: str = MODEL_NAME
    max_k: int = 200
    max_batch: int = 128
    max_history_ids: int = 10_000
    max_waiting: int = 512
    max_together: int = 32
    threads: int = 1
    timeout_ms: int = 1_000
    max_timeout_ms: int = 60_000
    max_body_bytes: int = 2**20
    max_body_values: int = 50_000
    max_body_seconds: float = 10.0
    allowed_hosts: tuple[str, ...] = ("*",)
    poll_seconds: float = 2.0

"""Serving: a request over HTTP against the bare retriever, requests a second, and what is shed above that.

A generated catalogue of Yelp2018's size, the mean of a history's vectors for a tower, k = 20. The service
runs in a process of its own on the machine of the clients, with which it shares the cores.
"""

import contextlib
import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from benchmarks import pictures, rounds
from benchmarks.http_load import load
from benchmarks.report import Measure, Result
from export.publishing.publication import Model
from export.publishing.publish import publish
from export.retriever import Retriever

ROOT = Path(__file__).resolve().parents[1]
K = 20
_HISTORIES = 500
_MANY = 64
# Fewer may wait than clients ask: what is more must be refused.
_SMALL_QUEUE = 16


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Attributes:
      items: of the catalogue.
      dimension: of a vector.
      max_history: items that the tower reads; histories are from 1 to twice as long.
      requests: of one measurement.
    """

    items: int = 38_048
    dimension: int = 64
    max_history: int = 20
    requests: int = 4_000


def measure(scale: Scale, num_rounds: int, say: Callable[[str], None] = print) -> Result:
    """Measures the bare retriever and three services in turn, once a round.

    Args:
      scale: how much is measured.
      num_rounds: how often.
      say: told how it goes on.
    """
    random = np.random.default_rng(0)
    lengths = random.integers(1, 2 * scale.max_history, _HISTORIES)
    histories = [[str(item) for item in random.integers(0, scale.items, length)] for length in lengths]
    bodies = [{"history": history, "k": K} for history in histories]
    found: dict[tuple[str, str], list[float]] = {}

    def keep(name: str, unit: str, value: float) -> None:
        found.setdefault((name, unit), []).append(float(value))

    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as services:
        place = Path(folder)
        bundle = place / "bundle"
        say(f"building a bundle of {scale.items:,} items")
        publish_generated(bundle, scale.items, scale.dimension, scale.max_history)
        retriever = Retriever.open(bundle)
        together = services.enter_context(serving(bundle, place))
        alone = services.enter_context(serving(bundle, place, "--max_together=1"))
        small = services.enter_context(
            serving(bundle, place, f"--max_waiting={_SMALL_QUEUE}", "--max_batch=1")
        )
        for address in (together, alone, small):
            load(address, bodies, clients=4, each=scale.requests // 16)  # warms it up
        for number in range(num_rounds):
            bare = _bare(retriever, histories, scale.requests)
            _quantiles(keep, "bare", bare)
            for clients in (1, 16):
                _quantiles(
                    keep,
                    f"http_{clients}_clients",
                    load(together, bodies, clients, scale.requests // clients).milliseconds,
                )
            each = scale.requests // _MANY
            keep("batched_64_clients", "requests/s", load(together, bodies, _MANY, each).per_second)
            keep("one_by_one_64_clients", "requests/s", load(alone, bodies, _MANY, each).per_second)
            overload = load(small, bodies, _MANY, each)
            keep("shed_64_clients_queue_16", "share of requests", overload.shed_share)
            _quantiles(keep, "answered_64_clients_queue_16", overload.milliseconds)
            say(f"round {number + 1} of {num_rounds}")

    result = Result("serving", details={"scale": dataclasses.asdict(scale), "k": K})
    for (name, unit), values in found.items():
        result.add(name, unit, values)
    result.ratios["http_over_bare_p50"] = rounds.quotients(
        found["http_1_clients_p50", "ms"], found["bare_p50", "ms"]
    )
    result.ratios["batched_over_one_by_one"] = rounds.quotients(
        found["batched_64_clients", "requests/s"], found["one_by_one_64_clients", "requests/s"]
    )
    return result


def draw(result: Result, directory: Path) -> None:
    """Draws the requests a second."""
    rates = [one for one in result.measures if one.unit == "requests/s"]
    title = f"POST /recommend, k = {K}, 64 clients on the machine of the service"
    pictures.draw_bars(directory / "serving.png", title, [Measure(r.name, r.unit, r.values) for r in rates])


def _bare(retriever: Retriever, histories: list[list[str]], requests: int) -> np.ndarray:
    milliseconds = []
    for number in range(requests):
        history = histories[number % len(histories)]
        started = time.perf_counter()
        retriever.recommend([history], K)
        milliseconds.append(1e3 * (time.perf_counter() - started))
    return np.array(milliseconds)


def _quantiles(keep: Callable[[str, str, float], None], name: str, milliseconds: np.ndarray) -> None:
    for percent in (50, 99):
        keep(f"{name}_p{percent}", "ms", np.percentile(milliseconds, percent))


class _Mean(tf.Module):
    def __call__(self, concepts: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        weights = tf.cast(mask, tf.float32)[..., None]
        return tf.reduce_sum(concepts * weights, axis=1) / tf.maximum(tf.reduce_sum(weights, axis=1), 1.0)


def publish_generated(
    bundle: Path,
    items: int,
    dimension: int,
    max_history: int,
    examples: Sequence[Sequence[int]] = (),
) -> None:
    """Publishes a catalogue in clusters of about fifty, as trained ones are, with the mean for a tower."""
    random = np.random.default_rng(0)
    centres = random.standard_normal([max(2, items // 50), dimension], np.float32)
    noise = random.standard_normal([items, dimension], np.float32)
    vectors = centres[random.integers(len(centres), size=items)] + 0.5 * noise
    table = np.concatenate([np.zeros_like(vectors[:1]), vectors])
    ids = [str(number) for number in range(items)]
    model = Model(table, _Mean(), vectors, ids, max_history)
    queries = vectors[random.integers(items, size=(200, 3))].mean(axis=1)
    publish(bundle, model, queries=queries, warm_up_histories=examples)


@contextlib.contextmanager
def serving(bundle: Path, logs: Path, *flags: str) -> Iterator[str]:
    """Starts a service in a process of its own.

    Args:
      bundle: what it serves.
      logs: directory for its log.
      *flags: of `export/serve.py`.

    Yields:
      host:port of the service.
    """
    command = [sys.executable, str(ROOT / "export" / "serve.py"), f"--bundle={bundle}", "--port=0", *flags]
    log = logs / f"{time.monotonic_ns()}.log"
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file)
        try:
            while not (lines := [one for one in log.read_text().splitlines() if '"serving"' in one]):
                if process.poll() is not None:
                    raise RuntimeError(f"the service ended: {log.read_text()}")
                time.sleep(0.05)
            yield json.loads(lines[0])["address"].removeprefix("http://")
        finally:
            process.terminate()
            process.wait()

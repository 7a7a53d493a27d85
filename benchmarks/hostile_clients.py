"""A friendly client of a service beside one hostile client of each kind, on the machine of the service.

Every kind meets a service of its own, in a process of its own. Where a checkout of an earlier state is given,
its service is measured in turn with this one's.
"""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import pictures
from benchmarks.hostile import KINDS, PATIENCE, RATE
from benchmarks.report import Measure, Result
from benchmarks.serving import publish_generated

ROOT = Path(__file__).resolve().parents[1]
LIMIT_MS = 100.0
K = 20


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Attributes:
      items: of the catalogue.
      dimension: of a vector.
      max_history: items that the tower reads.
      seconds: that the friendly client asks beside each kind.
    """

    items: int = 38_048
    dimension: int = 64
    max_history: int = 20
    seconds: float = 10.0


def measure(
    scale: Scale, num_rounds: int, earlier: Path | None = None, say: Callable[[str], None] = print
) -> Result:
    """Measures what the friendly client sees.

    Args:
      scale: how much is measured.
      num_rounds: how often.
      earlier: a checkout of an earlier state, to be measured beside this one.
      say: told how it goes on.
    """
    random = np.random.default_rng(0)
    rows = random.integers(0, scale.items, size=(500, scale.max_history))
    bodies = [{"history": [str(item) for item in row], "k": K} for row in rows.tolist()]
    checkouts = {"": ROOT} | ({"earlier_": earlier} if earlier else {})
    found: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as place:
        bundle = Path(place) / "bundle"
        say(f"building a bundle of {scale.items:,} items")
        examples = (1 + rows[:20]).tolist()
        publish_generated(bundle, scale.items, scale.dimension, scale.max_history, examples)
        for number in range(num_rounds):
            for kind in KINDS:
                for prefix, root in checkouts.items():
                    with _serving(root, bundle, read_log=kind != "unread_log") as address:
                        seen = _beside(kind, address, scale.seconds, bodies)
                    p99 = float(np.percentile(seen["milliseconds"], 99))
                    found.setdefault((f"{prefix}{kind}_p99", "ms"), []).append(p99)
                    unanswered = (f"{prefix}{kind}_unanswered", "share of requests")
                    found.setdefault(unanswered, []).append(seen["unanswered"])
                    lost = f"{seen['unanswered']:.0%} unanswered"
                    say(f"round {number + 1}, {prefix}{kind}: p99 {p99:,.1f} ms, {lost}")

    about = {"scale": dataclasses.asdict(scale), "k": K, "rate": RATE, "patience": PATIENCE}
    result = Result("hostile_clients", details=about)
    for (name, unit), values in found.items():
        result.add(name, unit, values)
    worst = [max(found[f"{kind}_p99", "ms"][number] for kind in KINDS) for number in range(num_rounds)]
    result.ratios["worst_p99_over_100_ms"] = [one / LIMIT_MS for one in worst]
    return result


def draw(result: Result, directory: Path) -> None:
    """Draws the 99th percentiles."""
    shown = [one for one in result.measures if one.unit == "ms"]
    title = f"p99 of a friendly client beside a hostile one; {1e3 * PATIENCE:,.0f}: no answer"
    pictures.draw_bars(
        directory / "hostile_clients.png", title, [Measure(r.name, r.unit, r.values) for r in shown]
    )


def _beside(kind: str, address: str, seconds: float, bodies: list[dict]) -> dict:
    """What the friendly client found while the hostile one was at work."""
    command = [sys.executable, "-m", "benchmarks.hostile"]
    _friendly(command, address, 1.0, bodies)  # warms the service up
    # The hostile one goes on a little longer than the other needs at the most.
    lasts = seconds + PATIENCE + 5.0
    hostile = subprocess.Popen([*command, kind, address, str(lasts)], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert hostile.stdout is not None
        hostile.stdout.readline()
        return _friendly(command, address, seconds, bodies)
    finally:
        hostile.kill()
        hostile.wait()


def _friendly(command: list[str], address: str, seconds: float, bodies: list[dict]) -> dict:
    done = subprocess.run(
        [*command, "friendly", address, str(seconds)],
        input=json.dumps(bodies).encode(),
        stdout=subprocess.PIPE,
        cwd=ROOT,
        check=True,
    )
    return json.loads(done.stdout)


@contextlib.contextmanager
def _serving(root: Path, bundle: Path, *, read_log: bool) -> Iterator[str]:
    """Starts the service of a checkout; gives host:port."""
    command = [sys.executable, str(root / "export" / "serve.py"), f"--bundle={bundle}", "--port=0"]
    environment = os.environ | {"PYTHONPATH": str(root)}
    process = subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.PIPE)
    reader = None
    try:
        assert process.stdout is not None
        line = next(one for one in iter(process.stdout.readline, b"") if b'"serving"' in one)
        if read_log:
            reader = subprocess.Popen(["cat"], stdin=process.stdout, stdout=subprocess.DEVNULL)
        yield json.loads(line)["address"].removeprefix("http://")
    finally:
        process.kill()
        process.wait()
        if reader is not None:
            reader.wait()

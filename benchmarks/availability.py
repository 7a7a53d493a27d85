"""Items go out and come back while a service is asked: has any answer one that was out for over a second?

    python benchmarks/run.py --only=availability

One connection changes items by POST /unavailable while others ask at a fixed rate; what an answer has is
compared with what was out when it was asked for. Both come from this process, on the machine of the service.
Windows with changes and equally long ones without take turns, a few seconds each: what else the machine does
meets both, so that the quotients of their times are of the changes, however busy it is.
"""

import asyncio
import dataclasses
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import pictures, rounds
from benchmarks.http_load import content_length
from benchmarks.report import Measure, Result
from benchmarks.serving import publish_generated, serving
from export.retriever import Retriever

K = 20
_TOKEN = "the token of a benchmark"
_ALLOWED_SECONDS = 1.0


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Attributes:
      items: of the generated catalogue.
      dimension: of its vectors.
      changes: items that go out or come back in a round, `together` of them in a request.
      windows: with changes in a round, and as many without.
      together: of a request.
      changes_per_second: of these items.
      rate: histories that are asked for in a second.
      connections: that ask.
    """

    items: int = 38_048
    dimension: int = 64
    changes: int = 10_000
    windows: int = 10
    together: int = 10
    changes_per_second: float = 200.0
    rate: float = 20.0
    connections: int = 8


@dataclass
class _Seen:
    """What a load met: times by the clock of this process."""

    milliseconds: list[float] = field(default_factory=list)
    change_milliseconds: list[float] = field(default_factory=list)
    # item -> when it was out by the service's answer, while it is out
    out_since: dict[str, float] = field(default_factory=dict)
    late: int = 0
    latest: float = 0.0
    answers: int = 0
    done: bool = False


def measure(scale: Scale, num_rounds: int, say: Callable[[str], None] = print) -> Result:
    """Measures a service with its default flags, with changes and without, in turns.

    Args:
      scale: how much is measured.
      num_rounds: how often.
      say: told how it goes on.
    """
    found: dict[str, list[float]] = {}
    late, latest, answers = 0, 0.0, 0
    with tempfile.TemporaryDirectory() as place:
        bundle = Path(place) / "bundle"
        publish_generated(bundle, scale.items, scale.dimension, 20)
        (Path(place) / "token").write_text(_TOKEN)
        random = np.random.default_rng(0)
        histories = [[str(item) for item in random.integers(scale.items, size=10)] for _ in range(200)]
        best = [one.items for one in Retriever.open(bundle).recommend(histories, K)]
        changed = [str(item) for item in dict.fromkeys(item for items in best for item in items)]
        with serving(bundle, Path(place), f"--unavailable_token_file={place}/token") as address:
            for number in range(num_rounds):
                milliseconds: dict[str, list[float]] = {"without": [], "with": []}
                change_milliseconds = []
                for window in range(scale.windows):
                    # Each goes first every other time: what one leaves behind meets both.
                    turns = ("without", "with") if window % 2 else ("with", "without")
                    for name in turns:
                        changes = scale.changes // scale.windows
                        is_changing = name == "with"
                        seen = asyncio.run(_load(address, scale, histories, changed, changes, is_changing))
                        milliseconds[name] += seen.milliseconds
                        change_milliseconds += seen.change_milliseconds
                        late, answers = late + seen.late, answers + seen.answers
                        latest = max(latest, seen.latest)
                for name, values in milliseconds.items():
                    for percent in (50, 99):
                        kept = found.setdefault(f"{name}_changes_p{percent}", [])
                        kept.append(float(np.percentile(values, percent)))
                found.setdefault("change_p50", []).append(float(np.median(change_milliseconds)))
                say(f"round {number + 1} of {num_rounds}: {late} answers had an item out for over a second")
    about = {"scale": dataclasses.asdict(scale), "k": K, "answers": answers, "late_answers": late}
    result = Result("availability", details=about | {"latest_seconds": round(latest, 4)})
    for name, values in found.items():
        result.add(name, "ms", values)
    for percent in ("p50", "p99"):
        result.ratios[f"{percent}_with_changes_over_without"] = rounds.quotients(
            found[f"with_changes_{percent}"], found[f"without_changes_{percent}"]
        )
    return result


def draw(result: Result, directory: Path) -> None:
    """Draws the milliseconds of requests."""
    measures = [Measure(one.name, one.unit, one.values) for one in result.measures]
    pictures.draw_bars(directory / "availability.png", "POST /recommend while items go out", measures)


async def _load(
    address: str,
    scale: Scale,
    histories: list[list[str]],
    changed: list[str],
    changes: int,
    is_changing: bool,
) -> _Seen:
    host, port = address.split(":")
    seen = _Seen()
    started = time.perf_counter()
    turn = iter(range(1 << 62))

    async def asks() -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        while not seen.done:
            number = next(turn)
            due = started + number / scale.rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            asked = time.perf_counter()
            out_since = dict(seen.out_since)
            body = {"history": histories[number % len(histories)], "k": K, "timeout_ms": 60_000}
            status, answer = await _post(reader, writer, "/recommend", body)
            if status != 200:
                raise RuntimeError(f"the service answered {status}: {answer}")
            seen.milliseconds.append(1e3 * (time.perf_counter() - due))
            seen.answers += 1
            # What came back meanwhile may be answered again.
            still = [item for item in answer["items"] if item in out_since]
            still = [item for item in still if seen.out_since.get(item) == out_since[item]]
            seconds = max((asked - out_since[item] for item in still), default=0.0)
            seen.late += seconds > _ALLOWED_SECONDS
            seen.latest = max(seen.latest, seconds)
        writer.close()

    async def change() -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        random = np.random.default_rng(1)
        for number in range(changes // scale.together if is_changing else 0):
            due = started + number * scale.together / scale.changes_per_second
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            drawn = [changed[n] for n in random.choice(len(changed), scale.together, replace=False)]
            back = [item for item in drawn if item in seen.out_since]
            out = [item for item in drawn if item not in seen.out_since]
            for item in back:
                del seen.out_since[item]
            sent = time.perf_counter()
            status, answer = await _post(reader, writer, "/unavailable", {"out": out, "back": back})
            if status != 200:
                raise RuntimeError(f"the service answered {status}: {answer}")
            now = time.perf_counter()
            seen.change_milliseconds.append(1e3 * (now - sent))
            seen.out_since.update(dict.fromkeys(out, now))
        if not is_changing:
            await asyncio.sleep(changes / scale.changes_per_second)
        if back := list(seen.out_since):
            seen.out_since.clear()  # before they are back: they may be answered again from now on
            await _post(reader, writer, "/unavailable", {"back": back})
        seen.done = True
        writer.close()

    await asyncio.gather(change(), *(asks() for _ in range(scale.connections)))
    return seen


async def _post(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, body: dict[str, Any]
) -> tuple[int, Any]:
    data = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {_TOKEN}\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    writer.write(head.encode() + data)
    answered = await reader.readuntil(b"\r\n\r\n")
    text = await reader.readexactly(content_length(answered))
    return int(answered.split(b" ", 2)[1]), json.loads(text)

"""How many requests a second a service answers in time, and what it does under twice that load.

The load has a fixed rate and comes from a process of its own, on the machine of the service.
"""

import dataclasses
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import pictures, rounds
from benchmarks.http_load import load
from benchmarks.open_load import Found, ask
from benchmarks.report import Measure, Result
from benchmarks.serving import publish_generated, serving
from export.index.labels import read_ids
from export.retriever import Retriever
from export.store.layout import index_directory

K = 20
_HISTORIES = 500
_FINENESS = 1.05  # the search ends when the rate is known to so much


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Attributes:
      items: of the generated catalogue, where no bundle is given.
      dimension: of its vectors.
      max_history: items that its tower reads.
      seconds: of each load.
      limit_ms: what the 99th percentile must stay below.
      first_rate: requests a second with which the search begins.
      most_rate: requests a second at which the search ends.
      requests: of the single client.
    """

    items: int = 38_048
    dimension: int = 64
    max_history: int = 20
    seconds: float = 10.0
    limit_ms: float = 50.0
    first_rate: float = 100.0
    most_rate: float = 20_000.0
    requests: int = 4_000


def measure(
    scale: Scale,
    num_rounds: int,
    bundle: Path | None = None,
    histories: list[list[str]] | None = None,
    say: Callable[[str], None] = print,
) -> Result:
    """Measures a service of a bundle, with the flags that it has by default.

    Args:
      scale: how much is measured.
      num_rounds: how often.
      bundle: what is served; a generated one when None.
      histories: that are asked; random items of the bundle when None.
      say: told how it goes on.
    """
    found: dict[tuple[str, str], list[float]] = {}

    def keep(name: str, unit: str, value: float) -> None:
        found.setdefault((name, unit), []).append(float(value))

    with tempfile.TemporaryDirectory() as place:
        if bundle is None:
            say(f"building a bundle of {scale.items:,} items")
            bundle = Path(place) / "bundle"
            publish_generated(bundle, scale.items, scale.dimension, scale.max_history)
        retriever = Retriever.open(bundle)
        histories = histories or _random_histories(bundle, retriever, scale)
        bodies = [{"history": history, "k": K} for history in histories]
        answers = retriever.recommend(histories, K)
        expected = [{"items": one.items, "scores": one.scores} for one in answers]
        steps: list[dict] = []
        with serving(bundle, Path(place)) as address:

            def at(rate: float) -> Found:
                one = ask(address, bodies, expected, rate=rate, seconds=scale.seconds)
                if one.wrong:
                    raise RuntimeError(f"{one.wrong} wrong answers at {rate:,.0f} requests/s")
                steps.append(_told(one))
                return one

            load(address, bodies, clients=4, each=max(1, scale.requests // 16))  # warms it up
            for number in range(num_rounds):
                single = load(address, bodies, 1, scale.requests).milliseconds
                for percent in (50, 99):
                    keep(f"one_client_p{percent}", "ms", np.percentile(single, percent))
                highest = _highest(at, scale, say)
                keep("in_time", "requests/s", highest.rate)
                _keep(keep, "in_time", highest)
                twice = at(2 * highest.rate)
                keep("answered_at_twice", "requests/s", _answered(twice, scale))
                keep("refused_at_twice", "share of requests", twice.refused)
                _keep(keep, "answered_at_twice", twice)
                half = at(0.5 * highest.rate)
                keep("refused_afterwards_at_half", "share of requests", half.refused)
                _keep(keep, "afterwards_at_half", half)
                keep("until_recovered", "s", _recovered(half, scale.limit_ms))
                say(f"round {number + 1} of {num_rounds}: {highest.rate:,.0f} requests/s in time")

    about = {"scale": dataclasses.asdict(scale), "k": K, "version": retriever.version}
    about |= {"items": retriever.num_items, "loads": steps, "wrong_answers": 0}
    result = Result("load", details=about)
    for (name, unit), values in found.items():
        result.add(name, unit, values)
    result.ratios["answered_at_twice_over_in_time"] = rounds.quotients(
        found["answered_at_twice", "requests/s"], found["in_time", "requests/s"]
    )
    return result


def draw(result: Result, directory: Path) -> None:
    """Draws the requests a second."""
    rates = [one for one in result.measures if one.unit == "requests/s"]
    title = f"POST /recommend, k = {K}: in time, and answered when twice that is asked"
    pictures.draw_bars(directory / "load.png", title, [Measure(r.name, r.unit, r.values) for r in rates])


def _random_histories(bundle: Path, retriever: Retriever, scale: Scale) -> list[list[str]]:
    ids = read_ids(index_directory(bundle, retriever.version))
    random = np.random.default_rng(0)
    lengths = random.integers(1, 2 * scale.max_history, _HISTORIES)
    return [[ids[row] for row in random.integers(0, len(ids), length)] for length in lengths]


def _highest(at: Callable[[float], Found], scale: Scale, say: Callable[[str], None]) -> Found:
    """The load of the highest rate that is answered in time: by doubling, then by halving the distance."""
    best, too_much = None, None
    rate = scale.first_rate
    while too_much is None or best is None or too_much > _FINENESS * best.rate:
        found = at(rate)
        in_time = found.percentile(99) < scale.limit_ms and not found.refused
        say(f"{rate:,.0f} requests/s: p99 {found.percentile(99):.1f} ms, {found.refused:.1%} refused")
        if in_time:
            best = found
        else:
            too_much = rate
        if best is not None and best.rate >= scale.most_rate:
            break
        if too_much is None:
            rate = min(2 * rate, scale.most_rate)
        elif best is None:
            rate /= 2
            if rate < 1:
                raise RuntimeError(f"not even one request a second is answered within {scale.limit_ms} ms")
        else:
            rate = (best.rate * too_much) ** 0.5
    assert best is not None  # the loop does not end without
    return best


def _keep(keep: Callable[[str, str, float], None], name: str, found: Found) -> None:
    for percent in (50, 99):
        keep(f"{name}_p{percent}", "ms", found.percentile(percent))


def _answered(found: Found, scale: Scale) -> float:
    """Answers a second, to the last of them."""
    end = max(scale.seconds, float(np.max(found.due + found.milliseconds / 1e3)))
    return float(np.sum(found.status == 200)) / end


def _recovered(found: Found, limit_ms: float) -> float:
    """Seconds until the last request that was refused or late was due; 0 when none was."""
    late = (found.status != 200) | (found.milliseconds >= limit_ms)
    return float(np.max(found.due[late], initial=0.0))


def _told(found: Found) -> dict:
    return {
        "rate": found.rate,
        "requests": len(found.due),
        "refused": found.refused,
        "p50": found.percentile(50),
        "p99": found.percentile(99),
        "sent_late_p99": found.late_p99,
    }

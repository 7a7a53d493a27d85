"""Load over HTTP at a rate that does not ask whether the service keeps up, from a process of its own.

Requests are due at even distances. The time of one counts from when it was due, not from when it was sent:
what waits behind a slow answer is late, too. Answers are compared with what is expected after the load.

python -m benchmarks.open_load < job.json > found.json
"""

import asyncio
import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.http_load import content_length, request

ROOT = Path(__file__).resolve().parents[1]
# More than may wait in the service, so that it is the service that refuses; fewer than a process may open.
CONNECTIONS = 900
# The service closes a connection that asked nothing for five seconds: so old a one is not asked again.
_IDLE_SECONDS = 2.0
_SAME_SCORE = 1e-4


@dataclass(frozen=True)
class Found:
    """What came of the requests of one load.

    Attributes:
      rate: requests that were due in a second.
      due: [n] seconds after the start at which each was due.
      milliseconds: [n] from then to its answer.
      status: [n] 200, 429 (refused) or 504 (out of time).
      wrong: answers that are not what was expected.
      late_p99: milliseconds by which 1 in 100 requests was sent later than due: the load's own fault, or
        all connections were waiting.
    """

    rate: float
    due: np.ndarray
    milliseconds: np.ndarray
    status: np.ndarray
    wrong: int
    late_p99: float

    @property
    def refused(self) -> float:
        """The share that was not answered."""
        return float(np.mean(self.status != 200))

    def percentile(self, percent: float) -> float:
        """Of the milliseconds of what was answered."""
        answered = self.milliseconds[self.status == 200]
        return float(np.percentile(answered, percent)) if len(answered) else float("inf")


def ask(
    address: str, bodies: Sequence[dict], expected: Sequence[dict], *, rate: float, seconds: float
) -> Found:
    """Asks `POST /recommend` from another process.

    Args:
      address: host:port.
      bodies: of requests, used in turn.
      expected: `items` and `scores` of each.
      rate: requests a second.
      seconds: how long.

    Raises:
      RuntimeError: an answer has another status than 200, 429 and 504, or the process failed.
    """
    job = {"address": address, "bodies": bodies, "expected": expected, "rate": rate, "seconds": seconds}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.open_load"],
        input=json.dumps(job).encode(),
        capture_output=True,
        cwd=ROOT,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the load failed: {done.stderr.decode()}")
    found = json.loads(done.stdout)
    arrays = {name: np.array(found[name]) for name in ("due", "milliseconds", "status")}
    return Found(**found | arrays)


def is_right(answer: dict, expected: dict) -> bool:
    """Whether the items are the expected ones; two whose scores are the same may change places.

    Args:
      answer: of the service.
      expected: of the bare retriever.
    """
    if len(answer["items"]) != len(expected["items"]):
        return False
    if not np.allclose(answer["scores"], expected["scores"], rtol=_SAME_SCORE, atol=_SAME_SCORE):
        return False
    last = expected["scores"][-1] if expected["scores"] else 0.0
    score_of = dict(zip(expected["items"], expected["scores"], strict=True))
    # One that is not expected at all must be as good as the last: it changed places with one beyond k.
    return all(
        abs(score - score_of.get(item, last)) <= _SAME_SCORE * (1 + abs(score))
        for item, score in zip(answer["items"], answer["scores"], strict=True)
    )


async def _ask_all(job: dict[str, Any]) -> Found:
    host, port = job["address"].split(":")
    requests = [request(body) for body in job["bodies"]]
    count = max(1, round(job["rate"] * job["seconds"]))
    due = np.arange(count) / job["rate"]
    milliseconds, late, status = np.zeros(count), np.zeros(count), np.zeros(count, np.int64)
    bodies: list[bytes] = [b""] * count
    seats = asyncio.Semaphore(CONNECTIONS)
    # The last that came back is the next to go: few are in use while the service keeps up.
    idle: list[tuple[float, asyncio.StreamReader, asyncio.StreamWriter]] = []
    started = time.perf_counter()

    async def connection() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if idle:
            since, reader, writer = idle.pop()
            if time.perf_counter() - since < _IDLE_SECONDS:
                return reader, writer
            writer.close()
        return await asyncio.open_connection(host, int(port))

    async def one(number: int) -> None:
        async with seats:
            late[number] = time.perf_counter() - started - due[number]
            reader, writer = await connection()
            writer.write(requests[number % len(requests)])
            head = await reader.readuntil(b"\r\n\r\n")
            bodies[number] = await reader.readexactly(content_length(head))
            milliseconds[number] = 1e3 * (time.perf_counter() - started - due[number])
            status[number] = int(head.split(b" ", 2)[1])
            idle.append((time.perf_counter(), reader, writer))

    asked = []
    for number in range(count):
        # Again until it is due: a loop that counts in milliseconds wakes up to half of one early.
        while (wait := due[number] - (time.perf_counter() - started)) > 0:
            await asyncio.sleep(wait)
        asked.append(asyncio.create_task(one(number)))
    await asyncio.gather(*asked)
    for _, _, writer in idle:
        writer.close()
    other = set(status.tolist()) - {200, 429, 504}
    if other:
        raise RuntimeError(f"the service answered with status {sorted(other)}")
    wrong = sum(
        not is_right(json.loads(bodies[number]), job["expected"][number % len(requests)])
        for number in np.flatnonzero(status == 200).tolist()
    )
    return Found(job["rate"], due, milliseconds, status, wrong, float(1e3 * np.percentile(late, 99)))


def main() -> None:
    """Reads what to ask from the standard input, and writes what was found to the standard output."""
    try:
        from uvloop import run  # a client should cost less than what it measures
    except ImportError:
        from asyncio import run
    found = dataclasses.asdict(run(_ask_all(json.load(sys.stdin))))
    json.dump({name: np.asarray(value).tolist() for name, value in found.items()}, sys.stdout)


if __name__ == "__main__":
    main()

"""Load over HTTP from this process: some clients, each asking again as soon as it is answered.

Bare sockets with requests made beforehand: a client library costs more than the service that is measured.
"""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Load:
    """What some clients saw.

    Attributes:
      milliseconds: of each answered request, float64.
      shed: how many were refused with status 429.
      seconds: from the first request to the last answer.
    """

    milliseconds: np.ndarray
    shed: int
    seconds: float

    @property
    def per_second(self) -> float:
        """Answered requests a second."""
        return len(self.milliseconds) / self.seconds

    @property
    def shed_share(self) -> float:
        """Refused ones among all requests."""
        return self.shed / (self.shed + len(self.milliseconds))


def load(address: str, bodies: Sequence[dict], clients: int, each: int) -> Load:
    """Asks `POST /recommend`.

    Args:
      address: host:port.
      bodies: of requests, used in turn.
      clients: connections that are kept open.
      each: requests of a client, one after another.

    Raises:
      RuntimeError: an answer has another status than 200 and 429.
    """
    requests = [request(body) for body in bodies]
    return asyncio.run(_load(address, requests, clients, each))


def request(body: dict) -> bytes:
    """A whole `POST /recommend`."""
    data = json.dumps(body).encode()
    head = (
        "POST /recommend HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


async def _load(address: str, requests: Sequence[bytes], clients: int, each: int) -> Load:
    host, port = address.split(":")
    milliseconds: list[float] = []
    shed = 0

    async def client(number: int) -> None:
        nonlocal shed
        reader, writer = await asyncio.open_connection(host, int(port))
        for turn in range(each):
            started = time.perf_counter()
            writer.write(requests[(number * each + turn) % len(requests)])
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(content_length(head))
            status = int(head.split(b" ", 2)[1])
            if status == 200:
                milliseconds.append(1e3 * (time.perf_counter() - started))
            elif status == 429:
                shed += 1
            else:
                raise RuntimeError(f"the service answered {head.decode()}")
        writer.close()
        await writer.wait_closed()

    started = time.perf_counter()
    await asyncio.gather(*(client(number) for number in range(clients)))
    return Load(np.array(milliseconds), shed, time.perf_counter() - started)


def content_length(head: bytes) -> int:
    """Bytes of the body that follows a head."""
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    raise RuntimeError(f"an answer without its length: {head.decode()}")

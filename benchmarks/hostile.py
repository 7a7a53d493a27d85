"""Clients of a service, each a process of its own: a friendly one, and hostile ones of several kinds.

All stay on the address that they are given, and end by themselves.

python -m benchmarks.hostile friendly 127.0.0.1:8080 10 < bodies.json > found.json
python -m benchmarks.hostile silent_connections 127.0.0.1:8080 10
"""

import asyncio
import json
import resource
import sys
import time
from collections.abc import Awaitable, Callable

from benchmarks.http_load import content_length, request

# Requests a second of the friendly client, each on a connection of its own.
RATE = 50
# What has no answer by then has none.
PATIENCE = 5.0
_MANY = 1_005
_HEAD_BYTES = 67_000_000
_PIECE = b"x" * 65_536
_PAUSE = 0.05


def post(path: str, body: bytes) -> bytes:
    """A whole request."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body


def get(path: str) -> bytes:
    """A whole request without a body."""
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


_EMPTY_HISTORIES = post("/recommend/batch", b'{"histories":[' + b"[]," * 300_000 + b"[]]}")
_MANY_IDS = post("/recommend", b'{"history":[' + b"1," * 500_000 + b"1]}")
_EXPLAIN = post("/explain", b'{"timeout_ms":100,"history":[' + b"1,2,3,4," * 120_000 + b"1]}")
# As much as a request may have by the defaults of export/serve.py.
_MOST_IDS = post("/recommend", json.dumps({"k": 200, "history": list(range(10_000))}).encode())
_MOST_EXPLAINED = post("/explain", json.dumps({"k": 200, "history": list(range(10_000))}).encode())
_HISTORIES = [list(range(start, start + 350)) for start in range(128)]
_MOST_HISTORIES = post("/recommend/batch", json.dumps({"k": 200, "histories": _HISTORIES}).encode())
_SLOW_BODY = b"POST /recommend HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"


async def _ask_again_and_again(host: str, port: int, data: bytes) -> None:
    """Asks on one connection, and on a new one when it is closed."""
    while True:
        try:
            reader, writer = await asyncio.open_connection(host, port)
            while True:
                writer.write(data)
                await writer.drain()
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(content_length(head))
        except (OSError, asyncio.IncompleteReadError):
            await asyncio.sleep(_PAUSE)


async def _large_head(host: str, port: int) -> None:
    """Sends heads that do not end for long."""
    while True:
        try:
            _, writer = await asyncio.open_connection(host, port)
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ")
            for _ in range(_HEAD_BYTES // len(_PIECE)):
                writer.write(_PIECE)
                await writer.drain()
            writer.write(b"\r\n\r\n")
            await writer.drain()
            await asyncio.sleep(PATIENCE)
        except OSError:
            await asyncio.sleep(_PAUSE)


async def _ahead(host: str, port: int) -> None:
    """Sends requests by the ten thousand without reading an answer."""
    while True:
        try:
            _, writer = await asyncio.open_connection(host, port)
            writer.write(get("/healthz") * 10_000)
            await asyncio.wait_for(writer.drain(), PATIENCE)
            await asyncio.sleep(PATIENCE)
        except (OSError, TimeoutError):
            await asyncio.sleep(_PAUSE)


async def _hold(host: str, port: int, begin: bytes, drop: bytes) -> None:
    """Holds a connection: begins, then sends a drop every second. Opens another one where it is closed."""
    while True:
        try:
            _, writer = await asyncio.open_connection(host, port)
            writer.write(begin)
            while not writer.transport.is_closing():
                await asyncio.sleep(1.0)
                writer.write(drop)
        except OSError:
            await asyncio.sleep(_PAUSE)


def _asking(data: bytes, clients: int = 1) -> Callable[[str, int], list[Awaitable[None]]]:
    return lambda host, port: [_ask_again_and_again(host, port, data) for _ in range(clients)]


def _holding(begin: bytes, drop: bytes) -> Callable[[str, int], list[Awaitable[None]]]:
    return lambda host, port: [_hold(host, port, begin, drop) for _ in range(_MANY)]


KINDS: dict[str, Callable[[str, int], list[Awaitable[None]]]] = {
    "nobody": lambda _host, _port: [],
    "empty_histories": _asking(_EMPTY_HISTORIES),
    "many_ids": _asking(_MANY_IDS),
    "examples": _asking(get("/examples"), clients=40),
    "explain": _asking(_EXPLAIN),
    "large_head": lambda host, port: [_large_head(host, port)],
    "unread_log": _asking(get("/nothing")),
    "silent_connections": _holding(b"", b""),
    "slow_heads": _holding(b"GET /healthz HTTP/1.1\r\nX: ", b"x"),
    "slow_bodies": _holding(_SLOW_BODY, b" "),
    "requests_ahead": lambda host, port: [_ahead(host, port)],
    "most_ids": _asking(_MOST_IDS),
    "most_histories": _asking(_MOST_HISTORIES),
    "most_explained": _asking(_MOST_EXPLAINED),
}


async def _friendly(host: str, port: int, seconds: float, bodies: list[dict]) -> dict:
    """Milliseconds of each request from when it was due, and those that were not answered with status 200."""
    requests = [request(body) for body in bodies]
    count = round(RATE * seconds)
    milliseconds = [1e3 * PATIENCE] * count
    unanswered = 0
    started = time.perf_counter()

    async def ask(data: bytes) -> int:
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(data)
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(content_length(head))
            return int(head.split(b" ", 2)[1])
        finally:
            writer.close()

    async def one(number: int) -> None:
        nonlocal unanswered
        due = number / RATE
        await asyncio.sleep(started + due - time.perf_counter())
        probe = number % 10 == 0
        data = get("/healthz") if probe else requests[number % len(requests)]
        try:
            status = await asyncio.wait_for(ask(data), PATIENCE)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            status = 0
        if status == 200:
            milliseconds[number] = 1e3 * (time.perf_counter() - started - due)
        else:
            unanswered += 1

    await asyncio.gather(*(one(number) for number in range(count)))
    return {"milliseconds": milliseconds, "unanswered": unanswered / count}


async def _hostile(kind: str, host: str, port: int, seconds: float) -> None:
    tasks = [asyncio.ensure_future(one) for one in KINDS[kind](host, port)]
    print("begun", flush=True)
    await asyncio.wait([asyncio.ensure_future(asyncio.sleep(seconds)), *tasks], timeout=seconds)
    for task in tasks:
        task.cancel()


def main() -> None:
    """Is the client that the command line names."""
    kind, address, seconds = sys.argv[1:]
    host, port = address.split(":")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4 * _MANY)), hard))
    if kind == "friendly":
        json.dump(asyncio.run(_friendly(host, int(port), float(seconds), json.load(sys.stdin))), sys.stdout)
    else:
        asyncio.run(_hostile(kind, host, int(port), float(seconds)))


if __name__ == "__main__":
    main()

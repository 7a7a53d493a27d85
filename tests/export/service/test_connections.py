"""The web server's connections alone, before an application that says how many requests it got."""

import asyncio
import contextlib
import functools
import json
import socket
import threading
from pathlib import Path

import pytest

pytest.importorskip("uvicorn", reason="the extra `service` is not installed")

import uvicorn

from export.service.connections import ConnectionLimits, LimitedConnection
from export.service.options import Options
from tests.export.service.waiting import PATIENCE, until

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Application:
    """Answers with the number of its requests; `/held` not before it is let go, `/large` at length."""

    def __init__(self):
        self.asked, self.held, self.gate = 0, threading.Semaphore(0), threading.Event()

    async def __call__(self, scope, receive, send):
        assert scope["type"] == "http"
        self.asked += 1
        while (message := await receive())["type"] == "http.request" and message["more_body"]:
            pass
        if scope["path"] == "/held":
            self.held.release()
            while not self.gate.is_set():
                await asyncio.sleep(0.001)
        length = 50_000_000 if scope["path"] == "/large" else 1
        headers = [(b"content-length", str(length).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"x" * length})


class Running:
    """A server in a thread."""

    def __init__(self, application, limits):
        self.limits = limits
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._opened = contextlib.ExitStack()
        config = uvicorn.Config(
            application,
            http=functools.partial(LimitedConnection, limits=limits),
            lifespan="off",
            log_config=None,
            timeout_keep_alive=PATIENCE,  # it is not uvicorn that closes them here
        )
        self.server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self.server.run, args=([self._listening],))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._opened.close()
        self.server.should_exit = True
        self._thread.join()

    @property
    def connections(self):
        return self.server.server_state.connections

    def connect(self, data=b""):
        connection = socket.create_connection(self._listening.getsockname(), timeout=PATIENCE)
        self._opened.enter_context(connection)
        connection.sendall(data)
        return connection


@contextlib.contextmanager
def running(*, most_connections=100, most_head_bytes=1_000, most_seconds=PATIENCE):
    application = Application()
    options = Options(
        bundle=Path(),
        max_connections=most_connections,
        max_head_bytes=most_head_bytes,
        max_head_seconds=most_seconds,
    )
    with Running(application, ConnectionLimits(options)) as server:
        try:
            yield server, application
        finally:
            application.gate.set()


def status(connection):
    """Of one answer, whose body is one byte."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        part = connection.recv(1)
        if not part:
            return None
        head += part
    connection.recv(1)
    return int(head.split(b" ", 2)[1])


def everything(connection):
    """What comes until the server ends the connection, by a reset too."""
    answer = b""
    with contextlib.suppress(ConnectionError):
        while part := connection.recv(65536):
            answer += part
    return answer


def send_all(connection, pieces):
    with contextlib.suppress(ConnectionError):
        for piece in pieces:
            connection.sendall(piece)


END = b"\r\nHost: localhost\r\n\r\n"
HEADS = {
    "a path": [b"GET /" + b"x" * 1_100 + b" HTTP/1.1" + END],
    "a header": [b"GET / HTTP/1.1\r\nX: " + b"x" * 1_100 + END],
    "many headers": [b"GET / HTTP/1.1" + b"\r\nX: x" * 200 + END],
    "a header without an end": [b"GET / HTTP/1.1\r\nX: ", *[b"x" * 100] * 12],
    "a path without an end": [b"GET /", *[b"x" * 100] * 12],
    "headers behind the body": [
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
        b"X: x\r\n" * 200 + b"\r\n",
    ],
}


@pytest.mark.parametrize("name", HEADS)
def test_a_head_that_is_too_large_is_refused_in_words(name):
    with running() as (server, _):
        connection = server.connect()
        send_all(connection, HEADS[name])
        head, _, body = everything(connection).rpartition(b"\r\n\r\n")
    assert b"HTTP/1.1 431 " in head and b"x-frame-options: DENY" in head
    assert json.loads(body)["error"] == "The head of the request is larger than 1000 bytes."


def test_the_limit_on_a_head_is_for_each_request():
    head = b"GET / HTTP/1.1\r\nX: " + b"x" * 900 + END
    with running() as (server, _):
        connection = server.connect()
        for _ in range(5):
            for start in range(0, len(head), 100):
                connection.sendall(head[start : start + 100])
            assert status(connection) == 200
        connection.sendall(head * 5)
        assert [status(connection) for _ in range(5)] == [200] * 5


def test_what_is_no_request_is_refused_in_words():
    with running() as (server, _):
        answer = everything(server.connect(b"\x16\x03\x01\x02\r\n\r\n"))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]


BEGUN = {"nothing": b"", "half a head": b"GET / HTTP/1.1\r\nX: ", "an answered request": GET}


@pytest.mark.parametrize("begun", BEGUN)
def test_a_connection_that_brings_no_head_is_closed(begun):
    with running(most_seconds=0.1) as (server, _):
        answer = everything(server.connect(BEGUN[begun]))
    assert answer.startswith(b"HTTP/1.1 200 ") if begun == "an answered request" else answer == b""


def test_a_head_that_comes_drop_by_drop_is_not_waited_for():
    with running(most_seconds=0.1) as (server, _):
        connection = server.connect(b"GET / HTTP/1.1\r\nX: ")
        connection.settimeout(0.01)
        with pytest.raises(ConnectionError):  # endless otherwise, the head's limit is far
            for _ in range(900):
                connection.sendall(b"x")
                with contextlib.suppress(TimeoutError):
                    assert connection.recv(1) == b""
                    raise ConnectionError


def test_a_client_that_takes_no_answer_is_not_waited_for():
    with running(most_seconds=0.1) as (server, application):
        for path in (b"/large", b"/"):  # the second behind an answer that nobody takes
            server.connect(b"GET /large HTTP/1.1" + END + b"GET " + path + b" HTTP/1.1" + END)
        until(lambda: application.asked >= 2 and not server.connections)


@pytest.mark.parametrize("kind", ["silent", "half a head", "half a body", "an answered request"])
def test_who_waits_longest_for_its_client_makes_room(kind):
    begun = {
        "silent": b"",
        "half a head": b"GET / HTTP/1.1\r\nX: ",
        "half a body": b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nx",
        "an answered request": GET,
    }[kind]
    with running(most_connections=3) as (server, application):
        held = server.connect(b"GET /held HTTP/1.1" + END)
        assert application.held.acquire(timeout=PATIENCE)
        waiting = []
        for number in range(6):
            waiting.append(server.connect(begun))
            if begun == GET:
                assert status(waiting[-1]) == 200
            new = server.connect(GET)
            assert status(new) == 200  # whoever asks is answered, however many wait
            new.close()
            until(lambda number=number: len(server.connections) <= 1 + min(2, number + 1))
        # Those that came first were closed, the one that is worked for was not.
        assert [everything(one) for one in waiting[:4]] == [b""] * 4
        application.gate.set()
        assert status(held) == 200


def test_requests_that_are_sent_ahead_are_answered_up_to_a_number():
    with running() as (server, application):
        connection = server.connect(GET * 30)
        assert [status(connection) for _ in range(30)] == [200] * 30
        application.asked = 0
        flood = server.connect()
        send_all(flood, [GET * 5_000])
        assert b"HTTP/1.1 429 " in everything(flood)
        assert application.asked <= 40

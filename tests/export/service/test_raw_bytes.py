"""Bytes that are no request, sent to a service in a process of its own: it refuses, and goes on."""

import contextlib
import json
import random
import socket
import urllib.request

import pytest

from tests.export.service.shop import IDS
from tests.export.service.test_process import entries, started
from tests.export.service.waiting import PATIENCE

pytest.importorskip("uvicorn", reason="the extra `service` is not installed")
pytestmark = pytest.mark.long


def post(body, *, length=None, kind="application/json", path="/recommend", head=""):
    length = len(body) if length is None else length
    first = f"POST {path} HTTP/1.1\r\nHost: localhost\r\n"
    lines = f"{first}Content-Type: {kind}\r\nContent-Length: {length}\r\n{head}"
    return lines.encode("latin-1") + b"Connection: close\r\n\r\n" + body


END = b"\r\nHost: localhost\r\nConnection: close\r\n\r\n"
GOOD = json.dumps({"history": IDS[:3], "k": 3}).encode()

# What is sent, and the statuses that may come back; None: the connection may end without an answer.
REQUESTS = {
    "whole": (post(GOOD), {200}),
    "JSON cut off": (post(GOOD[:-4]), {422}),
    "less than announced": (post(GOOD, length=len(GOOD) + 50), {None, 400}),
    "more than announced": (post(GOOD, length=5), {422, 400}),
    "negative length": (post(GOOD, length=-1), {None, 400}),
    "a length of letters": (post(GOOD, length="many"), {None, 400}),
    "a length of a hundred digits": (post(GOOD, length="9" * 100), {None, 400}),
    "two lengths": (post(GOOD, head="Content-Length: 3\r\n"), {None, 400}),
    "another kind": (post(GOOD, kind="text/plain"), {422}),
    "a kind that is none": (post(GOOD, kind=";;=\xff"), {422}),
    "a form": (post(b"history=a", kind="application/x-www-form-urlencoded"), {422}),
    "UTF-16": (post(GOOD.decode().encode("utf-16")), {200, 400, 422}),
    "invalid UTF-8": (post(b'{"history": ["\xff\xfe"]}'), {400, 422}),
    "half a surrogate pair": (post(b'{"history": ["\\ud800"]}'), {200}),
    "half a pair explained": (post(b'{"history": ["\\ud800"]}', path="/explain"), {200}),
    "half a pair as a field": (post(b'{"history": [], "\\ud800": 1}'), {422}),
    "deep": (post(b"[" * 45_000), {400, 422}),
    "deep within": (post(b'{"history": ' + b"[" * 45_000 + b"]" * 45_000 + b"}"), {400, 422}),
    "deep objects": (post(b'{"a":' * 45_000 + b"1" + b"}" * 45_000), {400, 422}),
    "deeper": (post(b"[" * 500_000), {413}),
    "NaN": (post(b'{"history": [NaN]}'), {422}),
    "infinite": (post(b'{"history": [], "k": -Infinity}'), {422}),
    "huge": (post(b'{"history": [], "k": ' + b"9" * 500_000 + b"}"), {400, 422}),
    "huge exponent": (post(b'{"history": [], "k": 1e99999}'), {422}),
    "a long id": (post(b'{"history": ["' + b"x" * 900_000 + b'"]}'), {200}),
    "many ids": (post(b'{"history": [' + b"1," * 9_999 + b"1]}"), {200}),
    "too many ids": (post(b'{"history": [' + b"1," * 10_000 + b"1]}"), {422}),
    "more ids than are read": (post(b'{"history": [' + b"1," * 300_000 + b"1]}"), {413}),
    "many fields": (
        post(b"{" + b",".join(b'"%d": 1' % number for number in range(49_000)) + b"}"),
        {422},
    ),
    "too large": (post(b" " * (2**20 + 1)), {413}),
    "zeros": (post(b"\0" * 1_000), {422}),
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 5, {None, 400}),
    "another version": (b"GET / HTTP/9.9\r\n\r\n", {None, 200, 400, 505}),
    "a method that is none": (
        b"BREW /recommend HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        {None, 400, 405},
    ),
    "a path of odd bytes": (
        b"GET /%ff%00/../\xff HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        {None, 400, 404},
    ),
    "a long head": (post(GOOD, head="X-Long: " + "x" * 200_000 + "\r\n"), {431}),
    "many headers": (post(GOOD, head="X: x\r\n" * 5_000), {431}),
    "a long path": (b"GET /" + b"x" * 20_000 + END.replace(b"\r\n", b" HTTP/1.1\r\n", 1), {431}),
    "an odd request id": (post(GOOD, head="X-Request-Id: \xe9\x7f\x01\r\n"), {None, 200, 400}),
    "broken chunks": (
        b"POST /recommend HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
        {None, 400},
    ),
    "an upgrade": (
        b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        {None, 200, 400},
    ),
    "nothing": (b"", {None}),
}


def sent(address, data, *, half_closed=False, seconds=PATIENCE):
    """The status and the body of the answer, or None where the connection ends without one."""
    host, port = address.removeprefix("http://").split(":")
    answer = b""
    with socket.create_connection((host, int(port)), timeout=seconds) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(data)
            if half_closed:
                connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(OSError):
            while part := connection.recv(65536):
                answer += part
    if not answer:
        return None, b""
    return int(answer.split(b" ", 2)[1]), answer.partition(b"\r\n\r\n")[2]


@pytest.fixture(scope="module")
def service(published, tmp_path_factory):
    log = tmp_path_factory.mktemp("raw") / "log"
    with started(published[0], log) as (process, address):
        yield process, address, log


@pytest.fixture(autouse=True)
def goes_on(service):
    yield
    process, address, _ = service
    assert process.poll() is None
    with urllib.request.urlopen(f"{address}/healthz", timeout=PATIENCE) as response:
        assert response.status == 200
    assert sent(address, post(GOOD))[0] == 200


@pytest.mark.parametrize("name", REQUESTS)
def test_odd_requests(service, name):
    data, statuses = REQUESTS[name]
    # The web server takes a client that closes its side for one that is gone.
    for half_closed in (False, True):
        if not half_closed and None in statuses:
            continue  # the service rightly waits for the rest
        status, body = sent(service[1], data, half_closed=half_closed)
        assert status in statuses | ({None} if half_closed else set()), (status, body[:300])
        if status in (400, 413, 422, 431):
            assert json.loads(body)["error"]


def test_clients_that_go_away(service):
    address = service[1]
    host, port = address.removeprefix("http://").split(":")
    data = post(GOOD)
    for length in range(0, len(data), 7):
        with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
            connection.sendall(data[:length])
            # Not a polite end: the service gets a reset.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def test_a_good_request_with_bytes_changed(service):
    generator = random.Random(0)
    address = service[1]
    for _ in range(1_000):
        data = bytearray(post(GOOD))
        for _ in range(generator.randint(1, 4)):
            data[generator.randrange(len(data))] = generator.randrange(256)
        status, body = sent(address, bytes(data), half_closed=True)
        assert status is None or status < 500, (bytes(data), body[:300])


def test_nothing_of_it_was_a_failure_in_the_log(service):
    lines = entries(service[2])
    assert [line for line in lines if "traceback" in line] == []
    assert [line for line in lines if line.get("status", 0) >= 500] == []

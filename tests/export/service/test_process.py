"""The service as a process: its start, its log, its end."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request

import pytest

from tests.pipelines import scripts

pytest.importorskip("uvicorn", reason="the extra `service` is not installed")

SCRIPT = "export/serve.py"


@contextlib.contextmanager
def started(bundle, log, *arguments):
    """A running service, and the host and port it listens on."""
    command = scripts.command(SCRIPT, f"--bundle={bundle}", "--port=0", *arguments)
    with log.open("w") as file:
        process = subprocess.Popen(command, env=scripts.environment(), cwd=scripts.ROOT, stdout=file)
    try:
        limit = time.monotonic() + 60
        while '"serving"' not in log.read_text():
            assert process.poll() is None and time.monotonic() < limit, log.read_text()
            time.sleep(0.05)
        yield process, entries(log)[0]["address"]
    finally:
        process.kill()
        process.wait()


def everything(connection):
    """What comes until the service ends the connection."""
    answer = b""
    while part := connection.recv(65536):
        answer += part
    return answer


def entries(log):
    """The lines of a log; every one must be JSON."""
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_a_request_under_way_is_answered_when_the_service_is_told_to_stop(bundle, tmp_path):
    log = tmp_path / "log"
    with started(bundle, log) as (process, address):
        with urllib.request.urlopen(f"{address}/readyz", timeout=20) as response:
            assert json.load(response)["ready"]
        host, port = address.removeprefix("http://").split(":")
        body = b'{"history": [], "k": 3}'
        head = (
            "POST /recommend HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nX-Request-Id: last\r\n\r\n"
        )
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.sendall(head.encode() + body[:5])
            time.sleep(0.3)  # the service has read the head
            process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            assert process.poll() is None
            connection.sendall(body[5:])
            answer = everything(connection)
        assert answer.startswith(b"HTTP/1.1 200")
        assert len(json.loads(answer.partition(b"\r\n\r\n")[2])["items"]) == 3
        assert process.wait(20) == 0
    lines = entries(log)
    assert [one["path"] for one in lines if one["message"] == "request"] == ["/recommend"]
    request = next(one for one in lines if one["message"] == "request")
    assert (request["request_id"], request["status"], request["level"]) == ("last", 200, "info")
    assert lines[-1]["message"] == "stopped"


def test_a_version_that_is_being_loaded_does_not_hold_up_the_end(bundle, tmp_path):
    log = tmp_path / "log"
    with started(bundle, log, "--poll_seconds=0.05", "--drain_seconds=1") as (process, _):
        towers = bundle / "user_tower"
        shutil.copytree(towers / "1", towers / ".2")
        description = towers / ".2" / "assets.extra" / "tower.json"
        description.unlink()
        os.mkfifo(description)  # whoever reads it waits for ever
        (towers / ".2").rename(towers / "2")
        # It can be opened for writing, without waiting, as soon as the service is reading it.
        limit = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError):
                writing = os.open(towers / "2" / "assets.extra" / "tower.json", os.O_WRONLY | os.O_NONBLOCK)
                break
            assert time.monotonic() < limit
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        os.close(writing)
    assert entries(log)[-1]["message"] == "stopped"


def test_slow_bodies_and_too_many_connections_are_refused(bundle, tmp_path):
    limits = ("--max_body_seconds=0.2", "--max_connections=2")
    with started(bundle, tmp_path / "log", *limits) as (_, address), contextlib.ExitStack() as connections:
        host, port = address.removeprefix("http://").split(":")

        def connect():
            return connections.enter_context(socket.create_connection((host, int(port)), timeout=20))

        slow, idle, third = connect(), connect(), connect()
        third.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert everything(third).startswith(b"HTTP/1.1 503")
        idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert everything(idle).startswith(b"HTTP/1.1 200")
        slow.sendall(b"POST /recommend HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n{")
        head, _, body = everything(slow).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 408")
        assert json.loads(body)["error"].startswith("Of the request, 1 bytes came within 0.2 s")


def test_a_taken_port_is_known_before_anything_is_loaded(bundle):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = scripts.run(SCRIPT, f"--bundle={bundle}", f"--port={port}")
    scripts.assert_refused(done, f"--port={port} cannot be listened on")


def test_limits_that_contradict_each_other_are_refused(bundle):
    done = scripts.run(SCRIPT, f"--bundle={bundle}", "--max_batch=9", "--max_waiting=8")
    scripts.assert_refused(done, "--max_batch=9 is more than --max_waiting=8")


@pytest.mark.long
def test_what_is_no_bundle_and_a_tower_that_is_not_there(bundle, tmp_path):
    scripts.assert_refused(scripts.run(SCRIPT, f"--bundle={tmp_path}", "--port=0"), "is not a bundle")
    done = scripts.run(SCRIPT, f"--bundle={bundle}", "--port=0", "--tower_address=127.0.0.1:9")
    scripts.assert_refused(done, "The tower on 127.0.0.1:9 does not answer", code=1)

"""The service as a process: its start, its log, its end."""

import contextlib
import json
import os
import shutil
import signal
import socket
import urllib.request

import pytest

from tests.export.service.shop import IDS
from tests.export.service.waiting import PATIENCE, until
from tests.pipelines import forked, scripts

pytest.importorskip("uvicorn", reason="the extra `service` is not installed")

SCRIPT = "export/serve.py"


@contextlib.contextmanager
def started(bundle, log, *arguments):
    """A running service, and the host and port it listens on."""
    flags, errors = (f"--bundle={bundle}", "--port=0", *arguments), log.with_suffix(".errors")
    process = forked.start(SCRIPT, *flags, log=log, errors=errors)
    try:

        def is_ready():
            assert process.exitcode is None, log.read_text() + errors.read_text()
            return log.exists() and '"serving"' in log.read_text()

        until(is_ready)
        yield process, entries(log)[0]["address"]
    finally:
        process.kill()
        process.join()


def ended(process):
    """The exit code of a process that ends of itself."""
    process.join(PATIENCE)
    return process.exitcode


def everything(connection):
    """What comes until the service ends the connection."""
    answer = b""
    while part := connection.recv(65536):
        answer += part
    return answer


def entries(log):
    """The lines of a log; every one must be JSON."""
    return [json.loads(line) for line in log.read_text().splitlines()]


def connect(address):
    host, port = address.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=PATIENCE)


@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, *(pytest.param(one, marks=pytest.mark.long) for one in (signal.SIGINT, signal.SIGHUP))],
)
def test_a_request_under_way_is_answered_when_the_service_is_told_to_stop(bundle, tmp_path, number):
    log = tmp_path / "log"
    with started(bundle, log, f"--max_body_seconds={PATIENCE}", f"--drain_seconds={PATIENCE}") as (
        process,
        address,
    ):
        with urllib.request.urlopen(f"{address}/readyz", timeout=PATIENCE) as response:
            assert json.load(response)["ready"]
        body = b'{"history": [], "k": 3, "timeout_ms": 60000}'
        head = (
            "POST /recommend HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nX-Request-Id: last\r\nExpect: 100-continue\r\n\r\n"
        )
        with connect(address) as connection:
            connection.sendall(head.encode())
            go_on = b"HTTP/1.1 100 Continue\r\n\r\n"  # the request is under way
            assert connection.recv(len(go_on), socket.MSG_WAITALL) == go_on
            os.kill(process.pid, number)
            until(lambda: '"Shutting down"' in log.read_text())
            assert process.exitcode is None
            connection.sendall(body)
            answer = everything(connection)
        assert answer.startswith(b"HTTP/1.1 200")
        assert len(json.loads(answer.partition(b"\r\n\r\n")[2])["items"]) == 3
        assert ended(process) == 0
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
        opened = []

        def is_read():
            """It can be opened for writing, without waiting, as soon as the service is reading it."""
            with contextlib.suppress(OSError):
                opened.append(
                    os.open(towers / "2" / "assets.extra" / "tower.json", os.O_WRONLY | os.O_NONBLOCK)
                )
            return opened

        until(is_read)
        os.kill(process.pid, signal.SIGTERM)
        assert ended(process) == 0
        os.close(opened[0])
    assert entries(log)[-1]["message"] == "stopped"


def test_limits_of_connections_and_hosts_are_those_of_the_flags(bundle, tmp_path):
    limits = ("--max_body_seconds=0.2", "--max_connections=2", "--max_head_bytes=500")
    with started(bundle, tmp_path / "log", *limits) as (_, address), contextlib.ExitStack() as connections:

        def sent(data):
            connection = connections.enter_context(connect(address))
            connection.sendall(data)
            return connection

        def status(data):
            return int(everything(sent(data)).split(b" ", 2)[1])

        slow = sent(b"POST /recommend HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n{")
        head, _, body = everything(slow).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 408")
        assert json.loads(body)["error"].startswith("Only 1 bytes came within 0.2 s")
        end = b"\r\nConnection: close\r\n\r\n"
        silent = [sent(b"") for _ in range(4)]
        assert status(b"GET /healthz HTTP/1.1\r\nHost: localhost:80" + end) == 200
        assert [everything(one) for one in silent[:3]] == [b""] * 3
        # A page whose name is made to lead to this machine.
        assert status(b"GET /healthz HTTP/1.1\r\nHost: evil.example" + end) == 400
        assert status(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 500 + end) == 431


def test_a_log_that_nobody_reads_holds_up_neither_answers_nor_the_end(bundle, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    flags = (f"--bundle={bundle}", "--port=0")
    process = forked.start(SCRIPT, *flags, log=pipe, errors=tmp_path / "errors")
    with pipe.open("rb") as log:
        try:
            line = next(one for one in log if b'"serving"' in one)
            # Each makes a line of eight thousand bytes, and a pipe takes some sixty thousand.
            path = b"/" + b"x" * 8_000
            with connect(json.loads(line)["address"]) as connection:
                for _ in range(100):
                    connection.sendall(b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    answer = b""
                    while not answer.endswith(b"}"):
                        answer += connection.recv(65536)
                    assert answer.startswith(b"HTTP/1.1 404")
            os.kill(process.pid, signal.SIGTERM)
            assert ended(process) == 0
        finally:
            process.kill()
            process.join()


def test_what_stays_is_out_of_sight_of_the_garbage_collector():
    code = (
        "import gc, weakref, export.serve as serve\n"
        "class Version: pass\n"
        "old = Version(); old.itself = old; seen = weakref.ref(old)\n"
        "serve._spare_the_collector()\n"
        "assert gc.get_freeze_count() > 1_000 and not any(one is old for one in gc.get_objects())\n"
        "del old\n"
        "serve._spare_the_collector()\n"  # a later version is loaded
        "assert seen() is None\n"
    )
    done = scripts.run_code(code)
    assert done.returncode == 0, done.stderr


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


@pytest.mark.long
def test_two_services_follow_one_file_of_what_is_out(bundle, tmp_path):
    """Each in a process of its own: one is asked to change the file, both answer without the items."""
    (tmp_path / "token").write_text("a token of some length")
    flag = f"--unavailable_token_file={tmp_path / 'token'}"
    with (
        started(bundle, tmp_path / "one", flag) as (_, first),
        started(bundle, tmp_path / "two") as (_, second),
    ):

        def asked(address, path="recommend", **body):
            request = urllib.request.Request(f"{address}/{path}", json.dumps(body).encode())
            request.add_header("Content-Type", "application/json")
            request.add_header("Authorization", "Bearer a token of some length")
            with urllib.request.urlopen(request, timeout=PATIENCE) as response:
                return json.loads(response.read())

        def items(address):
            return asked(address, history=[IDS[3]], k=5, timeout_ms=60_000)["items"]

        best = items(first)
        assert items(second) == best
        assert asked(first, "unavailable", out=best[:2]) == {"unavailable": 2}
        until(lambda: all(not set(best[:2]) & set(items(one)) for one in (first, second)))
        # As another program would: a new file in the place of the old one.
        (tmp_path / "new.txt").write_text(f"{best[4]}\n")
        (tmp_path / "new.txt").replace(bundle / "unavailable.txt")
        until(lambda: all(items(one)[:4] == best[:4] for one in (first, second)))
        assert all(best[4] not in items(one) for one in (first, second))

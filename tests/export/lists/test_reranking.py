"""Re-rankers: functions and endpoints, and every way in which they fail."""

import http.server
import json
import threading

import pytest

from export.lists.reranking import Reranker
from export.store.bundle_errors import BundleError

LISTS = ([["a"], []], [["x", "y"], ["z"]], [[1.0, 2.0], [3.0]])
PATIENT = 300_000


def negated(histories, items, scores):
    return [[-score for score in one] for one in scores]


def test_a_function_is_found_by_name_and_gives_the_scores():
    found = Reranker.named(f"{__name__}:negated", PATIENT)(*LISTS)
    assert (found.scores, found.outcome) == ([[-1.0, -2.0], [-3.0]], "used")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([[1.0]], "there is not one score for each candidate"),
        ([[1.0], [1.0]], "there is not one score for each candidate"),
        ([[1.0, float("nan")], [1.0]], "a score is not finite"),
        ([["a", 1], [1]], "ValueError"),
        (None, "TypeError"),
        (ZeroDivisionError("by zero"), "ZeroDivisionError: by zero"),
    ],
)
def test_what_is_no_answer_is_a_failure(answer, message):
    def rescore(*_lists):
        if isinstance(answer, Exception):
            raise answer
        return answer

    found = Reranker(rescore, PATIENT)(*LISTS)
    assert (found.scores, found.outcome) == (None, "failed")
    assert message in found.error


def test_a_late_one_is_given_up_and_those_that_hang_are_limited():
    go_on = threading.Event()

    def hangs(histories, items, scores):
        assert go_on.wait(300)
        return scores

    reranker = Reranker(hangs, 0.01)
    outcomes = [reranker(*LISTS).outcome for _ in range(10)]
    assert outcomes == ["late"] * 8 + ["busy"] * 2
    assert Reranker(hangs, 300)(*LISTS, seconds=0.01).outcome == "late"  # the request's own time is over
    go_on.set()
    patient = Reranker(hangs, 300)
    assert patient(*LISTS).outcome == "used"


@pytest.fixture(scope="module", name="address")
def fixture_address():
    class Endpoint(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, answer = 200, {"scores": [[len(item) for item in one] for one in asked["items"]]}
            if self.path == "/moved":
                status = 302
            if self.path == "/other?a=1":
                answer = asked
            body = b"no JSON" if self.path == "/text" else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Location", "/")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_an_endpoint_gives_the_scores_and_its_failures_are_told(address):
    lists = ([["a"]], [["xx", "yyy"]], [[0.1, 0.2]])
    assert Reranker.named(address, PATIENT)(*lists).scores == [[2.0, 3.0]]
    for path, message in [
        ("/moved", "answers status 302"),
        ("/text", "JSONDecodeError"),
    ]:
        assert message in Reranker.named(address + path, PATIENT)(*lists).error
    echoed = Reranker.named(f"{address}/other?a=1", PATIENT)(*lists)
    assert echoed.scores == [[0.1, 0.2]]  # the query of the address is passed on
    assert "Refused" in Reranker.named("http://127.0.0.1:1/", PATIENT)(*lists).error


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "wanted module:function or http://host:port/path"),
        ("no_such_module_at_all:f", "cannot be imported .*; is its folder on PYTHONPATH"),
        ("json:no_such", "cannot be imported"),
        ("json:__name__", "is no function"),
        ("ftp://host/", "is no address"),
        ("http:///path", "is no address"),
        ("http://host:port/", "is no address"),
    ],
)
def test_a_name_that_leads_nowhere_is_refused_at_once(name, message):
    with pytest.raises(BundleError, match=message):
        Reranker.named(name, 50)
    with pytest.raises(BundleError, match="has 0 ms; wanted more than 0"):
        Reranker.named("json:loads", 0)

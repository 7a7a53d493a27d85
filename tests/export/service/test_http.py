"""What a client sees, beside a twin that scores one history at a time."""

import base64
import contextlib
import hashlib
import itertools
import json
import re
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("fastapi", reason="the extra `service` is not installed")

import grpc
from fastapi.testclient import TestClient

from export.index.catalogue import Catalogue
from export.index.catalogue_cache import CatalogueCache
from export.publishing.updates import Update, update_index
from export.query import Query
from export.retriever import Retriever
from export.service import service as service_module
from export.service.app import create_app
from export.service.options import Options
from export.service.service import Service
from export.store.bundle_errors import BundleError, TowerError
from export.towers.local import LocalTower
from tests.export.model_server import ModelServer, over_grpc
from tests.export.service.shop import IDS, MAX_HISTORY, NUM_ITEMS
from tests.export.service.waiting import PATIENCE, until


@contextlib.contextmanager
def serving(bundle, **options):
    """A client of a service, and the service."""
    patient = {"poll_seconds": 0.05, "timeout_ms": 60_000, "max_timeout_ms": 1_000 * PATIENCE}
    service = Service(Options(bundle=bundle, **(patient | options)))
    with TestClient(create_app(service), raise_server_exceptions=False) as client:
        yield client, service


@pytest.fixture(scope="module")
def client(published):
    limits = {"max_batch": 5, "max_history_ids": 70, "max_body_bytes": 20_000, "max_body_values": 300}
    with serving(published[0], max_k=60, **limits) as (client, _):
        yield client


HISTORIES = [
    [IDS[3], IDS[40], IDS[7]],
    [],
    ["never seen", "\ud800"],
    ["never seen", IDS[8], IDS[9], IDS[9], IDS[12], "nor this", IDS[20], "x"],
    IDS[5:45],
    IDS,
]


@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize("history", HISTORIES)
def test_answers_as_the_twin_does(client, versions, history, exclude_seen):
    body = {"history": history, "k": 10, "exclude_seen": exclude_seen}
    response = client.post(
        "/recommend", content=json.dumps(body), headers={"Content-Type": "application/json"}
    )
    assert response.status_code == 200, response.text
    answer = response.json()
    fallback = not any(item in IDS for item in history)
    assert answer["items"] == versions[0].items(history, 10, exclude_seen)
    assert answer["fallback"] == fallback
    assert answer["num_unknown"] == sum(item not in IDS for item in history)
    if fallback:
        assert set(answer["scores"]) == {0.0}
        return
    vector = versions[0].vector(history)
    for item, score in zip(answer["items"], answer["scores"], strict=True):
        assert score == pytest.approx(float(versions[0].table[IDS.index(item) + 1] @ vector), abs=1e-4)


def test_a_batch_is_answered_in_its_order(client, versions, published):
    histories = HISTORIES[:2] + HISTORIES[3:]
    answers = client.post("/recommend/batch", json={"histories": histories, "k": 7}).json()["answers"]
    assert [one["items"] for one in answers] == [versions[0].items(history, 7) for history in histories]
    assert {one["version"] for one in answers} == {published[2][0]}


def test_defaults_integers_and_a_k_beyond_the_catalogue(client, versions):
    # "0" and "-3" are ids of the shop.
    answer = client.post("/recommend", json={"history": [0, -3]}).json()
    assert answer["items"] == versions[0].items(["0", "-3"], 20)
    assert answer["num_unknown"] == 0
    answer = client.post("/recommend", json={"history": [0], "k": 60}).json()
    assert answer["items"] == versions[0].items(["0"], NUM_ITEMS)


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/recommend", '{"history": "abc"}', 422, "history: wanted a list of item ids"),
        ("/recommend", '{"history": ["a", null]}', 422, "history: item 1 is None; wanted a string"),
        ("/recommend", '{"history": [true]}', 422, "item 0 is True"),
        ("/recommend", '{"history": [1.5]}', 422, "item 0 is 1.5"),
        ("/recommend", '{"history": [["a"]]}', 422, "item 0 is ['a']"),
        ("/recommend", '{"history": [], "k": 0}', 422, "k: got 0; input should be greater than"),
        ("/recommend", '{"history": [], "k": 61}', 422, "k: got 61; wanted 1 to 60"),
        ("/recommend", '{"history": [], "k": "5"}', 422, "k: got '5'; input should be a valid integer"),
        ("/recommend", '{"history": [], "k": NaN}', 422, "k: got nan"),
        ("/recommend", '{"history": [], "kk": 5}', 422, "kk: got 5; extra inputs"),
        ("/recommend", '{"history": [], "k": [1,1,1,1,1,1,1]}', 422, "k: got [1, 1, 1, 1, 1, 1, ...]; input"),
        ("/recommend", '{"history": [[1,1,1,1,1,1,1]]}', 422, "item 0 is [1, 1, 1, 1, 1, 1, ...]; wanted"),
        ("/recommend", '{"history": [], "exclude_seen": "no"}', 422, "exclude_seen: got 'no'"),
        (
            "/recommend",
            '{"history": [], "timeout_ms": 300001}',
            422,
            "timeout_ms: got 300001; wanted 1 to 300000",
        ),
        ("/recommend", '{"history": [], "timeout_ms": 0}', 422, "timeout_ms: got 0"),
        ("/recommend", "{}", 422, "history: missing"),
        ("/recommend", "[]", 422, "body: got []"),
        ("/recommend", '{"histo', 422, "The body is not JSON"),
        ("/recommend", "\xff", 422, "The body is not JSON"),
        ("/recommend", "", 422, "body: missing"),
        ("/recommend", '{"history": ["' + "x" * 20_000 + '"]}', 413, "larger than 20000 bytes"),
        ("/recommend/batch", '{"histories": []}', 422, "histories: 0 of them; wanted 1 to 5"),
        ("/recommend/batch", '{"histories": [[],[],[],[],[],[]]}', 422, "histories: 6 of them"),
        # Counted before they are read.
        ("/recommend/batch", '{"histories": [1,1,1,1,1,1]}', 422, "histories: 6 of them; wanted 1 to 5"),
        ("/recommend/batch", '{"histories": [[], [null]]}', 422, "histories.1: item 0 is None"),
        ("/recommend", '{"history": [' + "null," * 70 + "1]}", 422, "history: 71 item ids"),
        ("/explain", '{"history": [' + "1," * 70 + "1]}", 422, "(--max_history_ids); wanted 0 to 70"),
        ("/recommend/batch", '{"histories": [[],[' + "1," * 70 + "1]]}", 422, "histories: 71 item ids"),
        ("/recommend/batch", '{"histories": [' + "[]," * 150 + "[]]}", 413, "more than 300 values"),
        ("/nothing", "{}", 404, "Not Found"),
    ],
)
def test_a_malformed_request_is_refused_with_what_was_got_and_wanted(client, path, body, status, message):
    response = client.post(path, content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == status, response.text
    assert message in response.json()["error"]


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("/items", "query: missing in the address."),
        ("/items?query=a&limit=0", "limit: got '0'; input should be greater than"),
    ],
)
def test_a_malformed_address_is_refused_with_what_was_got_and_wanted(client, address, message):
    response = client.get(address)
    assert response.status_code == 422, response.text
    assert message in response.json()["error"]


def test_a_body_without_its_length_is_limited_too(client):
    parts = (b" " * 1000 for _ in range(25))
    response = client.post("/recommend", content=parts, headers={"Content-Type": "application/json"})
    assert response.status_code == 413


def test_a_body_of_another_kind_is_told_which_header_is_missing(client):
    response = client.post("/recommend", content='{"history": []}', headers={"Content-Type": "text/plain"})
    assert response.status_code == 422
    assert "Content-Type: application/json" in response.json()["error"]


def test_operations(client, published):
    assert client.get("/healthz").json() == {"status": "running"}
    ready = client.get("/readyz").json()
    assert ready == {"ready": True, "version": published[2][0], "items": NUM_ITEMS, "max_k": 60}
    client.post("/recommend", json={"history": ["never seen"]}, headers={"X-Request-Id": "abc"})
    text = client.get("/metrics").text
    assert 'causerec_requests_total{path="/healthz",status="200"} 1.0' in text
    assert "causerec_published_number 1.0" in text
    assert f'causerec_answers_total{{version="{published[2][0]}"}}' in text
    assert "process_resident_memory_bytes" in text
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/recommend", "/recommend/batch", "/explain", "/readyz"} <= set(paths)
    assert client.get("/docs").status_code == 200


def test_a_probe_is_no_answer(bundle):
    with serving(bundle) as (client, _):
        client.post("/recommend", json={"history": ["never seen"]})
        for _ in range(3):
            assert client.get("/readyz").status_code == 200
        text = client.get("/metrics").text
        assert "causerec_fallbacks_total 1.0" in text and re.search(r"causerec_answers_total{.*} 1\.0", text)


def test_a_request_keeps_its_id_or_gets_one(client):
    assert client.get("/healthz", headers={"X-Request-Id": "abc"}).headers["X-Request-Id"] == "abc"
    assert len(client.get("/healthz").headers["X-Request-Id"]) == 32
    for odd in (b"\x85a", b"\x1ba", b"\x7f", "é".encode()):
        response = client.get("/healthz", headers=[(b"X-Request-Id", odd)])
        assert re.fullmatch("[0-9a-f]{32}", response.headers["X-Request-Id"])


def test_explanation_names_and_lookup(client, versions):
    history = [IDS[20], "never seen", IDS[30]]
    answer = client.post("/explain", json={"history": history, "k": 5}).json()
    assert [one["id"] for one in answer["items"]] == versions[0].items(history, 5)
    assert [one["name"] for one in answer["items"]] == [f"Name of {one['id']}" for one in answer["items"]]
    assert [one["known"] for one in answer["history"]] == [True, False, True]
    whole = set(versions[0].items(history, 5))
    for one in answer["influences"]:
        rest = [item for item in history if item != one["id"]]
        without = [item for item in versions[0].items(rest, NUM_ITEMS) if item not in history][:5]
        assert one["share"] == pytest.approx(len(whole - set(without)) / 5)
    assert {one["id"] for one in answer["influences"]} == {IDS[20], IDS[30]}
    assert client.get("/items", params={"query": "NAME OF É"}).json() == [
        {"id": "é", "name": "Name of é", "known": True}
    ]
    found = client.get("/items", params={"query": "item-", "limit": 3}).json()
    assert [one["id"] for one in found] == [item for item in IDS if "item-" in item][:3]
    # The warm-up histories of the bundle.
    examples = client.get("/examples").json()
    assert [[one["id"] for one in history] for history in examples] == [[IDS[0], IDS[1]], [IDS[6]]]


def test_the_page_can_be_left_out(bundle):
    service = Service(Options(bundle=bundle))
    with TestClient(create_app(service, page=False)) as client:
        for path in ("/", "/items?query=a", "/examples", "/docs", "/redoc", "/openapi.json"):
            assert client.get(path).status_code == 404
        assert client.post("/explain", json={"history": []}).status_code == 404
        assert client.post("/recommend", json={"history": []}).status_code == 200


def policy(response):
    parts = (part.split() for part in response.headers["Content-Security-Policy"].split(";"))
    return {name: values for name, *values in parts}


def test_every_answer_says_what_a_browser_may_not_do_with_it(client, monkeypatch):
    async def fails(*_):
        raise ZeroDivisionError

    with monkeypatch.context() as broken:
        broken.setattr(Service, "recommend", fails)
        failed = client.post("/recommend", json={"history": []})
    good = client.post("/recommend", json={"history": []})
    refused = [client.post("/recommend", json={}), client.get("/nothing"), failed]
    assert [one.status_code for one in [good, *refused]] == [200, 422, 404, 500]
    for response in [good, *refused, client.get("/"), client.get("/docs"), client.get("/healthz")]:
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["X-Frame-Options"] == "DENY"
        assert response.headers["Referrer-Policy"] == "no-referrer"
        assert policy(response)["default-src"] == policy(response)["frame-ancestors"] == ["'none'"]


def test_the_page_may_run_what_stands_in_it_and_nothing_else(client):
    response = client.get("/")
    for tag in ("script", "style"):
        (text,) = re.findall(f"<{tag}>(.*)</{tag}>", response.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert policy(response)[f"{tag}-src"] == [f"'sha256-{digest}'"]
    # The policy would stop these.
    assert not re.search(r"\s(on\w+|style)=", response.text)
    assert policy(response)["connect-src"] == ["'self'"]


@pytest.mark.parametrize(
    ("host", "status"),
    [("shop.example", 200), ("a.shop.test:81", 200), ("evil.example", 400), ("shop.example.evil", 400)],
)
def test_a_host_that_is_not_allowed_is_refused(bundle, host, status):
    with serving(bundle, allowed_hosts=("shop.example", "*.shop.test")) as (client, _):
        assert client.get("/healthz", headers={"Host": host}).status_code == status


def test_examples_are_read_once_for_each_version(bundle, versions, monkeypatch):
    read, reading = [], service_module.read_warm_up

    def counted(path):
        read.append(path)
        return reading(path)

    monkeypatch.setattr(service_module, "read_warm_up", counted)
    with serving(bundle) as (client, _):

        def examples():
            return [[one["id"] for one in history] for history in client.get("/examples").json()]

        assert [examples() for _ in range(5)] == [[[IDS[0], IDS[1]], [IDS[6]]]] * 5
        assert len(read) == 1
        versions[1].publish(bundle)
        ids = versions[1].ids
        until(lambda: examples() == [[ids[0], ids[1]], [ids[6]]])
        assert len(read) == 2


def test_examples_that_cannot_be_read_cost_no_recommendation(bundle, monkeypatch):
    def fails(_path):
        raise BundleError("no such package")

    monkeypatch.setattr(service_module, "read_warm_up", fails)
    with serving(bundle) as (client, _):
        assert client.get("/examples").json() == []
        assert client.post("/recommend", json={"history": []}).status_code == 200


class Slow:
    """Holds the tower of a service back until it is let go."""

    def __init__(self, service, monkeypatch):
        self.gate, self.entered, self._tower = threading.Event(), threading.Event(), service._tower
        monkeypatch.setattr(service, "_tower", self)

    def __call__(self, histories, timeout=None):
        self.entered.set()
        assert self.gate.wait(PATIENCE)
        return self._tower(histories, timeout)


def test_a_request_out_of_time_is_told_so_with_504(bundle, monkeypatch):
    with serving(bundle) as (client, service):
        slow = Slow(service, monkeypatch)
        response = client.post("/recommend", json={"history": [], "timeout_ms": 30})
        assert response.status_code == 504
        assert response.json()["error"] == "There was no answer within 30 ms."
        slow.gate.set()
        assert client.post("/recommend", json={"history": []}).status_code == 200


def test_load_beyond_the_queue_is_shed_with_429(bundle, monkeypatch):
    with serving(bundle, max_waiting=2) as (client, service), ThreadPoolExecutor(8) as pool:
        slow = Slow(service, monkeypatch)

        def ask():
            return client.post("/recommend", json={"history": [IDS[1]], "timeout_ms": 60_000})

        first = pool.submit(ask)
        assert slow.entered.wait(PATIENCE)
        others = [pool.submit(ask) for _ in range(2)]
        until(lambda: service._questions.waiting == 2)
        shed = ask()
        assert shed.status_code == 429
        assert shed.headers["Retry-After"] == "1"
        assert "2 histories are waiting and at most 2 may" in shed.json()["error"]
        assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").status_code == 200  # busy, not broken
        slow.gate.set()
        assert {future.result().status_code for future in [first, *others]} == {200}


def test_overload_below_the_limit_is_no_reason_to_be_taken_out(bundle, monkeypatch):
    with serving(bundle, timeout_ms=100) as (client, service), ThreadPoolExecutor(1) as pool:
        slow = Slow(service, monkeypatch)
        # The tower does not answer, though nobody else asks: the first probe holds the thread.
        assert [client.get("/readyz").status_code for _ in range(2)] == [504, 504]
        waits = pool.submit(client.post, "/recommend", json={"history": [], "timeout_ms": 60_000})
        until(lambda: service.waiting)
        assert client.get("/readyz").status_code == 200
        slow.gate.set()
        assert waits.result().status_code == 200


def test_lookups_have_a_limit_and_do_not_hold_up_recommendations(bundle, monkeypatch):
    gate, entered, find = threading.Event(), threading.Event(), Catalogue.find

    def slow(*arguments):
        entered.set()
        assert gate.wait(PATIENCE)
        return find(*arguments)

    monkeypatch.setattr(Catalogue, "find", slow)
    with serving(bundle, timeout_ms=60_000) as (client, service), ThreadPoolExecutor(9) as pool:

        def look_up():
            return client.get("/items", params={"query": "item"})

        first = pool.submit(look_up)
        assert entered.wait(PATIENCE)
        others = [pool.submit(look_up) for _ in range(8)]
        until(lambda: service._lookups.waiting == 8)
        refused = look_up()
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
        assert "8 lookups are waiting and at most 8 may" in refused.json()["error"]
        assert client.post("/recommend", json={"history": []}).status_code == 200
        gate.set()
        assert {future.result().status_code for future in [first, *others]} == {200}


class ByTurns:
    """The towers of several versions; `turns` are the numbers that answer, again and again."""

    def __init__(self, bundle, *turns):
        catalogues = CatalogueCache(bundle)
        self._towers = {number: LocalTower.load(bundle, number, catalogues) for number in set(turns)}
        self._turns = itertools.cycle(turns)

    def __call__(self, histories, timeout=None):
        return self._towers[next(self._turns)](histories, timeout)


def test_an_explanation_is_of_one_version_also_when_a_newer_one_comes_between(
    published, versions, monkeypatch
):
    history = [IDS[20], IDS[30]]
    with serving(published[1]) as (client, service):

        def explain(*turns):
            monkeypatch.setattr(service, "_tower", ByTurns(published[1], *turns))
            return client.post("/explain", json={"history": history, "k": 5})

        # Two calls of the tower: for the whole history, then for what is left of it without each item.
        answer = explain(1, 2, 2, 2, 2, 2).json()
        assert answer["version"] == published[2][1]
        items = versions[1].items(history, 5)
        assert [one["id"] for one in answer["items"]] == items
        for one in answer["influences"]:
            rest = [item for item in history if item != one["id"]]
            without = [item for item in versions[1].items(rest, NUM_ITEMS) if item not in history][:5]
            assert one["share"] == pytest.approx(len(set(items) - set(without)) / 5)
        refused = explain(1, 2, 2)
        assert refused.status_code == 503
        assert "an explanation needs one. Ask again" in refused.json()["error"]


def test_a_smaller_version_that_another_thread_meets_makes_no_k_too_large(bundle, monkeypatch):
    with serving(bundle, poll_seconds=600) as (client, service):
        update_index(bundle, Update(delete_ids=[IDS[0]]))
        recommend = Retriever.recommend

        def overtaken(self, *arguments, **named):
            """What another thread does while this one asks."""
            monkeypatch.setattr(Retriever, "recommend", recommend)
            service._load()
            service._answer([Query([], 1)], PATIENCE)
            return recommend(self, *arguments, **named)

        monkeypatch.setattr(Retriever, "recommend", overtaken)
        response = client.post("/recommend", json={"history": [], "k": NUM_ITEMS, "timeout_ms": 60_000})
        assert response.status_code == 200, response.text
        assert response.json()["items"] == IDS[1:]


def test_a_newer_version_is_taken_up_without_a_failed_request(bundle, versions, published):
    history = [IDS[3], IDS[40], IDS[7]]
    body = {"history": history, "k": 8, "timeout_ms": 60_000}  # a busy machine is no failure
    expected = {version: one.items(history, 8) for version, one in zip(published[2], versions, strict=True)}
    statuses, wrong, seen, stop = set(), [], set(), threading.Event()
    with serving(bundle) as (client, _):

        def keep_asking():
            while not stop.is_set():
                response = client.post("/recommend", json=body)
                statuses.add(response.status_code)
                answer = response.json()
                seen.add(answer["version"])
                if answer["items"] != expected[answer["version"]]:
                    wrong.append(answer)

        threads = [threading.Thread(target=keep_asking) for _ in range(2)]
        for thread in threads:
            thread.start()
        versions[1].publish(bundle)
        until(lambda: published[2][1] in seen)
        stop.set()
        for thread in threads:
            thread.join()
        until(lambda: "causerec_published_number 2.0" in client.get("/metrics").text)
    assert (statuses, wrong, seen) == ({200}, [], set(published[2]))


def test_a_newer_version_that_cannot_be_loaded_leaves_the_one_in_use(bundle, published):
    with serving(bundle) as (client, _):
        shutil.copytree(bundle / "user_tower" / "1", bundle / "user_tower" / ".2")
        (bundle / "user_tower" / ".2" / "saved_model.pb").write_bytes(b"not a model")
        (bundle / "user_tower" / ".2").rename(bundle / "user_tower" / "2")
        until(lambda: "causerec_load_failures_total 1.0" in client.get("/metrics").text)
        answer = client.post("/recommend", json={"history": []}).json()
        assert answer["version"] == published[2][0]


@pytest.mark.parametrize("elsewhere", [False, True], ids=["tower here", "tower elsewhere"])
def test_an_updated_index_is_taken_up_as_any_newer_version(bundle, versions, elsewhere):
    history = [IDS[3], IDS[40], IDS[7]]
    gone = versions[0].items(history, 1)[0]
    left = [item for item in IDS if item != gone]

    def expected(history, k, exclude_seen=True):
        return [item for item in versions[0].items(history, NUM_ITEMS, exclude_seen) if item != gone][:k]

    with contextlib.ExitStack() as running:
        server = ModelServer(bundle / "user_tower" / "1")
        address = running.enter_context(over_grpc(server)) if elsewhere else None
        client, _ = running.enter_context(serving(bundle, tower_address=address))

        def ask(history, **more):
            answer = client.post("/recommend", json={"history": history, "k": 6, **more}).json()
            return answer["items"], answer["num_unknown"], answer["fallback"]

        assert ask(history)[0][0] == gone
        vector = 100 * versions[0].vector(history)[None]
        done = update_index(bundle, Update(["fresh"], vector, upsert_names=["New"], delete_ids=[gone]))
        server.models = ModelServer(bundle / "user_tower" / "2").models
        until(lambda: client.get("/readyz").json()["version"] == done.fingerprint)
        # What is new is recommended and not known in a history; what is withdrawn, the other way round.
        assert ask(history) == (["fresh", *expected(history, 5)], 0, False)
        assert ask([*history, "fresh"]) == (expected(history, 6), 1, False)
        items, *rest = ask([gone, IDS[9]], exclude_seen=False, k=60)
        assert [item for item in items if item != "fresh"] == expected([gone, IDS[9]], 60, False)
        assert (len(items), rest) == (NUM_ITEMS, [0, False])
        assert ask([]) == (left[:6], 0, True)
        assert ask(["fresh"], k=60) == (left, 1, True)
        explained = client.post("/explain", json={"history": [*history, "fresh"], "k": 6}).json()
        assert {one["id"] for one in explained["influences"]} == set(history)
        assert [one["known"] for one in explained["history"]] == [True, True, True, False]
        assert client.post("/explain", json={"history": history, "k": 1}).json()["items"][0]["known"] is False
        assert client.get("/items", params={"query": "NEW"}).json() == [
            {"id": "fresh", "name": "New", "known": False}
        ]


def test_a_tower_elsewhere_in_two_versions_is_always_searched_in_its_own(published, versions):
    first, second = (published[1] / "user_tower" / number for number in ("1", "2"))
    history = ["never seen", *IDS[3:9], "nor this"]
    assert len(IDS[3:9]) > MAX_HISTORY
    with (
        over_grpc(ModelServer(first, second)) as address,
        serving(published[1], tower_address=address, threads=2) as (client, _),
    ):
        answers = [client.post("/recommend", json={"history": history, "k": 9}).json() for _ in range(6)]
    assert {one["version"] for one in answers} == set(published[2])
    for one in answers:
        assert one["items"] == versions[published[2].index(one["version"])].items(history, 9)
        assert (one["num_unknown"], one["fallback"]) == (2, False)


def test_an_index_that_is_not_there_yet_is_a_503_until_it_comes(bundle, published, versions):
    server = ModelServer(bundle / "user_tower" / "1")
    with over_grpc(server) as address, serving(bundle, tower_address=address) as (client, _):
        assert client.get("/readyz").status_code == 200
        server.models = ModelServer(published[1] / "user_tower" / "2").models
        response = client.post("/recommend", json={"history": [IDS[4]], "k": 5})
        assert response.status_code == 503
        assert f"version '{published[2][1]}', which is not in {bundle}/item_index" in response.json()["error"]
        assert client.get("/readyz").status_code == 503
        shutil.copytree(
            published[1] / "item_index" / published[2][1], bundle / "item_index" / published[2][1]
        )
        response = client.post("/recommend", json={"history": [IDS[4]], "k": 5})
        assert response.json()["items"] == versions[1].items([IDS[4]], 5)


def test_faults_of_a_tower_elsewhere(bundle):
    server = ModelServer(bundle / "user_tower" / "1")
    with over_grpc(server) as address, serving(bundle, tower_address=address) as (client, _):

        def status(**more):
            response = client.post("/recommend", json={"history": [IDS[4]], **more})
            return response.status_code, response.json().get("error", "")

        server.fault = grpc.StatusCode.RESOURCE_EXHAUSTED
        assert status() == (429, f"The tower on {address} has too much to do (as the test wants it).")
        server.fault = grpc.StatusCode.UNAVAILABLE
        assert status()[0] == 503
        server.fault, server.delay = None, 0.5
        assert status(timeout_ms=50)[0] == 504
        server.delay = 0.0
        assert status() == (200, "")
    with pytest.raises(TowerError, match="does not answer: UNAVAILABLE"):
        Service(Options(bundle=bundle, tower_address=address))
    with pytest.raises(BundleError, match="wanted host:port"):
        Service(Options(bundle=bundle, tower_address="nonsense"))

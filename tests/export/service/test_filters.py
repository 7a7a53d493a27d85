"""Filters and availability over HTTP, beside what the shop's twin answers."""

import contextlib
import json

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the extra `service` is not installed")

from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from export.filters.stored_attributes import ItemAttributes, Labels, Numbers
from export.service.app import create_app
from export.service.options import Options
from export.service.service import Service
from export.store.bundle_errors import BundleError
from tests.export.service.shop import IDS
from tests.export.service.waiting import until

HISTORY = [IDS[3], IDS[40], IDS[7]]
PRICES = {item: float(number % 10) for number, item in enumerate(IDS)}
BRANDS = {item: "ab"[number % 2] for number, item in enumerate(IDS)}
TOKEN = "a token of some length"


def write_attributes(bundle, number, prices=None):
    """By the test's own hand: `export/item_attributes.py` has a test of its own."""
    prices = PRICES if prices is None else prices
    brands = np.array(["ab".index(BRANDS[item]) for item in prices], np.int32)
    columns = {
        "price": Numbers("numeric", np.array(list(prices.values()))),
        "brand": Labels("category", np.arange(len(prices)), brands, ["a", "b"]),
    }
    made = bundle / "item_attributes" / f".building-{number}"
    ItemAttributes(list(prices), columns).save(made)
    made.rename(made.with_name(str(number)))


@contextlib.contextmanager
def serving(bundle, **options):
    service = Service(Options(bundle=bundle, **({"poll_seconds": 0.05, "timeout_ms": 60_000} | options)))
    with TestClient(create_app(service, log_requests=False), raise_server_exceptions=False) as client:
        yield client, service


def asked(client, **body):
    response = client.post("/recommend", json={"history": HISTORY, "k": 8, "timeout_ms": 60_000} | body)
    assert response.status_code == 200, response.text
    return response.json()


def expected(version, keep, k=8, history=HISTORY):
    return [item for item in version.items(history, len(IDS)) if keep(item)][:k]


def test_filters_of_a_request_and_of_the_service(bundle, versions):
    write_attributes(bundle, 1)
    [first, _] = versions
    with serving(bundle) as (client, _):
        answer = asked(client, filter={"price": {"lt": 4}, "brand": ["a", "none"]})
        assert answer["items"] == expected(first, lambda item: PRICES[item] < 4 and BRANDS[item] == "a")
        assert answer["plan"] == "exact"
        assert asked(client)["plan"] == "index"
        listed = asked(client, allow=[*IDS[:9], "never seen"], deny=[IDS[1], 17])
        assert listed["items"] == expected(first, lambda item: item in IDS[:9] and item != IDS[1])
        nothing = asked(client, filter={"brand": "none"})
        assert (nothing["items"], nothing["plan"], nothing["fallback"]) == ([], "empty", False)
        popular = asked(client, history=["never seen"], filter={"brand": "b"}, k=3)
        assert (popular["items"], popular["plan"], popular["fallback"]) == (IDS[1:6:2], "popular", True)
        both = client.post(
            "/recommend/batch", json={"histories": [HISTORY, []], "k": 8, "filter": {"brand": "a"}}
        ).json()["answers"]
        assert both[0]["items"] == expected(first, lambda item: BRANDS[item] == "a")
        assert both[1]["items"] == IDS[0:16:2]
        explained = client.post(
            "/explain", json={"history": HISTORY, "k": 8, "filter": {"brand": "a"}}
        ).json()
        assert [one["id"] for one in explained["items"]] == both[0]["items"]
        plans = client.get("/metrics").text
        assert 'causerec_plans_total{plan="empty"} 1.0' in plans
    with serving(bundle, filter='{"brand": "b"}') as (client, _):
        assert asked(client)["items"] == expected(first, lambda item: BRANDS[item] == "b")
        assert asked(client, filter={"brand": "a"})["plan"] == "empty"
    with pytest.raises(BundleError, match="no attribute 'colour'"):
        Service(Options(bundle=bundle, filter='{"colour": "b"}'))
    with pytest.raises(BundleError, match="is not JSON"):
        Service(Options(bundle=bundle, filter="brand=b"))


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"filter": {"colour": "red"}}, "The items have no attribute 'colour'; they have 'price', 'brand'."),
        ({"filter": {"price": {"below": 3}}}, "filter.price: got 'below'; wanted one of the operators"),
        ({"filter": {"price": "cheap"}}, "price: got 'cheap'; it is numeric, wanted a number."),
        ({"filter": []}, "filter: got []; "),
        ({"allow": "a"}, "allow: wanted a list of item ids."),
        ({"deny": ["x"] * 10_001}, "deny: 10001 item ids (--max_history_ids)"),
    ],
)
def test_a_filter_that_cannot_be_asked_is_the_clients_fault(bundle, body, told):
    write_attributes(bundle, 1)
    with serving(bundle) as (client, _):
        response = client.post("/recommend", json={"history": HISTORY} | body)
        assert response.status_code == 422
        assert response.json()["error"].startswith(told), response.json()


def test_newer_attributes_are_taken_up_without_a_version(bundle, versions):
    [first, _] = versions
    with serving(bundle) as (client, service):
        before = service.catalogue.version
        refused = client.post("/recommend", json={"history": HISTORY, "filter": {"price": {"lt": 4}}})
        assert refused.status_code == 422 and "no attribute 'price'" in refused.json()["error"]
        write_attributes(bundle, 1)
        until(lambda: service.rules.attributes_number == 1)
        cheap = {"price": {"lt": 4}}
        assert asked(client, filter=cheap)["items"] == expected(first, lambda item: PRICES[item] < 4)
        now = {item: 9 - price for item, price in PRICES.items()}
        write_attributes(bundle, 2, now)
        until(lambda: service.rules.attributes_number == 2)
        assert asked(client, filter=cheap)["items"] == expected(first, lambda item: now[item] < 4)
        assert asked(client)["version"] == service.catalogue.version == before


def test_what_is_out_leaves_every_answer_of_every_process(bundle, versions, tmp_path):
    [first, _] = versions
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    options = {"unavailable_token_file": str(tmp_path / "token")}
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    write_attributes(bundle, 1)
    best = expected(first, lambda item: True, 3)
    with serving(bundle, **options) as (client, service), serving(bundle) as (other, other_service):
        response = client.post("/unavailable", json={"out": [*best, "of no version"]}, headers=bearer)
        assert (response.status_code, response.json()) == (200, {"unavailable": 4})
        left = expected(first, lambda item: item not in best)
        for one, its in ((client, service), (other, other_service)):
            until(lambda its=its: len(its.rules.availability.now().ids) == 4)
            assert asked(one)["items"] == left
            assert "causerec_unavailable_items 3.0" in one.get("/metrics").text
        assert asked(client, allow=best)["plan"] == "empty"
        assert best[0] not in asked(client, history=[], k=50)["items"]
        assert not set(best) & set(
            asked(client, k=50, exclude_seen=False, filter={"price": {"ge": 0}})["items"]
        )
        back = client.post("/unavailable", json={"back": best[:2]}, headers=bearer)
        assert back.json() == {"unavailable": 2}
        until(lambda: len(other_service.rules.availability.now().ids) == 2)
        assert asked(other)["items"][:2] == best[:2]
        for headers in ({}, {"Authorization": TOKEN}, {"Authorization": "Bearer another"}):
            assert client.post("/unavailable", json={"out": ["x"]}, headers=headers).status_code == 401
        assert other.post("/unavailable", json={"out": ["x"]}, headers=bearer).status_code in (404, 405)
        for ids in (["a\nb"], [""], ["\ud800"]):
            refused = client.post("/unavailable", content=json.dumps({"out": ids}), headers=bearer)
            assert refused.status_code == 422, refused.text
    with serving(bundle) as (client, _):  # after a restart
        assert asked(client)["items"] == expected(first, lambda item: item != best[2])


def test_a_file_of_ones_own_is_followed_and_a_damaged_one_changes_nothing(bundle, versions, tmp_path):
    [first, _] = versions
    best = expected(first, lambda item: True, 3)
    path = tmp_path / "out.txt"
    with serving(bundle, unavailable=str(path)) as (client, service):
        assert asked(client)["items"][:3] == best
        for text, out in ((best[0].encode(), {best[0]}), (b"\xff\xfe\x00", {best[0]}), (b"", set())):
            made = tmp_path / "made"
            made.write_bytes(text)
            made.replace(path)
            until(lambda out=out: service.rules.availability.now().ids == out)
            assert asked(client)["items"] == expected(first, lambda item, out=out: item not in out)
        path.unlink()
        assert asked(client)["items"][:3] == best
    with pytest.raises(BundleError, match="has 3 characters; wanted 16 or more"):
        (tmp_path / "token").write_text("abc")
        create_app(service_with_token(bundle, tmp_path / "token"))


def service_with_token(bundle, path):
    service = Service(Options(bundle=bundle, unavailable_token_file=str(path)))
    service.close()
    return service


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(IDS)
OPERATORS = st.sampled_from(["in", "all", "lt", "le", "gt", "ge", "missing", "odd"])
NAMES = st.sampled_from(["price", "brand", "all", "any", "not", "odd", "\ud800", ""])
FILTERS = st.recursive(
    VALUES | st.dictionaries(OPERATORS, VALUES | st.lists(VALUES, max_size=4), max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=30,
)


@pytest.mark.parametrize("examples", [50, pytest.param(5_000, marks=pytest.mark.long)])
def test_no_filter_ends_in_a_failure_of_the_service(published, tmp_path_factory, examples):
    import shutil

    bundle = tmp_path_factory.mktemp("fuzzed") / "bundle"
    shutil.copytree(published[0], bundle)
    write_attributes(bundle, 1)
    with serving(bundle) as (client, _):

        @settings(
            max_examples=examples, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
        )
        @given(
            wanted=st.dictionaries(NAMES, FILTERS, max_size=4) | FILTERS, lists=st.lists(VALUES, max_size=5)
        )
        def ask(wanted, lists):
            body = {"history": HISTORY, "filter": wanted, "deny": lists}
            response = client.post("/recommend", content=json.dumps(body), headers=JSON)
            assert response.status_code in (200, 422), response.text
            assert response.status_code == 200 or response.json()["error"]

        ask()


JSON = {"Content-Type": "application/json"}

"""Requests that nobody would write: whatever comes, no status from 500 on, and the service goes on."""

import json

import pytest

pytest.importorskip("fastapi", reason="the extra `service` is not installed")
pytest.importorskip("schemathesis", reason="schemathesis is not installed")

import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from export.service.app import create_app
from export.service.options import Options
from export.service.service import Service
from tests.export.service.shop import IDS

LARGEST = 20_000


def asked(examples):
    """So many requests, the same every time: a failure must come again. No deadline: machines are busy."""
    return settings(
        max_examples=examples, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )


many = pytest.mark.parametrize("examples", [15, pytest.param(1000, marks=pytest.mark.long)])


@pytest.fixture(scope="module")
def app(published):
    service = Service(Options(bundle=published[0], max_body_bytes=LARGEST, timeout_ms=60_000))
    close = service.close
    service.close = lambda: None  # the generator's client ends the application after every request
    yield create_app(service, log_requests=False)
    close()


@pytest.fixture(scope="module")
def client(app):
    return TestClient(app, raise_server_exceptions=False)


def assert_answered_or_refused(response, *, may_be_late=False):
    """An answer or a refusal in plain words; too late only where the request itself asked for haste."""
    assert response.status_code < 500 or (may_be_late and response.status_code == 504), response.text
    if response.status_code >= 400:
        assert response.json()["error"]


WITH_INPUT = [
    ("POST", "/recommend"),
    ("POST", "/recommend/batch"),
    ("POST", "/similar"),
    ("POST", "/explain"),
    ("GET", "/items"),
    ("GET", "/item"),
]
OPERATIONS = [
    *WITH_INPUT,
    ("GET", "/model_card"),
    ("GET", "/examples"),
    ("GET", "/columns"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
]


def test_the_operations_are_all_that_the_description_has(client):
    paths = client.get("/openapi.json").json()["paths"]
    assert {(method.upper(), path) for path, of in paths.items() for method in of} == set(OPERATIONS)


@many
@pytest.mark.parametrize(
    ("method", "path", "mode"),
    [(*one, GenerationMode.POSITIVE) for one in OPERATIONS]
    + [(*one, GenerationMode.NEGATIVE) for one in WITH_INPUT],
)
def test_by_the_description_and_against_it(app, client, method, path, mode, examples):
    operation = schemathesis.openapi.from_asgi("/openapi.json", app)[path][method]
    strategy = operation.as_strategy(generation_mode=mode)

    @asked(examples)
    @given(case=strategy)
    def ask(case):
        response = case.call()
        late = isinstance(case.body, dict) and "timeout_ms" in case.body
        assert response.status_code < 500 or (late and response.status_code == 504), response.text
        if response.status_code >= 400:
            assert json.loads(response.content)["error"]

    ask()


TEXT = st.text(st.characters(codec=None, categories=None), max_size=20)
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.sampled_from([*IDS, 10**400, -0.0])
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)
FIELDS = st.sampled_from(["history", "histories", "items", "k", "exclude_seen", "timeout_ms", "kk", "\ud800"])


@many
@pytest.mark.parametrize("path", ["/recommend", "/recommend/batch", "/similar", "/explain"])
def test_json_of_every_kind_whole_and_cut_off(client, path, examples):
    @asked(examples)
    @given(body=JSON | st.dictionaries(FIELDS, JSON, max_size=5), cut=st.integers(0, 40), data=st.data())
    def ask(body, cut, data):
        text = json.dumps(body).encode()
        if data.draw(st.booleans()):
            text = text[: max(0, len(text) - cut)]
        response = client.post(path, content=text, headers={"Content-Type": "application/json"})
        late = isinstance(body, dict) and "timeout_ms" in body
        assert_answered_or_refused(response, may_be_late=late)

    ask()


@many
@pytest.mark.parametrize("path", ["/recommend", "/similar", "/explain"])
def test_bytes_of_every_kind(client, path, examples):
    json_in_16 = "application/json; charset=utf-16"
    kinds = ["application/json", "text/plain", "multipart/form-data", json_in_16, "", "/"]

    @asked(examples)
    @given(content=st.binary(max_size=200), kind=st.sampled_from(kinds))
    def ask(content, kind):
        response = client.post(path, content=content, headers={"Content-Type": kind})
        assert_answered_or_refused(response)

    ask()


HISTORIES_OF_STRANGERS = ['"\\ud800"', '"\\udfff x"', '"\\u0000"', "9" * 4000, '"' + "x" * 10_000 + '"']


@pytest.mark.parametrize("item", HISTORIES_OF_STRANGERS)
@pytest.mark.parametrize("path", ["/recommend", "/explain"])
def test_an_item_that_cannot_be_written_back_as_it_came_is_unknown_and_no_failure(client, path, item):
    content = f'{{"history": [{item}], "k": 3}}'
    response = client.post(path, content=content, headers={"Content-Type": "application/json"})
    assert response.status_code == 200, response.text
    answer = response.json()
    assert answer["fallback"] and len(answer["items"]) == 3


@pytest.mark.parametrize(
    "content",
    [
        '{"history": [], "\\ud800": 1}',
        '{"history": {"\\ud800": 1}}',
        '{"history": [], "k": "\\ud800"}',
        "[" * 9_000,
        '{"history": ' + "[" * 9_000 + "]" * 9_000 + "}",
        '{"history": [], "k": ' + "9" * 9_000 + "}",
        '{"history": [], "k": 1e999}',
        '{"history": [], "k": -Infinity}',
        '{"history": [1e400]}',
    ],
)
def test_what_is_refused_is_told_even_where_it_cannot_be_repeated(client, content):
    response = client.post("/recommend", content=content, headers={"Content-Type": "application/json"})
    assert 400 <= response.status_code < 500, response.text
    assert response.json()["error"]

"""Features over HTTP: what a client may send, what is refused, and what the interface says of it."""

import shutil

import pytest

pytest.importorskip("fastapi", reason="the extra `service` is not installed")

from tests.export.featured import IDS, best, vector
from tests.export.model_server import ModelServer, over_grpc
from tests.export.service.test_filters import write_attributes
from tests.export.service.test_http import serving
from tests.export.test_featured_retriever import ROWS, TWIN_ROWS, USER

ASKED = {"history": ROWS, "user": USER, "context": {"device": "watch"}, "time": 1003, "k": 6}
WANTED = best(vector(TWIN_ROWS, USER, {"device": "watch"}, 1003), 6, (IDS[3], IDS[8]))


@pytest.fixture(name="bundle", scope="module")
def fixture_bundle(featured_bundle, tmp_path_factory):
    bundle = tmp_path_factory.mktemp("featured") / "b"
    shutil.copytree(featured_bundle, bundle)
    write_attributes(bundle, 1)
    return bundle


@pytest.fixture(name="client", scope="module")
def fixture_client(bundle):
    options = {"max_diversity": 2.0, "min_category_cap": 2, "category_column": "brand"}
    with serving(bundle, **options) as (client, _):
        yield client


def test_a_request_is_answered_by_what_it_gives(client):
    answer = client.post("/recommend", json=ASKED).json()
    assert (answer["items"], answer["num_unknown"], answer["num_unknown_values"]) == (WANTED, 1, 1)
    assert "causerec_unknown_values_total 1.0" in client.get("/metrics").text
    explained = client.post("/explain", json=ASKED).json()
    assert [one["id"] for one in explained["items"]] == WANTED
    assert [one["id"] for one in explained["history"]] == [IDS[3], "never seen", IDS[8]]
    assert explained["num_unknown_values"] == 1
    nobody = client.post("/recommend", json={"history": [], "user": {"country": "日本"}, "k": 3}).json()
    assert (nobody["items"], nobody["fallback"]) == (best(vector([], {"country": "日本"}), 3), False)


def test_many_are_asked_together(client):
    body = {"histories": [ROWS, [], []], "users": [USER, {"country": "日本"}, None], "k": 6}
    body |= {"contexts": [{"device": "watch"}, None, None], "times": [1003, None, 5]}
    answers = client.post("/recommend/batch", json=body).json()["answers"]
    assert [one["items"] for one in answers] == [WANTED, best(vector([], {"country": "日本"}), 6), IDS[:6]]
    assert [one["fallback"] for one in answers] == [False, False, True]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"user": {"colour": 1}}, "user has 'colour', which the tower does not read; wanted: 'country'"),
        ({"user": {"age": "old"}}, "user.age: got 'old'; it is numeric"),
        ({"user": ["nl"]}, "user: got ['nl']; input should be a valid dictionary"),
        ({"context": {"country": "nl"}}, "context has 'country'"),
        ({"time": "noon"}, "time: got 'noon'"),
        ({"history": [{"rating": 2}]}, "history: item 0 is {'rating': 2}; wanted its id"),
        ({"history": [{"id": "a", "colour": 2}]}, "history has 'colour'"),
        ({"history": [{"id": "a", "rating": [2]}]}, "history.rating: got [2]"),
        ({"diversity": 2.5}, "diversity is 2.5; wanted 0 to 2"),
        ({"category_cap": 1}, "category_cap is 1; wanted 2 or more"),
    ],
)
def test_a_mistake_is_refused_in_words(client, body, message):
    for path in ("/recommend", "/explain"):
        response = client.post(path, json={"history": [], "k": 2} | body)
        assert response.status_code == 422, response.text
        assert message in response.json()["error"]


def test_lists_of_features_have_one_for_each_history(client):
    response = client.post("/recommend/batch", json={"histories": [[], []], "users": [None]})
    assert response.status_code == 422
    assert "users has 1 of them; wanted one for each history" in response.json()["error"]


def test_a_mistake_of_one_does_not_cost_the_others(client, bundle):
    from concurrent.futures import ThreadPoolExecutor

    bad = {"history": [], "user": {"colour": 1}}
    with ThreadPoolExecutor(8) as pool:
        responses = list(
            pool.map(lambda n: client.post("/recommend", json=ASKED if n % 2 else bad), range(24))
        )
    assert [one.status_code for one in responses] == [422, 200] * 12
    assert {tuple(one.json()["items"]) for one in responses[1::2]} == {tuple(WANTED)}


def test_a_request_may_ask_for_variety_within_limits(client):
    wide = best(vector([IDS[0]]), 20, (IDS[0],))
    answer = client.post("/recommend", json={"history": [IDS[0]], "k": 4, "category_cap": 2}).json()
    taken: list = []
    for item in wide:  # the brand of the items goes by turns
        if sum(IDS.index(one) % 2 == IDS.index(item) % 2 for one in taken) < 2:
            taken.append(item)
    assert (answer["items"], answer["steps"]["category_cap"]) == (taken[:4], 2)
    assert (
        "diversity"
        in client.post("/explain", json={"history": [IDS[0]], "k": 4, "diversity": 0.5}).json()["steps"]
    )
    plain = client.post("/recommend", json={"history": [IDS[0]], "k": 4}).json()
    assert (plain["items"], "steps" in plain) == (wide[:4], False)


def test_the_interface_tells_the_columns_of_the_version(client):
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    request = schemas["LimitedRequest"]["properties"]
    assert request["user"]["properties"]["country"] == {"type": "string", "examples": ["nl", "de", "日本"]}
    assert request["user"]["properties"]["taste"]["maxItems"] == 2
    assert list(request["context"]["properties"]) == ["device"]
    rows = request["history"]["items"]["anyOf"][1]
    assert (list(rows["properties"]), rows["required"]) == (["id", "kind", "rating", "time"], ["id"])
    many = schemas["LimitedBatchRequest"]["properties"]
    assert list(many["users"]["items"]["anyOf"][0]["properties"]) == list(request["user"]["properties"])
    columns = client.get("/columns").json()
    assert columns[1] == {
        **{"name": "tags", "asked_as": "user", "kind": "multi", "separator": ";"},
        "values": ["new", "vip", "b2b"],
    }
    assert {one["asked_as"] for one in columns} == {"user", "context", "history"}


def test_an_item_is_shown_with_its_attributes(client):
    shown = client.get("/item", params={"id": IDS[3]}).json()
    assert shown == {"id": IDS[3], "name": IDS[3], "known": True, "attributes": {"price": 3.0, "brand": "b"}}
    assert client.get("/item", params={"id": "no such"}).json()["attributes"] == {}


def test_a_tower_on_a_server_is_given_the_same(bundle):
    with (
        over_grpc(ModelServer(bundle / "user_tower" / "1")) as address,
        serving(bundle, tower_address=address) as (client, _),
    ):
        answer = client.post("/recommend", json=ASKED).json()
    assert (answer["items"], answer["num_unknown_values"]) == (WANTED, 1)

"""POST /similar, as a client sees it."""

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the extra `service` is not installed")

from tests.export.service.shop import IDS
from tests.export.service.test_http import serving


@pytest.fixture(scope="module")
def client(published):
    with serving(published[0], max_k=30, max_batch=3) as (client, _):
        yield client


def wanted(version, item, k):
    units = version.table[1:] / np.linalg.norm(version.table[1:], axis=1, keepdims=True)
    cosines = units @ units[version.ids.index(item)]
    order = [row for row in np.argsort(-cosines) if version.ids[row] != item][:k]
    return [(version.ids[row], float(cosines[row])) for row in order]


def test_the_nearest_items_in_names(client, versions, published):
    response = client.post("/similar", json={"items": [IDS[3], 0, "never seen"], "k": 4})
    assert response.status_code == 200
    body = response.json()
    assert body["version"] == published[2][0]
    for answer, item in zip(body["answers"], [IDS[3], "0"], strict=False):
        assert answer["item"] == {"id": item, "name": f"Name of {item}", "known": True}
        assert not answer["unknown"]
        expected = wanted(versions[0], item, 4)
        assert [(one["id"], one["name"]) for one in answer["items"]] == [
            (o, f"Name of {o}") for o, _ in expected
        ]
        np.testing.assert_allclose(
            [one["score"] for one in answer["items"]], [s for _, s in expected], atol=1e-5
        )
    last = body["answers"][2]
    assert (last["unknown"], last["items"], last["item"]["known"]) == (True, [], False)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "items: missing"),
        ({"items": []}, "items: 0 items (--max_batch); wanted 1 to 3"),
        ({"items": ["a"] * 4}, "items: 4 items (--max_batch); wanted 1 to 3"),
        ({"items": "a"}, "items: wanted a list of item ids"),
        ({"items": [None]}, "items: item 0 is None"),
        ({"items": ["a"], "k": 31}, "k: got 31; wanted 1 to 30"),
        ({"items": ["a"], "exclude_seen": False}, "exclude_seen: got False"),
    ],
)
def test_what_is_malformed_is_refused(client, body, message):
    response = client.post("/similar", json=body)
    assert response.status_code == 422
    assert message in response.json()["error"]


def test_half_a_surrogate_pair_is_an_unknown_item(client):
    response = client.post(
        "/similar", content='{"items": ["\\ud800"]}', headers={"Content-Type": "application/json"}
    )
    assert response.status_code == 200
    assert response.json()["answers"][0]["unknown"]

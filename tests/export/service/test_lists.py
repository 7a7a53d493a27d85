"""Lists that vary, over HTTP: off by default, and told where they are on."""

import pytest

pytest.importorskip("fastapi", reason="the extra `service` is not installed")

from export.store.bundle_errors import BundleError
from tests.export.service.shop import IDS
from tests.export.service.test_http import serving

HISTORY = [IDS[3], IDS[40]]


def by_id(histories, items, scores):
    """Whatever the scores, the items by their ids."""
    return [[float(sorted(one).index(item)) for item in one] for one in items]


def test_without_options_an_answer_says_nothing_of_steps(published):
    with serving(published[0]) as (client, _):
        answer = client.post("/recommend", json={"history": HISTORY, "k": 5, "seed": 3}).json()
        assert sorted(answer) == ["fallback", "items", "num_unknown", "plan", "scores", "version"]
        explained = client.post("/explain", json={"history": HISTORY, "k": 5}).json()
        assert explained["steps"] is None
        for seed in (-1, 2**63, 1.5, "1"):
            assert client.post("/recommend", json={"history": [], "seed": seed}).status_code == 422


def test_variety_a_reranker_and_exploration_are_told(published, versions, tmp_path):
    (tmp_path / "c.csv").write_text("".join(f'"{item}",c{n % 3}\n' for n, item in enumerate(IDS)))
    options = {"item_categories": str(tmp_path / "c.csv"), "category_cap": 1, "reranker_ms": 300_000}
    with serving(published[0], **options, reranker=f"{__name__}:by_id") as (client, _):
        answer = client.post("/recommend", json={"history": HISTORY, "k": 3, "timeout_ms": 60_000}).json()
        wide = sorted(versions[0].items(HISTORY, 15), reverse=True)
        wanted: dict = {}
        for item in wide:
            wanted.setdefault(IDS.index(item) % 3, item)
        assert answer["items"] == list(wanted.values())
        assert answer["steps"] == {"candidates": 15, "reranker": "used", "category_cap": 1}
        explained = client.post("/explain", json={"history": HISTORY, "k": 3}).json()
        assert [one["id"] for one in explained["items"]] == answer["items"]
        assert explained["steps"]["category_cap"] == 1
        assert {one["id"] for one in explained["influences"]} == set(HISTORY)
        assert 'causerec_reranked_total{outcome="used"} 1.0' in client.get("/metrics").text
    with serving(published[0], explore=0.4) as (client, _):
        body = {"history": HISTORY, "k": 5, "seed": 7}
        first, again = (client.post("/recommend", json=body).json() for _ in range(2))
        assert first == again and first["steps"]["seed"] == 7
        assert len(first["steps"]["explored"]) == 2
        assert set(first["steps"]["explored"]) <= set(first["items"]) & set(IDS[15:])
        others = {
            tuple(client.post("/recommend", json=body | {"seed": seed}).json()["items"]) for seed in range(20)
        }
        assert len(others) > 5
        batch = client.post("/recommend/batch", json={"histories": [HISTORY, []], "k": 5, "seed": 7})
        assert batch.json()["answers"][0]["items"] == first["items"]


def test_options_that_do_not_go_together_are_refused(published):
    for options, message in [
        ({"diversity": 0.5}, "item_categories or category_column, need each"),
        ({"explore": 2.0}, "explore is 2"),
        ({"relevance": 2.0}, "relevance is 2"),
        ({"reranker": "nothing"}, "wanted module:function"),
    ]:
        with pytest.raises(BundleError, match=message), serving(published[0], **options):
            pass

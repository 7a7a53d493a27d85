"""What the service tells of its traffic, beside twins that keep every history."""

import json
import math
import shutil

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the extra `service` is not installed")

from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry

from export.index.catalogue import Catalogue
from export.index.item_index import ItemIndex
from export.query import Query
from export.service.app import create_app
from export.service.options import Options
from export.service.service import Service
from export.service.traffic import Traffic
from export.towers.answers import Recommendation
from tests.export.service.shop import IDS, NUM_ITEMS, Version
from tests.export.service.waiting import until

ITEMS = [f"i{number}" for number in range(1_000)]
SHARES = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0]


def catalogue(version="v", num_items=1_000):
    description = {"fingerprint": version, "items": num_items, "dimension": 2}
    return Catalogue(ItemIndex(None, description), ITEMS[:num_items])


def part_of(item):
    return next(part for part, share in enumerate(SHARES) if int(item[1:]) < math.ceil(share * len(ITEMS)))


def divergence(p, q):
    def entropy(one):
        return -sum(x * math.log2(x) for x in one if x > 0)

    mean = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
    return entropy(mean) - (entropy(p) + entropy(q)) / 2


def traffic_of(rng, count):
    """Histories with unknown items among them, and answers."""
    histories = [
        [f"i{item}" for item in (1_100 * rng.random(rng.integers(0, 9)) ** 2).astype(int)]
        for _ in range(count)
    ]
    lists = [[ITEMS[row] for row in rng.choice(1_000, 5, replace=False)] for _ in range(count)]
    return [Query(one, 5) for one in histories], [
        Recommendation(items, [0.0] * 5, 0, False, "v") for items in lists
    ]


def test_window_coverage_and_drift_are_those_of_the_last_histories():
    registry = CollectorRegistry()
    traffic = Traffic(registry, window=100)
    training = {"popularity": [1 / 8] * 8, "lengths": [0.1] * 10}
    traffic.follow(catalogue(), 6, training)
    assert math.isnan(registry.get_sample_value("causerec_answered_coverage"))
    rng = np.random.default_rng(0)
    kept: list = []
    for size in [30, 30, 7, 40, 3, 60, 1, 20]:
        queries, answers = traffic_of(rng, size)
        traffic.observe(queries, answers)
        kept.append((queries, answers))
        # Twin of the halves: a half is full with the batch that brings it to 50.
        halves, filling = [], []
        for batch in kept:
            filling.append(batch)
            if sum(len(one) for one, _ in filling) >= 50:
                halves.append(filling)
                filling = []
        window = [*(halves[-1] if halves else []), *filling]
        queries = [query for one, _ in window for query in one]
        answered = {item for _, one in window for answer in one for item in answer.items}
        value = registry.get_sample_value
        assert value("causerec_window_histories") == len(queries)
        assert value("causerec_answered_coverage") == pytest.approx(len(answered) / 1_000)
        read = [[item for item in query.history[-6:] if int(item[1:]) < 1_000] for query in queries]
        parts = [part_of(item) for one in read for item in one]
        shares = [parts.count(part) / len(parts) for part in range(8)]
        wanted = divergence(shares, training["popularity"])
        assert value("causerec_history_drift", {"of": "popularity"}) == pytest.approx(wanted)
        lengths = [0 if not one else 1 + int(math.log2(len(one))) for one in read]
        wanted = divergence([lengths.count(n) / len(read) for n in range(10)], training["lengths"])
        assert value("causerec_history_drift", {"of": "lengths"}) == pytest.approx(wanted)
    items = [item for _, answers in kept for answer in answers for item in answer.items]
    for part, name in enumerate(["0.001", "0.003", "0.01", "0.03", "0.1", "0.3", "1"]):
        counted = registry.get_sample_value("causerec_answered_items_total", {"popularity": name})
        assert counted == sum(part_of(item) == part for item in items)


def test_another_version_begins_anew_and_answers_of_others_do_not_count():
    registry = CollectorRegistry()
    traffic = Traffic(registry, window=100)
    rng = np.random.default_rng(0)
    traffic.observe(*traffic_of(rng, 3))  # before any version is followed
    traffic.follow(catalogue(), 6, None)
    traffic.observe(*traffic_of(rng, 3))
    assert traffic.histories() == 3
    assert math.isnan(traffic.drift("popularity")) and math.isnan(traffic.drift("lengths"))
    traffic.follow(catalogue("w", 40), 6, {"popularity": [1.0], "lengths": [0.1] * 10})
    assert traffic.histories() == 0
    traffic.observe(*traffic_of(rng, 3))
    assert traffic.histories() == 0
    answer = Recommendation(["i1", "i2"], [0.0] * 2, 0, False, "w")
    traffic.observe([Query(["i5"], 2)], [answer])
    assert traffic.coverage() == 2 / 40
    assert math.isnan(traffic.drift("popularity"))  # a card with other parts
    assert traffic.drift("lengths") > 0


def test_the_number_of_series_does_not_grow_with_what_clients_send():
    registry = CollectorRegistry()
    traffic = Traffic(registry, window=10)
    traffic.follow(catalogue(), 6, None)

    def series():
        return sum(len(metric.samples) for metric in registry.collect())

    before = series()
    rng = np.random.default_rng(0)
    for _ in range(50):
        traffic.observe(*traffic_of(rng, 7))
    assert series() == before < 40


@pytest.fixture(scope="module")
def carded(tmp_path_factory):
    """A bundle with a model card."""
    bundle = tmp_path_factory.mktemp("carded") / "b"
    histories = {"histories": 9, "popularity": [0.0] * 7 + [1.0], "lengths": [1.0] + [0.0] * 9}
    Version(1).publish(bundle, card={"system": "base", "figures": [], "histories": histories})
    return bundle


def value_of(client, name):
    lines = [one for one in client.get("/metrics").text.splitlines() if one.startswith(name)]
    assert len(lines) == 1, (name, lines)
    return float(lines[0].rpartition(" ")[2])


def test_the_service_counts_what_it_answers_and_not_its_own_probes(carded, tmp_path):
    shutil.copytree(carded, tmp_path / "b")
    service = Service(Options(tmp_path / "b", poll_seconds=0.05, timeout_ms=60_000))
    with TestClient(create_app(service)) as client:
        client.get("/readyz")
        assert value_of(client, "causerec_window_histories ") == 0
        client.post("/recommend", json={"history": [IDS[0], "no such"], "k": 5})
        client.post("/recommend", json={"history": [IDS[1]], "k": 100, "exclude_seen": True})
        client.get("/readyz")
        assert value_of(client, "causerec_window_histories ") == 2
        coverage = value_of(client, "causerec_answered_coverage ")
        assert coverage in (1 - 1 / NUM_ITEMS, 1.0)  # the first answer may have what the second leaves out
        assert value_of(client, "causerec_history_items_total ") == 3
        assert value_of(client, "causerec_unknown_items_total ") == 1
        assert value_of(client, "causerec_short_answers_total ") == 1
        # Of the card's histories all are empty; of these none.
        assert value_of(client, 'causerec_history_drift{of="lengths"}') == pytest.approx(1.0)
        assert client.get("/model_card").json()["system"] == "base"
        # A newer version without a card.
        Version(2).publish(tmp_path / "b")
        until(lambda: value_of(client, "causerec_published_number ") == 2)
        until(lambda: client.get("/model_card").status_code == 404)
        assert math.isnan(value_of(client, 'causerec_history_drift{of="lengths"}'))
        assert "no model card" in json.dumps(client.get("/model_card").json())

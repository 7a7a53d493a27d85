"""Figures under disturbance, against sets and loops."""

import numpy as np
import pytest

from causerec_tf import disturbances, evaluation, robustness
from causerec_tf.data.holdout import EvaluationUsers, last_items
from causerec_tf.data.ragged import ItemLists
from causerec_tf.errors import InputError
from causerec_tf.model import CauseRec
from causerec_tf.settings import Settings
from tests import reference

NUM_ITEMS = 200


def lists(rows):
    items = np.concatenate([np.asarray(row, np.int32) for row in rows])
    return ItemLists(items, np.cumsum([0, *map(len, rows)]))


def some_users(max_history):
    rng = np.random.default_rng(5)
    seen = lists([rng.integers(1, NUM_ITEMS + 1, size=rng.integers(3, 25)) for _ in range(30)])
    targets = lists([rng.permutation(NUM_ITEMS)[:6] + 1 for _ in range(30)])
    ids = np.array([f"u{number}" for number in range(30)], object)
    return EvaluationUsers(ids, last_items(seen, max_history), seen, targets)


def test_conditions_equal_the_definitions_and_every_system_meets_the_same_clicks():
    model = CauseRec(Settings(embedding_dim=8, max_history=6), NUM_ITEMS)
    users = some_users(6)
    frequencies = np.arange(NUM_ITEMS)[::-1]
    got = robustness.measure(model, users, frequencies, rates=(0.4,), num_draws=2, seed=9)
    other = CauseRec(Settings(embedding_dim=4, max_history=3, seed=1), NUM_ITEMS)
    beside = robustness.measure(other, some_users(3), frequencies, rates=(0.4,), num_draws=2, seed=9)
    assert got.digest == beside.digest and got.attacked == beside.attacked
    assert [one.kind for one in got.conditions] == [
        "insertion",
        "replacement",
        "removal",
        "popular",
        *["attack"] * 4,
    ]

    band, condition = "10 to 50 %", got.conditions[6]
    assert condition.band == band
    clean = evaluation.rank_users(model, users, 50, exclude_seen=False)
    recalls, exposures, gains = ([[] for _ in range(30)] for _ in range(3))
    for draw, item in enumerate(got.attacked[band]):
        pushed = disturbances.insert(users.seen, disturbances.attack(users, item, seed=9, draw=draw), 0.4)
        for user in range(30):
            cut = slice(users.seen.row_splits[user], users.seen.row_splits[user + 1])
            cut_targets = slice(*users.targets.row_splits[user : user + 2])
            targets = users.targets.items[cut_targets].tolist()
            if item in [*users.seen.items[cut].tolist(), *targets]:
                continue
            history = pushed.items[pushed.row_splits[user] : pushed.row_splits[user + 1]][-6:]
            vector = model.encode(np.array([[*history, *[0] * (6 - len(history))]], np.int32)).numpy()
            ranked = reference.top_k(vector, model.item_embeddings()[1:], 50, None)[0]
            recalls[user].append(len(set(ranked) & set(targets)) / len(targets))
            exposures[user].append(item in ranked)
            gains[user].append(float(item in ranked) - float(item in clean[user]))
    for name, want in (("recall@50", recalls), ("exposure@50", exposures)):
        means = [np.mean(one) if one else np.nan for one in want]
        assert condition.values[name] == pytest.approx(means, nan_ok=True)
    means = [np.mean(one) if one else np.nan for one in gains]
    assert condition.change["exposure@50"] == pytest.approx(means, nan_ok=True)

    record = got.record(beside)["conditions"][0]
    difference = got.conditions[0].change["recall@50"] - beside.conditions[0].change["recall@50"]
    assert record["change_minus_first"]["recall@50"]["mean"] == pytest.approx(difference.mean())
    error = difference.std(ddof=1) / np.sqrt(30)
    assert record["change_minus_first"]["recall@50"]["standard_error"] == pytest.approx(error)
    with pytest.raises(ValueError, match="met other clicks"):
        got.record(robustness.measure(model, users, frequencies, rates=(0.4,), num_draws=2, seed=8))


@pytest.mark.parametrize("rates", [(), (0.0,), (0.1, 1.2), (0.1, 0.1)])
def test_rates_that_cannot_be(rates):
    with pytest.raises(InputError, match="wanted different ones above 0"):
        robustness.measure(None, some_users(3), np.ones(NUM_ITEMS), rates=rates)

"""Figures under disturbance, against sets and loops."""

import functools

import numpy as np
import pytest

from causerec_tf import evaluation
from causerec_tf.data.holdout import EvaluationUsers, last_items
from causerec_tf.data.ragged import ItemLists
from causerec_tf.errors import InputError
from causerec_tf.recipes import compose
from causerec_tf.settings import Settings
from causerec_tf.studies import disturbances, under_disturbance
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
    model = compose(Settings(embedding_dim=8, max_history=6), NUM_ITEMS)
    users = some_users(6)
    frequencies = np.arange(NUM_ITEMS)[::-1]
    got = under_disturbance.measure(model, users, frequencies, rates=(0.4,), num_draws=2, seed=9)
    other = compose(Settings(embedding_dim=4, max_history=3, seed=1), NUM_ITEMS)
    beside = under_disturbance.measure(other, some_users(3), frequencies, rates=(0.4,), num_draws=2, seed=9)
    assert got.digest == beside.digest and got.attacked == beside.attacked
    assert [one.kind for one in got.conditions] == [
        "insertion",
        "replacement",
        "removal",
        "popular",
        *["attack"] * 4,
    ]

    def ranked(histories, user):
        history = histories.items[histories.row_splits[user] : histories.row_splits[user + 1]][-6:]
        vector = model.encode(np.array([[*history, *[0] * (6 - len(history))]], np.int32)).numpy()
        return reference.top_k(vector, model.item_embeddings()[1:], 50, None)[0]

    clean = evaluation.rank_users(model, users, 50, exclude_seen=False)
    foreign = {"num_items": NUM_ITEMS, "seed": 9}
    for condition, clicks, disturb in (
        (
            got.conditions[0],
            functools.partial(disturbances.random_insertions, **foreign),
            disturbances.insert,
        ),
        (got.conditions[1], functools.partial(disturbances.replacements, **foreign), disturbances.replace),
        (got.conditions[2], functools.partial(disturbances.replacements, **foreign), disturbances.remove),
        (
            got.conditions[3],
            functools.partial(disturbances.popular_insertions, frequencies=frequencies, seed=9),
            disturbances.insert,
        ),
    ):
        recalls, overlaps = np.zeros(30), np.zeros(30)
        for draw in (0, 1):
            histories = disturb(users.seen, clicks(users, draw=draw), 0.4)
            for user in range(30):
                best = set(ranked(histories, user))
                targets = set(users.targets.items[slice(*users.targets.row_splits[user : user + 2])].tolist())
                recalls[user] += len(best & targets) / len(targets) / 2
                overlaps[user] += len(best & set(clean[user])) / 50 / 2
        np.testing.assert_allclose(condition.values["recall@50"], recalls, atol=1e-6)
        np.testing.assert_allclose(condition.values["overlap@50"], overlaps, atol=1e-6)
        assert (overlaps < 1).any()

    band, condition = "10 to 50 %", got.conditions[6]
    assert condition.band == band
    recalls, exposures, gains = ([[] for _ in range(30)] for _ in range(3))
    for draw, item in enumerate(got.attacked[band]):
        pushed = disturbances.insert(users.seen, disturbances.attack(users, item, seed=9, draw=draw), 0.4)
        for user in range(30):
            cut = slice(users.seen.row_splits[user], users.seen.row_splits[user + 1])
            cut_targets = slice(*users.targets.row_splits[user : user + 2])
            targets = users.targets.items[cut_targets].tolist()
            if item in [*users.seen.items[cut].tolist(), *targets]:
                continue
            best = ranked(pushed, user)
            recalls[user].append(len(set(best) & set(targets)) / len(targets))
            exposures[user].append(item in best)
            gains[user].append(float(item in best) - float(item in clean[user]))
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
        got.record(under_disturbance.measure(model, users, frequencies, rates=(0.4,), num_draws=2, seed=8))
    with pytest.raises(ValueError, match="other conditions"):
        got.record(under_disturbance.measure(model, users, frequencies, rates=(0.3,), num_draws=2, seed=9))


@pytest.mark.parametrize("rates", [(), (0.0,), (0.1, 1.2), (0.1, 0.1)])
def test_rates_that_cannot_be(rates):
    with pytest.raises(InputError, match="wanted different ones above 0"):
        under_disturbance.measure(None, some_users(3), np.ones(NUM_ITEMS), rates=rates, num_draws=1, seed=0)

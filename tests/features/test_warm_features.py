"""A warm start with features: values follow the vocabulary, vectors the items, new items their features."""

import dataclasses

import numpy as np
import polars as pl
import pytest

import causerec_tf as cr
from causerec_tf import runs, training, warm_features, warm_start
from causerec_tf.feature_recipes import features_of
from causerec_tf.recipes import compose
from causerec_tf.schema import FittedColumn, schema_of
from causerec_tf.settings import Settings

TINY = Settings(embedding_dim=8, batch_size=64, sampler="full", epochs=1, max_history=5, id_dropout=0.1)
SCHEMA = [
    {"name": "colour", "owner": "item", "kind": "categorical"},
    {"name": "price", "owner": "item", "kind": "numeric"},
    {"name": "country", "owner": "user", "kind": "categorical"},
]


def test_values_follow_the_vocabulary(tmp_path):
    (column,) = schema_of(SCHEMA[:1]).columns
    for name, values in (("then", ["red", "blue", "gone"]), ("now", ["new", "blue", "red"])):
        (tmp_path / name).write_text("".join(value + "\n" for value in values), encoding="utf-8")
    then = FittedColumn(column, num_values=3, vocabulary=tmp_path / "then")
    now = FittedColumn(column, num_values=3, vocabulary=tmp_path / "now")
    weights, initial = np.arange(10.0).reshape(5, 2), -np.ones([5, 2])
    (table,) = warm_features.carried(then, now, [weights], [initial])
    # missing, unknown, new, blue, red
    np.testing.assert_array_equal(table, [weights[0], weights[1], initial[2], weights[3], weights[2]])


def test_a_number_says_what_it_said_but_for_what_all_have():
    (column,) = schema_of(SCHEMA[1:2]).columns
    then, now = FittedColumn(column, mean=2.0, std=3.0), FittedColumn(column, mean=5.0, std=4.0)
    direction, missing = np.array([1.0, -2.0]), np.array([0.5, 0.0])
    new_direction, new_missing = warm_features.carried(
        then, now, [direction, missing], [np.zeros(2), np.zeros(2)]
    )
    moves = [
        (number - 5.0) / 4.0 * new_direction - (number - 2.0) / 3.0 * direction for number in (0.0, 2.0, 7.0)
    ]
    for move in [*moves, new_missing - missing]:
        np.testing.assert_allclose(move, moves[0])


def test_another_kind_or_size_starts_anew():
    (colour, price, _) = schema_of(SCHEMA).columns
    initial = [np.zeros([4, 2])]
    then, now = FittedColumn(price), FittedColumn(colour, num_values=2)
    assert warm_features.carried(then, now, [np.ones(2), np.ones(2)], initial) is initial
    (text,) = schema_of([{"name": "title", "owner": "item", "kind": "text", "size": 3}]).columns
    fitted = FittedColumn(text)
    assert warm_features.carried(fitted, fitted, [np.ones([9, 2])], initial) is initial


def write(directory, first_item, num_items, seed):
    rng = np.random.default_rng(seed)
    rows = [
        (f"u{user}", f"i{first_item + item}", time)
        for user in range(60)
        for time, item in enumerate(rng.integers(num_items, size=8))
    ]
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    numbers = range(60)
    items = pl.DataFrame(
        {
            "item_id": [f"i{number}" for number in numbers],
            "colour": [f"c{number % (4 + seed)}" for number in numbers],
            "price": [float(number) for number in numbers],
        }
    )
    users = pl.DataFrame({"user_id": [f"u{n}" for n in numbers], "country": [f"l{n % 3}" for n in numbers]})
    return cr.prepare(log, directory, num_shards=1, schema=SCHEMA, item_table=items, user_table=users)


@pytest.fixture(name="earlier", scope="module")
def fixture_earlier(tmp_path_factory):
    place = tmp_path_factory.mktemp("warm_features")
    datasets = write(place / "yesterday", 0, 20, 0), write(place / "today", 5, 25, 1)
    settings = dataclasses.replace(TINY, dataset=str(place / "yesterday"), run=str(place / "run"))
    run = runs.RunDirectory(place / "run")
    run.start(settings, datasets[0])
    model, _ = training.train(settings, datasets[0], run)
    return place, datasets, model


@pytest.mark.parametrize("features", ["all", "item/price", "none"])
def test_kept_items_keep_their_vectors_and_new_ones_begin_from_their_features(earlier, features):
    place, (yesterday, today), trained = earlier
    asked = {"dataset": str(place / "today"), "run": str(place / "new"), "warm_start": str(place / "run")}
    settings = dataclasses.replace(TINY, **asked, features=features, seed=3)
    start = warm_start.read(settings, today)
    # As if no training user had had one of the new items.
    start = dataclasses.replace(start, is_placed=np.zeros_like(start.is_placed))
    model = compose(settings, today.num_items, features_of(today))
    start.put_into(model)
    old, new = trained.item_vectors(), model.item_vectors()
    before, now = yesterday.item_ids(), today.item_ids()
    kept = [item for item in now if item in before]
    assert 10 < len(kept) < len(now)
    np.testing.assert_allclose(
        new[[now.index(item) for item in kept]],
        old[[before.index(item) for item in kept]],
        rtol=1e-4,
        atol=1e-5,
    )
    fresh = np.array([now.index(item) for item in now if item not in before])
    if features == "none":
        assert np.linalg.norm(new[fresh], axis=1).min() > 0.1
        assert (
            start.about["items"]["new_at_random"] == len(fresh) - start.about["items"]["new_from_histories"]
        )
        return
    values = {name: one[fresh + 1] for name, one in today.item_features().items()}
    np.testing.assert_allclose(new[fresh], model.item_tower.vectors_of_features(values), rtol=1e-5, atol=1e-6)
    assert "new_from_features" in start.about["items"] and "are new" in warm_start.describe(start.about)
    if features == "all":
        encoder, then = (one.feature_encoders()["item/colour"].get_weights()[0] for one in (model, trained))
        words = [
            (one.directory / "features/item.colour.txt").read_text().split() for one in (yesterday, today)
        ]
        for value in set(words[0]) & set(words[1]):
            np.testing.assert_array_equal(encoder[2 + words[1].index(value)], then[2 + words[0].index(value)])


@pytest.mark.long
def test_a_run_starts_from_one_without_features(tmp_path, earlier):
    place, (_, today), _ = earlier
    first = dataclasses.replace(
        TINY, dataset=str(place / "today"), run=str(tmp_path / "one"), features="none"
    )
    run = runs.RunDirectory(tmp_path / "one")
    run.start(first, today)
    plain, _ = training.train(first, today, run)
    settings = dataclasses.replace(first, features="all", run=str(tmp_path / "two"), warm_start=first.run)
    model = compose(settings, today.num_items, features_of(today))
    warm_start.read(settings, today).put_into(model)
    np.testing.assert_allclose(model.item_vectors(), plain.item_vectors(), rtol=1e-4, atol=1e-5)

"""Runs on datasets with a schema: trained, stopped, loaded, measured; items nobody has touched are found."""

import dataclasses

import numpy as np
import polars as pl
import pytest
import tensorflow as tf

import causerec_tf as cr
from causerec_tf import evaluation, measurement, runs, training
from causerec_tf.data.training_events import TrainingEvents
from causerec_tf.errors import InputError
from causerec_tf.train_run import train_run
from tests.trainings import FAST, OFTEN, Stop, StopAt, settings_of

NUM_GENRES, PER_GENRE = 6, 8
SCHEMA = [
    {"name": "genre", "owner": "item", "kind": "categorical"},
    {"name": "tags", "owner": "item", "kind": "multi"},
    {"name": "price", "owner": "item", "kind": "numeric"},
    {"name": "country", "owner": "user", "kind": "categorical"},
    {"name": "stars", "owner": "event", "kind": "numeric"},
    {"name": "gap", "owner": "event", "kind": "gap"},
    {"name": "device", "owner": "request", "kind": "categorical"},
    {"name": "hour", "owner": "request", "kind": "hour"},
]


@pytest.fixture(name="dataset", scope="module")
def fixture_dataset(tmp_path_factory):
    """Users stay within a genre; its last item is sold to nobody but users of validation and test."""
    folder = tmp_path_factory.mktemp("features")
    rng = np.random.default_rng(1)
    events = []
    for user in range(300):
        genre = user % NUM_GENRES
        known = user_split_of(user) == "train"
        items = (
            rng.permutation(PER_GENRE - 1)[:5]
            if known
            else [*rng.permutation(PER_GENRE - 1)[:4], PER_GENRE - 1]
        )
        for place, item in enumerate(items):
            events.append(
                {
                    "user_id": f"u{user}",
                    "item_id": f"g{genre}i{item}",
                    "timestamp": 1_400_000_000 + 3600 * place,
                    "stars": float(rng.integers(1, 6)),
                    "device": ["phone", "desk"][int(rng.integers(2))],
                }
            )
    items = pl.DataFrame(
        {
            "item_id": f"g{genre}i{item}",
            "genre": f"genre {genre}",
            "tags": [f"tag {genre}", "all"],
            "price": float(item % 3),
        }
        for genre in range(NUM_GENRES)
        for item in range(PER_GENRE)
    )
    users = pl.DataFrame({"user_id": f"u{user}", "country": f"c{user % NUM_GENRES}"} for user in range(300))
    return cr.prepare(
        pl.DataFrame(events),
        folder / "world",
        num_shards=2,
        schema=SCHEMA,
        item_table=items,
        user_table=users,
    )


def user_split_of(user):
    from causerec_tf.data.splits.user_split import SPLITS, place_users

    return SPLITS[place_users([f"u{user}"], 0, 1)[0][0]]


def trained(dataset, run, callbacks=(), **changes):
    settings = settings_of(run, dataset, **({"sampler": "uniform", "num_sampled": 32} | changes))
    directory = runs.RunDirectory(run)
    directory.start(settings, dataset)
    return training.train(settings, dataset, directory, callbacks=callbacks)


@pytest.mark.long
def test_items_that_nobody_had_are_found_by_their_features(tmp_path, dataset):
    assert dataset.num_items == NUM_GENRES * PER_GENRE
    assert dataset.num_trained_items == NUM_GENRES * (PER_GENRE - 1)
    cosine = {"tower": "youtube_dnn", "similarity": "cosine", "temperature": 0.1}
    fast = {"epochs": 8, "patience": 8, "learning_rate": 0.05, "batch_size": 64}
    model, _ = trained(dataset, tmp_path / "run", id_dropout=0.3, **cosine, **fast)
    users = measurement.users_of(dataset, "test", FAST.max_history)
    assert (users.targets.items > dataset.num_trained_items).all()
    (lists,) = evaluation.rank_by_policies(model, users, 2 * PER_GENRE, [False])
    # A third of the catalogue.
    assert evaluation.figures(lists, users, [2 * PER_GENRE])[f"recall@{2 * PER_GENRE}"] > 0.8
    without, _ = trained(dataset, tmp_path / "without", features="none")
    (lists,) = evaluation.rank_by_policies(without, users, PER_GENRE, [False])
    assert lists.max() <= dataset.num_trained_items


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"method": "item", "id_dropout": 0.3, "history_dropout": 0.1}, marks=pytest.mark.long),
        pytest.param(
            {"tower": "gru4rec", "training_rows": "sequences", "method": "item", "batch_size": 24},
            marks=pytest.mark.long,
        ),
    ],
)
def test_a_run_with_features_that_was_stopped_ends_as_one_that_was_not(tmp_path, dataset, changes):
    whole, progress = trained(dataset, tmp_path / "whole", **changes)
    for batches in (2, 5):
        with pytest.raises(Stop):
            trained(dataset, tmp_path / "stopped", [StopAt(batches)], **changes, **OFTEN)
    stopped, stopped_progress = trained(dataset, tmp_path / "stopped", **changes)
    for ours, theirs in zip(stopped.trainable_variables, whole.trainable_variables, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)
    for ours, theirs in zip(stopped_progress.epochs, progress.epochs, strict=True):
        assert ours.losses == pytest.approx(theirs.losses, rel=1e-5)


def test_a_run_is_loaded_with_its_features_and_measured_in_context(tmp_path, dataset):
    settings = settings_of(tmp_path / "run", dataset, epochs=1)
    record = train_run(settings, dataset)
    loaded = runs.load_trained(tmp_path / "run")
    users = measurement.users_of(loaded.dataset, "test", FAST.max_history)
    assert set(users.context) >= {"user/country", "event/stars", "request/device", "time", "request_time"}
    measured = measurement.measure(loaded.model, users, TrainingEvents(loaded.dataset))
    assert measured[False].model["recall@10"] == pytest.approx(record["test"]["recall@10"])
    vectors = evaluation.user_vectors(loaded.model, users.history, users.context)
    assert np.abs(vectors - evaluation.user_vectors(loaded.model, users.history)).max() > 1e-4
    one_by_one = [
        loaded.model.encode(
            tf.constant(users.history[place : place + 1]),
            {key: tf.constant(values[place : place + 1]) for key, values in users.context.items()},
        ).numpy()[0]
        for place in range(3)
    ]
    np.testing.assert_allclose(vectors[:3], one_by_one, rtol=1e-4, atol=1e-6)


def test_parameter_servers_are_refused(tmp_path, dataset):
    settings = settings_of(tmp_path / "run", dataset, strategy="parameter_server")
    with pytest.raises(InputError, match="does not train with features"):
        train_run(settings, dataset)


def test_what_has_no_columns_to_act_on_is_refused(tmp_path, dataset):
    settings = dataclasses.replace(
        settings_of(tmp_path / "run", dataset), features="user/country", id_dropout=0.5
    )
    with pytest.raises(InputError, match=r"--id_dropout=0\.5 has no effect"):
        train_run(settings, dataset)

"""A warm start: rows follow the ids, towers are the earlier run's, new items lie among their histories."""

import dataclasses

import numpy as np
import polars as pl
import pytest
import tensorflow as tf

from causerec_tf import new_items, records, runs, training, warm_start
from causerec_tf.errors import InputError
from causerec_tf.recipes import compose
from causerec_tf.settings import Settings
from tests.worlds import write_events

TINY = Settings(embedding_dim=8, batch_size=64, sampler="full", epochs=1, max_history=5, checkpoint_steps=2)
NEW = "item-new"


def write(directory, sequences, split_seed=0):
    rows = [
        (f"user-{user}", item, time)
        for user, items in enumerate(sequences)
        for time, item in enumerate(items)
    ]
    events = pl.DataFrame(rows, schema=["user", "item", "time"], orient="row")
    return write_events(events, directory, split_seed=split_seed)


def worlds(num_items):
    """Sequences of 60 users; today item-0 is gone, the order of frequency turned round, one is new."""
    rng = np.random.default_rng(0)
    falling = np.arange(num_items, 0, -1) / np.arange(num_items, 0, -1).sum()
    yesterday = [[f"item-{i}" for i in rng.choice(num_items, 12, p=falling)] for _ in range(60)]
    today = [[f"item-{i}" for i in rng.choice(num_items, 12, p=falling[::-1]) if i] for _ in range(60)]
    return yesterday, [[*items, NEW] for items in today]


@pytest.fixture(name="earlier", scope="module")
def fixture_earlier(tmp_path_factory):
    place = tmp_path_factory.mktemp("warm")
    yesterday, today = worlds(20)
    datasets = write(place / "yesterday", yesterday), write(place / "today", today)
    settings = dataclasses.replace(TINY, dataset=str(place / "yesterday"), run=str(place / "run"))
    run = runs.RunDirectory(place / "run")
    run.start(settings, datasets[0])
    model, _ = training.train(settings, datasets[0], run)
    return place, datasets, model


def warm_settings(place, **changes):
    asked = {"dataset": str(place / "today"), "run": str(place / "new"), "warm_start": str(place / "run")}
    return dataclasses.replace(TINY, **(asked | changes))


def test_rows_follow_the_ids_and_the_new_item_its_histories(earlier):
    place, (yesterday, today), trained = earlier
    start = warm_start.read(warm_settings(place), today)
    model = compose(warm_settings(place, seed=3), today.num_items)
    start.put_into(model)
    old, new = trained.item_embeddings(), model.item_embeddings()
    there, here = yesterday.item_ids(), today.item_ids()
    assert there != here[: len(there)] and NEW in here
    np.testing.assert_array_equal(new[0], 0)
    for index, item_id in enumerate(here, start=1):
        if item_id != NEW:
            np.testing.assert_array_equal(new[index], old[there.index(item_id) + 1])

    means = []
    for items in today.read("train").rows():
        before = [new[item] for item in items[-6:-1]]  # the new item is the last of each sequence
        means.append(np.mean(before, axis=0))
    direction = np.mean(means, axis=0)
    lengths = [np.linalg.norm(new[i]) for i, item_id in enumerate(here, start=1) if item_id != NEW]
    expected = direction / np.linalg.norm(direction) * np.mean(lengths)
    np.testing.assert_allclose(new[here.index(NEW) + 1], expected, rtol=1e-4)

    # The same history of ids has the same user vector under both numberings.
    kept = [item_id for item_id in here if item_id != NEW][:4]
    ours = model.encode(np.array([[here.index(item_id) + 1 for item_id in kept] + [0]]))
    theirs = trained.encode(np.array([[there.index(item_id) + 1 for item_id in kept] + [0]]))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    assert start.about["items"] == {
        "kept": len(here) - 1,
        "new_from_histories": 1,
        "new_at_random": 0,
        "gone": len(there) - len(here) + 1,
    }
    assert not start.about["is_finished"] and start.about["epoch"] == 1


def test_an_item_without_history_starts_at_random_as_long_as_the_others(earlier):
    place, (_, today), _ = earlier
    start = warm_start.read(warm_settings(place), today)
    start = dataclasses.replace(start, is_placed=np.zeros_like(start.is_placed))
    model = compose(warm_settings(place), today.num_items)
    initial = model.item_embeddings()
    start.put_into(model)
    row = today.item_ids().index(NEW) + 1
    lengths = np.linalg.norm(start.table[start.is_kept], axis=1)
    np.testing.assert_allclose(model.item_embeddings()[row], initial[row] * lengths.mean(), rtol=1e-5)


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("tower", ["youtube_dnn", "gru4rec", "sasrec", "mind", "comirec_sa", "comirec_dr"])
def test_every_tower_is_taken_over_whole(earlier, tower):
    _, (_, today), _ = earlier
    one, other = (
        compose(dataclasses.replace(TINY, tower=tower, seed=seed, returns="learned"), today.num_items)
        for seed in (1, 2)
    )
    for number, weight in enumerate(one.returns.weights):
        weight.assign(tf.fill(weight.shape, 0.5 + number))
    is_kept = np.arange(today.num_items + 1) > 0
    weights = [weight.numpy() for weight in one.user_tower.weights]
    returns = one.returns.get_weights()
    start = warm_start.WarmStart(one.item_embeddings(), is_kept, ~is_kept, weights, {}, returns)
    start.put_into(other)
    histories = np.array([[1, 2, 3, 0, 0], [4, 5, 6, 7, 8]])
    np.testing.assert_allclose(other.encode(histories), one.encode(histories), rtol=1e-5, atol=1e-6)
    theirs, ours = (model.history_scores(histories, model.encode(histories))[1] for model in (one, other))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_a_started_run_needs_its_source_no_more(tmp_path, earlier):
    place, (_, today), _ = earlier
    settings = warm_settings(place, run=str(tmp_path / "new"))
    run = runs.RunDirectory(tmp_path / "new")
    start = warm_start.read(settings, today)
    run.start(settings, today)

    def stop(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):  # after the first checkpoint, before the first step
        training.train(settings, today, run, warm_start=start, on_start=stop)
    model, progress = training.train(settings, today, run)
    whole = warm_settings(place, run=str(tmp_path / "whole"))
    runs.RunDirectory(tmp_path / "whole").start(whole, today)
    undisturbed, _ = training.train(whole, today, runs.RunDirectory(tmp_path / "whole"), warm_start=start)
    np.testing.assert_allclose(model.item_embeddings(), undisturbed.item_embeddings(), rtol=1e-5, atol=1e-7)
    record = records.run_record(settings, today, progress, None, command="")
    assert record["warm_start"]["run"] == str(place / "run") == record["settings"]["warm_start"]
    assert set(record["warm_start"]) >= {"epoch", "dataset", "towers_sha256", "items", "validation"}
    assert record["warm_start"]["validation"] != record["validation"]
    with pytest.raises(InputError, match="--warm_start="):
        run.start(dataclasses.replace(settings, warm_start=""), today)
    run.start(dataclasses.replace(settings, warm_start=f"{place / 'run'}/"), today)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"embedding_dim": 16}, "--embedding_dim=8 there, --embedding_dim=16 here"),
        ({"tower": "gru4rec"}, "--tower=mean there, --tower=gru4rec here"),
        ({"method": "interest"}, "--method=base there, --method=interest here"),
        ({"max_history": 6}, "--max_history=5 there, --max_history=6 here"),
    ],
)
def test_towers_of_another_kind_are_refused(earlier, changes, message):
    place, (_, today), _ = earlier
    with pytest.raises(InputError, match=message):
        warm_start.read(warm_settings(place, **changes), today)


def test_sources_that_do_not_fit_are_refused(tmp_path, earlier):
    place, (_, today), _ = earlier
    with pytest.raises(InputError, match="is --run itself"):
        warm_start.read(warm_settings(place, run=str(place / "run")), today)
    with pytest.raises(InputError, match="not the directory of a run"):
        warm_start.read(warm_settings(place, warm_start=str(tmp_path)), today)
    _, sequences = worlds(20)
    other_split = write(tmp_path / "split", sequences, split_seed=1)
    with pytest.raises(InputError, match=r"--split_seed=0, but .* is split by --split_seed=1"):
        warm_start.read(warm_settings(place), other_split)
    renamed = write(tmp_path / "renamed", [[f"x{item}" for item in items] for items in sequences])
    with pytest.raises(InputError, match="knows none of the"):
        warm_start.read(warm_settings(place), renamed)


def test_nothing_is_read_where_nothing_is_new(earlier):
    _, (_, today), _ = earlier
    table = np.ones([today.num_items + 1, 8], np.float32)
    placed, is_found = new_items.from_histories(table, np.arange(len(table)) > 0, today, 5)
    np.testing.assert_array_equal(placed, table)
    assert not is_found.any()

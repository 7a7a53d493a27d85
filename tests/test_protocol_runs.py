"""Runs on datasets of every protocol: what training leaves alone, and a chosen run trained again on all."""

import dataclasses
import json

import numpy as np
import polars as pl
import pytest
import tensorflow as tf

import causerec_tf as cr
from causerec_tf import evaluation, measurement, recipes, runs, warm_start
from causerec_tf.data.holdout import evaluation_users
from causerec_tf.data.training_events import TrainingEvents
from causerec_tf.data.training_records import trained_items
from causerec_tf.settings import Settings
from tests import reference
from tests.trainings import Stop, StopAt

rng = np.random.default_rng(7)
USERS = np.repeat([f"u{number}" for number in range(120)], 8)
# Two tastes; and each user's last two items are new ones, half of which nobody else has.
LOG = pl.DataFrame(
    {
        "user_id": USERS,
        "item_id": [
            f"late{user}" if step > 5 and user % 4 == 0 else f"i{20 * (user % 2) + rng.integers(20)}"
            for user in range(120)
            for step in range(8)
        ],
        "timestamp": np.tile(np.arange(8), 120),
    }
)
LISTS, TESTS = LOG.filter(pl.col("timestamp") < 6), LOG.filter(pl.col("timestamp") >= 6)
QUICK = {
    "embedding_dim": 8,
    "batch_size": 64,
    "epochs": 3,
    "patience": 3,
    "max_history": 5,
    "progress": False,
}
PROTOCOLS = {
    "leave_one_out": {},
    "time": {"validation_from": "6", "test_from": "7"},
    "given": {"given_test": TESTS},
}


def prepared(directory, protocol, **options):
    source = LISTS if protocol == "given" else LOG
    return cr.prepare(source, directory, protocol=protocol, num_shards=2, **options)


@pytest.fixture(name="datasets", scope="module")
def fixture_datasets(tmp_path_factory):
    place = tmp_path_factory.mktemp("protocols")
    return {name: prepared(place / name, name, **options) for name, options in PROTOCOLS.items()}


@pytest.fixture(name="chosen", scope="module")
def fixture_chosen(datasets, tmp_path_factory):
    settings = QUICK | {"sampler": "full", "learning_rate_schedule": "linear"}
    return cr.train(datasets["leave_one_out"], tmp_path_factory.mktemp("runs") / "chosen", **settings)


ITEM = {"method": "item", "lambda_cm": 0.5}
OF_TIME = ("time", "mixed", {})


def trained(directory, datasets, protocol, sampler, method):
    return cr.train(datasets[protocol], directory, **QUICK | {"sampler": sampler, "epochs": 1} | method)


@pytest.fixture(name="of_time", scope="module")
def fixture_of_time(datasets, tmp_path_factory):
    return trained(tmp_path_factory.mktemp("runs") / "of_time", datasets, *OF_TIME)


@pytest.mark.parametrize(
    ("protocol", "sampler", "method"),
    [
        ("leave_one_out", "full", ITEM),
        OF_TIME,
        ("given", "log_uniform", {}),
        pytest.param("time", "uniform", {}, marks=pytest.mark.long),
        pytest.param("time", "uniform", ITEM, marks=pytest.mark.long),
        pytest.param("given", "log_uniform", ITEM, marks=pytest.mark.long),
    ],
)
def test_training_leaves_the_items_alone_that_it_may_not_know(
    tmp_path, datasets, of_time, protocol, sampler, method
):
    """Neither as negatives nor otherwise: their vectors stay as they began, and no list has them."""
    dataset = datasets[protocol]
    num_trained = dataset.num_trained_items
    assert 40 <= num_trained < dataset.num_items
    asked = protocol, sampler, method
    run = of_time if asked == OF_TIME else trained(tmp_path / "run", datasets, *asked)
    began = recipes.compose(run.settings, dataset.num_items).item_embeddings()
    ended = run.model.item_embeddings()
    np.testing.assert_array_equal(ended[num_trained + 1 :], began[num_trained + 1 :])
    assert (ended[1 : num_trained + 1] != began[1 : num_trained + 1]).any(axis=1).all()

    users = evaluation_users(dataset.read("test"), 5)
    for exclude_seen in (False, True):
        excluded = list(users.seen) if exclude_seen else None
        ranked = evaluation.rank_users(run.model, users, 20, exclude_seen=exclude_seen)
        vectors = run.model.encode(users.history).numpy()
        assert ranked.tolist() == reference.top_k(vectors, ended[1 : num_trained + 1], 20, excluded)
    frequent = LOG.filter(pl.col("timestamp") < (6 if protocol != "given" else 5))["item_id"].value_counts()
    best = frequent["count"].max()
    assert dataset.item_ids()[0] in set(frequent.filter(pl.col("count") == best)["item_id"])


def test_what_is_new_among_the_targets_counts_as_missed(datasets, chosen):
    dataset = datasets["leave_one_out"]
    new = dataset.info["counts"]["new_in"]["test"]
    assert new == {"users": 0, "items": 30, "targets": 30}
    found = measurement.users_of(dataset, "test", 5)
    measured = measurement.measure(chosen.model, found, TrainingEvents(dataset))[False]
    assert measured.num_users == 120
    users = evaluation_users(dataset.read("test"), 5)
    is_new = np.array([targets[0] > dataset.num_trained_items for targets in users.targets])
    assert is_new.sum() == 30
    assert (measured.per_user["hr@50"][is_new] == 0).all()


def test_a_record_names_its_protocol(datasets, chosen):
    record = json.loads((chosen.directory / "metrics.json").read_text())
    assert record["protocol"]["name"] == "leave_one_out"
    assert record["protocol"]["epoch_chosen_by"] == "validation recall@50"
    time = datasets["time"].protocol
    assert (time["name"], time["validation_from"], time["test_from"]) == ("time", 6, 7)


class Rates(tf.keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.rates = []

    def on_train_batch_end(self, batch, logs=None):
        self.rates.append(float(self.model.optimizer.learning_rate))


@pytest.mark.parametrize(
    "protocol",
    # `tests/pipelines/test_train.py` trains again on a dataset of the protocol none.
    ["leave_one_out", *(pytest.param(one, marks=pytest.mark.long) for one in ("none", "time", "given"))],
)
def test_a_chosen_run_is_trained_again_on_all(tmp_path, datasets, chosen, protocol):
    best_epoch = json.loads((chosen.directory / "metrics.json").read_text())["best_epoch"]
    dataset = datasets[protocol] if protocol != "none" else prepared(tmp_path / "all", "none")
    run = cr.train(dataset, tmp_path / "run", like=chosen.directory, progress=False)
    assert run.is_finished
    same = dataclasses.replace(chosen.settings, dataset=run.settings.dataset, run=run.settings.run)
    train_on = "train" if protocol == "none" else "before_test"
    assert run.settings == dataclasses.replace(same, train_on=train_on, stop_after=best_epoch)
    record = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert record["epochs"] == record["best_epoch"] == best_epoch
    assert "validation" not in record
    assert record["protocol"]["epoch_chosen_by"] == "a run before"
    assert ("test" in record) == (protocol != "none")
    known = set(
        run.model.trained_items if run.model.trained_items is not None else range(1, run.model.num_items + 1)
    )
    names = {name for number, name in enumerate(dataset.item_ids(), start=1) if number in known}
    last = {"leave_one_out": 6, "time": 6, "given": 5, "none": 7}[protocol]
    assert names == set(LOG.filter(pl.col("timestamp") <= last)["item_id"])


@pytest.mark.long
def test_the_rate_falls_as_in_the_chosen_run_and_a_stop_changes_nothing(tmp_path, datasets, chosen):
    from causerec_tf.retraining import settings_like
    from causerec_tf.train_run import train_run

    dataset, rates = datasets["leave_one_out"], Rates()

    def go(name, callbacks, **changes):
        given = {"dataset": str(dataset.directory), "run": str(tmp_path / name)} | changes
        settings = settings_like(chosen.directory, dataset, given)
        return train_run(settings, dataset, callbacks=callbacks)

    go("whole", [rates], stop_after=2)
    steps = -(-dataset.info["counts"]["windows_before_test"] // 64)
    assert rates.rates == pytest.approx(
        [0.005 * (1 - step / (3 * steps)) for step in range(2 * steps)], rel=1e-4
    )
    with pytest.raises(Stop):
        go("stopped", [StopAt(steps + 3)], stop_after=2, checkpoint_steps=2)
    go("stopped", [], stop_after=2, checkpoint_steps=2)
    tables = [runs.load_trained(tmp_path / name).model.item_embeddings() for name in ("whole", "stopped")]
    np.testing.assert_array_equal(*tables)


def test_what_cannot_be_trained_again_is_refused(tmp_path, datasets, chosen):
    by_users = prepared(tmp_path / "users", "users")
    with pytest.raises(cr.InputError, match="is split by users"):
        cr.train(by_users, tmp_path / "run", like=chosen.directory, progress=False)
    with pytest.raises(cr.InputError, match=r"flags\.txt is missing"):
        cr.train(datasets["given"], tmp_path / "run", like=tmp_path / "nothing", progress=False)
    everything = prepared(tmp_path / "all", "none")
    with pytest.raises(cr.InputError, match=r"--protocol=none: it has no validation user.*--like"):
        cr.train(everything, tmp_path / "run", **QUICK)
    with pytest.raises(cr.InputError, match=r"--train_on=before_test trains on what validation asks for"):
        cr.train(datasets["given"], tmp_path / "run", train_on="before_test", **QUICK)
    with pytest.raises(cr.InputError, match="--patience=3 has no effect here: it acts with --stop_after=0"):
        cr.train(datasets["given"], tmp_path / "run", stop_after=1, **QUICK)
    with pytest.raises(cr.InputError, match="recipe='recommended' and like="):
        cr.train(datasets["given"], tmp_path / "run", like=chosen.directory, recipe="recommended")
    quick = {name: value for name, value in QUICK.items() if name != "patience"}
    run = cr.train(everything, tmp_path / "run", stop_after=1, **quick)
    with pytest.raises(cr.InputError, match=r"has no test user .* --protocol=none, which measures nobody"):
        run.evaluate()


@pytest.mark.parametrize(
    "protocol",
    ["leave_one_out", "given", *(pytest.param(one, marks=pytest.mark.long) for one in ("time", "none"))],
)
def test_a_bundle_asks_with_histories_and_has_no_item_that_training_has_not(tmp_path, datasets, protocol):
    pytest.importorskip("tensorflow_serving", reason="warm-up requests need tensorflow-serving-api")
    from export.publishing.publish_run import publish_run
    from export.store.layout import TOWER_WARM_UP, tower_directory
    from export.towers.requests import read_warm_up

    dataset = datasets[protocol] if protocol != "none" else prepared(tmp_path / "all", "none")
    model = recipes.compose(Settings(embedding_dim=8, max_history=5), dataset.num_items)
    model.know_items_of(dataset.num_trained_items, trained_items(dataset))
    trained = runs.TrainedRun(model, Settings(), dataset, is_finished=True)
    published = publish_run(trained, tmp_path / "bundle", warm_up_requests=50)
    assert published.index["items"] == dataset.num_trained_items
    asked = read_warm_up(tower_directory(tmp_path / "bundle", 1) / TOWER_WARM_UP)
    assert len(asked) == 50
    last = {"leave_one_out": 5, "time": 5, "given": 4, "none": 7}[protocol]
    own = LOG.filter(pl.col("timestamp") <= last).group_by("user_id").agg("item_id")["item_id"].to_list()
    known = set(dataset.item_ids()[: dataset.num_trained_items])
    histories = [[item for item in items[-5:] if item in known] for items in own]
    assert all(history in histories for history in asked)


def test_a_start_from_a_run_that_knows_the_answers_is_refused(tmp_path, datasets, chosen, of_time):
    asked = {"warm_start": str(chosen.directory), "run": "new"}
    settings = dataclasses.replace(chosen.settings, **asked)
    with pytest.raises(cr.InputError, match=r"has the protocol leave_one_out, .* has time"):
        warm_start.read(settings, datasets["time"])
    start = warm_start.read(settings, datasets["leave_one_out"])
    assert start.is_kept.sum() == datasets["leave_one_out"].num_trained_items
    later = prepared(tmp_path / "later", "time", validation_from="5", test_from="7")
    settings = dataclasses.replace(of_time.settings, warm_start=str(of_time.directory), run="new")
    with pytest.raises(cr.InputError, match=r"validation_from=6, .* has 5, which is earlier"):
        warm_start.read(settings, later)


def test_a_frame_and_paths_do_not_mix(tmp_path):
    LISTS.write_csv(tmp_path / "lists.csv")
    TESTS.write_csv(tmp_path / "tests.csv")
    paths = [tmp_path / "lists.csv", tmp_path / "tests.csv"]
    made = cr.prepare(paths[0], tmp_path / "paths", protocol="given", given_test=paths[1])
    frames = cr.prepare(LISTS, tmp_path / "frames", protocol="given", given_test=TESTS)
    assert made.fingerprint == frames.fingerprint
    with pytest.raises(cr.InputError, match="wanted a data frame"):
        cr.prepare(LISTS, tmp_path / "a", protocol="given", given_test=paths[1])
    with pytest.raises(cr.InputError, match="wanted paths"):
        cr.prepare(paths[0], tmp_path / "a", protocol="given", given_test=TESTS)
    with pytest.raises(cr.InputError, match="test_from=7 has no effect with protocol=users"):
        cr.prepare(LOG, tmp_path / "a", test_from="7")

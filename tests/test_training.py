"""A run from start to end on generated worlds: it learns, it goes on after a stop, it refuses a mix-up."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from causerec_tf import evaluation, records, runs, training
from causerec_tf.data import sequences, windows
from causerec_tf.errors import InputError
from causerec_tf.settings import Settings
from tests.worlds import write_world

FAST = Settings(
    embedding_dim=16, batch_size=256, sampler="full", epochs=2, memory_size=2000, checkpoint_steps=3
)


def prepare(directory, **world):
    return write_world(directory, **{"num_users": 900, "num_items": 240, "num_interests": 12} | world)


@pytest.fixture(name="dataset", scope="module")
def fixture_dataset(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("training") / "world")


def settings_of(run, dataset, **changes):
    return dataclasses.replace(FAST, run=str(run), dataset=str(dataset.directory), **changes)


def train(run, dataset, callbacks=(), **changes):
    settings = settings_of(run, dataset, **changes)
    directory = runs.RunDirectory(run)
    directory.start(settings, dataset)
    return training.train(settings, dataset, directory, callbacks=callbacks)


class Stop(Exception):
    pass


class StopAt(tf.keras.callbacks.Callback):
    """Ends the process's work in the middle of an epoch, as a kill would."""

    def __init__(self, batches):
        super().__init__()
        self._left = batches

    def on_train_batch_end(self, batch, logs=None):
        self._left -= 1
        if self._left == 0:
            raise Stop


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"method": "base"}, marks=pytest.mark.long),
        {"method": "item", "learning_rate_schedule": "linear"},
    ],
)
def test_a_run_that_was_stopped_ends_as_one_that_was_not(tmp_path, dataset, changes):
    whole, whole_progress = train(tmp_path / "whole", dataset, **changes)
    for batches in (5, 60):  # after a checkpoint in the first epoch, and in the second
        with pytest.raises(Stop):
            train(tmp_path / "stopped", dataset, [StopAt(batches)], **changes)
    stopped, stopped_progress = train(tmp_path / "stopped", dataset, **changes)
    for ours, theirs in zip(stopped.trainable_variables, whole.trainable_variables, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)
    for ours, theirs in zip(stopped_progress.epochs, whole_progress.epochs, strict=True):
        assert ours.validation == pytest.approx(theirs.validation, abs=1e-6)
        assert ours.losses == pytest.approx(theirs.losses, rel=1e-5)


def test_the_learning_rate_falls_to_zero_over_all_epochs(tmp_path, dataset):
    steps, rates = windows.num_batches(dataset, FAST.batch_size), []

    class Note(tf.keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            rates.append(float(self.model.optimizer.learning_rate))

    train(tmp_path / "run", dataset, [Note()], learning_rate=0.01, learning_rate_schedule="linear")
    falling = [0.01 * (1 - step / (2 * steps)) for step in range(2 * steps)]
    assert rates == pytest.approx(falling, rel=1e-4)


def test_a_checkpoint_of_an_earlier_version_has_no_losses():
    progress = training.Progress(batch=5)
    state = json.loads(progress.serialize())
    del state["losses"]
    progress.deserialize(json.dumps(state))
    assert progress.losses.plus({"matching": 2.0}, 3).means() == {"matching": 2.0}


@pytest.mark.parametrize("method", [pytest.param("base", marks=pytest.mark.long), "item"])
def test_learns_the_generated_world(tmp_path, dataset, method):
    model, progress = train(tmp_path / "run", dataset, method=method, epochs=6)
    settings = settings_of("", dataset, method=method)
    test = evaluation.evaluate(model, dataset, "test", exclude_seen=False)
    record = records.run_record(settings, dataset, progress, test, exclude_seen=False, command="")
    # 240 items, 12 interests: popularity finds a twelfth of what an oracle of interests finds.
    assert record["test"]["recall@20"] > 1.8 * record["pop"]["recall@20"]
    assert record["test"]["recall@20"] > 0.25
    loaded = runs.load_trained(tmp_path / "run")
    np.testing.assert_array_equal(loaded.model.item_embeddings(), model.item_embeddings())


def test_finds_nothing_where_there_is_nothing(tmp_path):
    dataset = prepare(tmp_path / "noise", learnable=False)
    model, _ = train(tmp_path / "run", dataset, method="item")
    measured = evaluation.evaluate(model, dataset, "test", exclude_seen=False)
    # 20 of 240 items at random: recall 1/12, with some 90 users of 6 targets a deviation of .012.
    assert measured.model["recall@20"] == pytest.approx(20 / 240, abs=0.045)


@pytest.mark.long
def test_a_run_that_was_stopped_while_it_validated_goes_on(tmp_path, dataset, monkeypatch):
    whole, _ = train(tmp_path / "whole", dataset)
    steps = windows.num_batches(dataset, FAST.batch_size)

    def stop(*_):
        raise Stop

    with monkeypatch.context() as patched:
        patched.setattr(training, "_validate", stop)
        with pytest.raises(Stop):
            # A multiple of it falls on the last step of the epoch.
            train(tmp_path / "stopped", dataset, checkpoint_steps=steps)
    stopped, _ = train(tmp_path / "stopped", dataset, checkpoint_steps=steps)
    for ours, theirs in zip(stopped.trainable_variables, whole.trainable_variables, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)


def test_checkpoints_without_their_settings_are_refused(tmp_path, dataset):
    train(tmp_path / "run", dataset, epochs=1)
    (tmp_path / "run" / "flags.txt").unlink()
    with pytest.raises(InputError, match=r"checkpoints but no flags\.txt"):
        train(tmp_path / "run", dataset, epochs=1)


def test_a_run_starts_in_a_directory_that_is_empty_or_its_own(tmp_path, dataset):
    settings = settings_of(tmp_path / "run", dataset)
    run = runs.RunDirectory(tmp_path / "run")
    run.path.mkdir()
    # Killed before it had its flagfile.
    for name in (".dataset.txt.tmp", "dataset.txt", ".flags.txt.tmp"):
        (run.path / name).write_text("ha")
    run.start(settings, dataset)
    run.check_dataset(dataset)
    run.flags.unlink()
    (run.path / "notes.txt").write_text("somebody's own")
    with pytest.raises(InputError, match=r"run is not empty and no run: it has notes\.txt but no flags\.txt"):
        run.start(settings, dataset)


def test_several_steps_an_execution_are_the_same_steps(tmp_path, dataset):
    one, _ = train(tmp_path / "one", dataset, epochs=1)
    with pytest.raises(Stop):
        train(tmp_path / "several", dataset, [StopAt(4)], epochs=1, steps_per_execution=5)
    several, _ = train(tmp_path / "several", dataset, epochs=1, steps_per_execution=5)
    for ours, theirs in zip(several.trainable_variables, one.trainable_variables, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_another_setting_or_dataset_is_refused(tmp_path, dataset):
    train(tmp_path / "run", dataset, epochs=1)
    with pytest.raises(InputError, match=r"--learning_rate=0\.005 there, --learning_rate=0\.1 asked for"):
        train(tmp_path / "run", dataset, epochs=1, learning_rate=0.1)
    other = prepare(tmp_path / "other", seed=5)
    run = runs.RunDirectory(tmp_path / "run")
    with pytest.raises(InputError, match="was trained on"):
        run.check_dataset(other)


def test_a_loss_that_is_not_finite_is_explained(tmp_path, dataset):
    with pytest.raises(training.NonFiniteLossError, match=r"step \d+ .* --learning_rate"):
        train(tmp_path / "run", dataset, method="item", learning_rate=1e30)


def test_the_explanation_names_the_parts_and_every_setting_that_may_help():
    settings = dataclasses.replace(
        FAST, method="item", lambda_co=2.0, lambda_ii=3.0, lambda_cm=0.5, lambda_cn=0.25
    )
    message = "assertion failed: [loss is not finite at step] [7] [matching=] [1.5] [cn=] [-nan]\n\t [[{{node"
    text = str(training.explain_non_finite(message, settings))
    assert text.startswith("loss is not finite at step 7 matching=1.5 cn=nan. The likely cause")
    for setting in (
        *("--lambda_co=2.0", "--lambda_ii=3.0", "--lambda_cm=0.5", "--lambda_cn=0.25"),
        *("--learning_rate (now 0.005)", "--temperature (now 1.0)"),
    ):
        assert setting in text


def test_a_broken_checkpoint_is_named(tmp_path, dataset):
    train(tmp_path / "run", dataset, epochs=1)
    for part in (tmp_path / "run" / "best").glob("*.data*"):
        part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(InputError, match=r"cannot be read[\s\S]*Remove the whole directory \S*run and run"):
        runs.load_trained(tmp_path / "run")
    with pytest.raises(InputError, match="not the directory of a run"):
        runs.load_trained(tmp_path / "nothing")


def test_a_dataset_that_was_moved_is_named_anew(tmp_path, dataset, monkeypatch):
    shutil.copytree(dataset.directory, tmp_path / "world")
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / "shop"
    settings = dataclasses.replace(settings_of("runs/shop", dataset, epochs=1), dataset="world")
    runs.RunDirectory(run).start(settings, sequences.open_dataset("world"))
    trained, _ = training.train(settings, dataset, runs.RunDirectory(run))
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    with pytest.raises(InputError, match=r"world is no dataset") as error:
        runs.load_trained("../runs/shop")
    assert str(error.value).endswith(
        "The place world stands in ../runs/shop/flags.txt, relative to the working directory. If the run's"
        " dataset is elsewhere, name its place with --dataset."
    )
    loaded = runs.load_trained("../runs/shop", "../world")
    assert loaded.dataset.directory.samefile(tmp_path / "world")
    np.testing.assert_array_equal(loaded.model.item_embeddings(), trained.item_embeddings())
    write_world(tmp_path / "another", num_users=40, num_items=20, num_interests=2)
    with pytest.raises(InputError, match="was trained on"):
        runs.load_trained("../runs/shop", "../another")


@pytest.mark.parametrize("damage", ["truncated", "gone"])
def test_a_run_without_its_best_epoch_does_not_go_on(tmp_path, dataset, damage):
    run = tmp_path / "run"
    steps = windows.num_batches(dataset, FAST.batch_size)
    with pytest.raises(Stop):
        train(run, dataset, [StopAt(steps + 4)])
    if damage == "gone":
        shutil.rmtree(run / "best")
    else:
        for part in (run / "best").glob("*.data*"):
            part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(InputError, match=r"best epoch[\s\S]*Remove the whole directory"):
        train(run, dataset, [StopAt(1)])
    shutil.rmtree(run)  # do as it says
    with pytest.raises(Stop):
        train(run, dataset, [StopAt(1)])


def stop_after_two_checkpoints(run, dataset):
    with pytest.raises(Stop):
        train(run, dataset, [StopAt(8)])
    assert tf.train.latest_checkpoint(run / "checkpoints").endswith("ckpt-2")


@pytest.mark.parametrize("damage", ["truncated", pytest.param("gone", marks=pytest.mark.long)])
def test_a_damaged_last_checkpoint_costs_the_steps_since_the_one_before(tmp_path, dataset, damage):
    run = tmp_path / "run"
    stop_after_two_checkpoints(run, dataset)
    for part in (run / "checkpoints").glob("ckpt-2.*"):
        if damage == "gone":
            part.unlink()
        else:
            part.write_bytes(part.read_bytes()[:100])
    resumed, _ = train(run, dataset, epochs=2)
    whole, _ = train(tmp_path / "whole", dataset, epochs=2)
    np.testing.assert_allclose(resumed.item_embeddings(), whole.item_embeddings(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("content", [b"", bytes(40)])
def test_a_damaged_list_of_checkpoints_is_no_new_start(tmp_path, dataset, content):
    run = tmp_path / "run"
    stop_after_two_checkpoints(run, dataset)
    listing = run / "checkpoints" / "checkpoint"
    listing.write_bytes(content)
    with pytest.raises(InputError, match="is damaged: it names no checkpoint") as error:
        train(run, dataset)
    line = str(error.value).splitlines()[1]  # do as it says
    assert line.endswith('"ckpt-2"')
    listing.write_text(line + "\n")
    with pytest.raises(Stop):
        train(run, dataset, [StopAt(1)])


class Vanish(tf.keras.callbacks.Callback):
    def __init__(self, paths):
        super().__init__()
        self._paths = paths

    def on_train_end(self, logs=None):
        for path in self._paths:
            path.unlink()


def test_a_dataset_that_vanishes_between_epochs_is_named(tmp_path, dataset):
    place = tmp_path / "world"
    shutil.copytree(dataset.directory, place)
    shards = list(place.glob("*train.tfrecord*"))
    copy = sequences.open_dataset(place)
    with pytest.raises(InputError, match=r"was damaged or moved away while it was read: .*No such file"):
        train(tmp_path / "run", copy, [Vanish(shards)])
    shutil.copytree(dataset.directory, place, dirs_exist_ok=True)
    _, progress = train(tmp_path / "run", copy)
    assert progress.epoch == 2


def test_flags_file_makes_the_same_settings(tmp_path, dataset):
    settings = settings_of(tmp_path / "run", dataset, weight_decay=1e-5, temperature=0.07)
    runs.RunDirectory(tmp_path / "run").start(settings, dataset)
    assert Settings.from_flagfile(tmp_path / "run" / "flags.txt") == settings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "causal"}, "wanted one of base, item"),
        ({"epochs": 0}, "--epochs=0: wanted 1 or more"),
        ({"replacement_rate": 1.5}, "at most 1"),
        ({"temperature": 0.0}, "more than 0"),
        ({"method": "item", "num_positives": 0, "num_negatives": 0}, "nothing to synthesise"),
        ({"method": "interest", "nearest_of": 2}, "nearest_of=2.*wanted 1"),
        ({"nearest_of": 0}, "nearest_of=0: wanted 1 or more"),
    ],
)
def test_settings_out_of_bounds(changes, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(FAST, **changes)

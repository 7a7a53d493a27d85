"""Runs that are stopped, and runs of which something was damaged: they go on as they were, or say why not."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from causerec_tf import runs, training
from causerec_tf.data import sequences, windows
from causerec_tf.errors import InputError
from tests.trainings import FAST, OFTEN, Stop, StopAt, prepare, settings_of, train


@pytest.fixture(name="dataset", scope="module")
def fixture_dataset(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("interrupted") / "world")


@pytest.fixture(name="whole", scope="module")
def fixture_whole(dataset, tmp_path_factory):
    """A run that nothing stopped, with its model and progress. Look at it; to change something, copy it."""
    run = tmp_path_factory.mktemp("whole") / "run"
    return run, *train(run, dataset)


@pytest.fixture(name="stopped", scope="module")
def fixture_stopped(dataset, tmp_path_factory):
    """The same run, stopped some steps after a checkpoint of its second epoch. To be copied."""
    run = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.raises(Stop):
        train(run, dataset, [StopAt(windows.num_batches(dataset, FAST.batch_size) + 8)], **OFTEN)
    return run


def assert_same(ours, theirs):
    """Both as `train` gives them."""
    for one, other in zip(ours[0].trainable_variables, theirs[0].trainable_variables, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
    for one, other in zip(ours[1].epochs, theirs[1].epochs, strict=True):
        assert one.validation == pytest.approx(other.validation, abs=1e-6)
        assert one.losses == pytest.approx(other.losses, rel=1e-5)


def test_a_run_that_was_stopped_ends_as_one_that_was_not(tmp_path, dataset, whole, stopped):
    shutil.copytree(stopped, tmp_path / "run")
    assert_same(train(tmp_path / "run", dataset), whole[1:])


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"method": "item", "learning_rate_schedule": "linear"}, marks=pytest.mark.long),
        pytest.param(
            {"tower": "sasrec", "training_rows": "sequences", "dropout": 0.2, "batch_size": 24},
            marks=pytest.mark.long,
        ),
    ],
)
def test_a_run_that_was_stopped_twice_ends_as_one_that_was_not(tmp_path, dataset, changes):
    whole = train(tmp_path / "whole", dataset, **changes)
    steps = training.steps_per_epoch(settings_of("", dataset, **changes), dataset, None)
    for batches in (5, steps + 5):  # after a checkpoint in the first epoch, and in the second
        with pytest.raises(Stop):
            train(tmp_path / "stopped", dataset, [StopAt(batches)], **changes, **OFTEN)
    assert_same(train(tmp_path / "stopped", dataset, **changes), whole)


@pytest.mark.long
def test_a_run_that_was_stopped_while_it_validated_goes_on(tmp_path, dataset, whole, monkeypatch):
    steps = windows.num_batches(dataset, FAST.batch_size)

    def stop(*_):
        raise Stop

    with monkeypatch.context() as patched:
        patched.setattr(training, "_validate", stop)
        with pytest.raises(Stop):
            # A multiple of it falls on the last step of the epoch.
            train(tmp_path / "stopped", dataset, checkpoint_steps=steps)
    assert_same(train(tmp_path / "stopped", dataset, checkpoint_steps=steps), whole[1:])


def test_a_broken_checkpoint_is_named(tmp_path, whole):
    shutil.copytree(whole[0], tmp_path / "run")
    for part in (tmp_path / "run" / "best").glob("*.data*"):
        part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(InputError, match=r"cannot be read[\s\S]*Remove the whole directory \S*run and run"):
        runs.load_trained(tmp_path / "run")
    with pytest.raises(InputError, match="not the directory of a run"):
        runs.load_trained(tmp_path / "nothing")


@pytest.mark.parametrize("damage", [pytest.param("truncated", marks=pytest.mark.long), "gone"])
def test_a_run_without_its_best_epoch_does_not_go_on(tmp_path, dataset, stopped, damage):
    run = tmp_path / "run"
    shutil.copytree(stopped, run)
    if damage == "gone":
        shutil.rmtree(run / "best")
    else:
        for part in (run / "best").glob("*.data*"):
            part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(InputError, match=r"best epoch[\s\S]*Remove the whole directory"):
        train(run, dataset, [StopAt(1)])


@pytest.mark.parametrize(
    "damage", [pytest.param(one, marks=pytest.mark.long) for one in ("truncated", "gone")]
)
def test_a_damaged_last_checkpoint_costs_the_steps_since_the_one_before(
    tmp_path, dataset, whole, stopped, damage
):
    run = tmp_path / "run"
    shutil.copytree(stopped, run)
    last = tf.train.latest_checkpoint(run / "checkpoints")
    for part in Path(last).parent.glob(f"{Path(last).name}.*"):
        if damage == "gone":
            part.unlink()
        else:
            part.write_bytes(part.read_bytes()[:100])
    assert_same(train(run, dataset), whole[1:])


@pytest.mark.parametrize("content", [b"", pytest.param(bytes(40), marks=pytest.mark.long, id="zeros")])
def test_a_damaged_list_of_checkpoints_is_no_new_start(tmp_path, dataset, whole, stopped, content):
    run = tmp_path / "run"
    shutil.copytree(stopped, run)
    last = Path(tf.train.latest_checkpoint(run / "checkpoints")).name
    listing = run / "checkpoints" / "checkpoint"
    listing.write_bytes(content)
    with pytest.raises(InputError, match="is damaged: it names no checkpoint") as error:
        train(run, dataset)
    line = str(error.value).splitlines()[1]  # do as it says
    assert line.endswith(f'"{last}"')
    listing.write_text(line + "\n")
    assert tf.train.latest_checkpoint(run / "checkpoints").endswith(last)
    if content:
        assert_same(train(run, dataset), whole[1:])


class Vanish(tf.keras.callbacks.Callback):
    def __init__(self, paths):
        super().__init__()
        self._paths = paths

    def on_train_end(self, logs=None):
        for path in self._paths:
            path.unlink()


@pytest.mark.long
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

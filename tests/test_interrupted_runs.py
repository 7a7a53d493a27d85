"""Runs that are stopped, and runs of which something was damaged: they go on as they were, or say why not."""

import shutil

import numpy as np
import pytest
import tensorflow as tf

from causerec_tf import runs, training
from causerec_tf.data import sequences, windows
from causerec_tf.errors import InputError
from tests.trainings import FAST, Stop, StopAt, prepare, train


@pytest.fixture(name="dataset", scope="module")
def fixture_dataset(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("interrupted") / "world")


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"method": "base"}, marks=pytest.mark.long),
        pytest.param({"method": "item", "learning_rate_schedule": "linear"}, marks=pytest.mark.long),
        pytest.param(
            {"tower": "sasrec", "training_rows": "sequences", "dropout": 0.2, "batch_size": 24},
            marks=pytest.mark.long,
        ),
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


def test_a_broken_checkpoint_is_named(tmp_path, dataset):
    train(tmp_path / "run", dataset, epochs=1)
    for part in (tmp_path / "run" / "best").glob("*.data*"):
        part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(InputError, match=r"cannot be read[\s\S]*Remove the whole directory \S*run and run"):
        runs.load_trained(tmp_path / "run")
    with pytest.raises(InputError, match="not the directory of a run"):
        runs.load_trained(tmp_path / "nothing")


@pytest.mark.parametrize("damage", [pytest.param("truncated", marks=pytest.mark.long), "gone"])
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


@pytest.mark.parametrize(
    "damage", [pytest.param(one, marks=pytest.mark.long) for one in ("truncated", "gone")]
)
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


@pytest.mark.parametrize("content", [b"", pytest.param(bytes(40), marks=pytest.mark.long, id="zeros")])
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

"""Checkpoints that a kill or a disk has damaged: what can be read is read, what cannot is named."""

from pathlib import Path

import pytest
import tensorflow as tf

from causerec_tf import checkpoints
from causerec_tf.errors import InputError


def manager_of(directory, saves=2):
    """A manager of checkpoints `ckpt-1`, `ckpt-2` and so on, in which a variable has the value 1, 2, ..."""
    variable = tf.Variable(0.0)
    manager = tf.train.CheckpointManager(tf.train.Checkpoint(v=variable), directory, max_to_keep=2)
    for _ in range(saves):
        variable.assign_add(1.0)
        manager.save()
    variable.assign(-1.0)
    return manager, variable


def damage(directory, name):
    for part in directory.glob(f"{name}.data-*"):
        part.write_bytes(part.read_bytes()[:3])


def test_the_last_whole_checkpoint_is_read_and_a_damaged_one_is_warned_of(tmp_path, caplog):
    manager, variable = manager_of(tmp_path)
    checkpoints.restore_last(manager)
    assert variable.numpy() == 2 and not caplog.messages
    damage(tmp_path, "ckpt-2")
    checkpoints.restore_last(manager)
    assert variable.numpy() == 1
    assert "ckpt-2 cannot be read: going on from" in caplog.text and caplog.text.endswith("ckpt-1.\n")


def test_where_no_checkpoint_can_be_read_the_last_is_named(tmp_path):
    manager, _ = manager_of(tmp_path)
    for name in ("ckpt-1", "ckpt-2"):
        damage(tmp_path, name)
    with pytest.raises(InputError, match=r"ckpt-2 cannot be read: [\s\S]*choose another --run"):
        checkpoints.restore_last(manager)


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    manager, _ = manager_of(tmp_path)
    other = tf.train.Checkpoint(w=tf.Variable(0.0))
    with pytest.raises(InputError, match="cannot be read"):
        checkpoints.restore(other, manager.latest_checkpoint)


@pytest.mark.parametrize("content", [b"", bytes(40)])
def test_a_damaged_list_is_named_with_the_line_that_mends_it(tmp_path, content):
    checkpoints.check_list(tmp_path / "nothing")
    manager_of(tmp_path, saves=3)
    checkpoints.check_list(tmp_path)
    listing = tmp_path / "checkpoint"
    listing.write_bytes(content)
    with pytest.raises(InputError, match="is damaged: it names no checkpoint") as error:
        checkpoints.check_list(tmp_path)
    line = str(error.value).splitlines()[1]
    assert line == 'model_checkpoint_path: "ckpt-3"'
    listing.write_text(line + "\n")
    checkpoints.check_list(tmp_path)


def test_what_killed_saves_left_is_removed_and_no_checkpoint(tmp_path):
    manager = tf.train.CheckpointManager(tf.train.Checkpoint(v=tf.Variable(0.0)), tmp_path, max_to_keep=2)
    for _ in range(3):
        manager.save()
    kept = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert {"ckpt-2.index", "ckpt-3.index"} < set(kept) and "ckpt-1.index" not in kept
    (tmp_path / "ckpt-4_temp").mkdir()
    for name in (
        "ckpt-4_temp/part-00000-of-00001.data-00000-of-00001.tempstate1",
        "checkpoint.tmp0af3",
        "ckpt-1.data-00000-of-00001",
        "ckpt-4.index",
        "ckpt-4.data-00000-of-00001",
    ):
        (tmp_path / name).write_bytes(b"half")
    kept["notes.txt"] = b"somebody's own"
    (tmp_path / "notes.txt").write_bytes(kept["notes.txt"])
    checkpoints.sweep(manager)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == kept
    # A list that was mended by hand names one; TensorFlow's manager then lists none.
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "ckpt-3"\n')
    mended = tf.train.CheckpointManager(tf.train.Checkpoint(v=tf.Variable(0.0)), tmp_path, max_to_keep=2)
    checkpoints.sweep(mended)
    assert {path.name for path in tmp_path.iterdir()} == set(kept)


@pytest.mark.parametrize("name", ["a[1]", "a*", "what?", "a\\b"])
def test_a_name_that_tensorflow_takes_for_a_pattern_is_refused(tmp_path, monkeypatch, name):
    for directory in (tmp_path / name, tmp_path / name / "run"):
        with pytest.raises(InputError, match=r"^--run=\S+ lies at .* for a pattern of file names\. Choose"):
            checkpoints.check_name(directory, "--run")
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    with pytest.raises(InputError, match="for a pattern of file names"):
        checkpoints.check_name(Path("run"), "--run")


def test_other_names_are_as_good_as_any(tmp_path):
    directory = tmp_path / "a b]{1,2} #%20 dü 'x'"
    checkpoints.check_name(directory, "--run")
    manager = tf.train.CheckpointManager(tf.train.Checkpoint(v=tf.Variable(2.0)), directory, max_to_keep=1)
    manager.save()
    manager.save()
    assert sorted(path.name for path in directory.glob("*.index")) == ["ckpt-2.index"]
    read = tf.train.Checkpoint(v=tf.Variable(1.0))
    checkpoints.restore(read, tf.train.latest_checkpoint(directory))
    assert read.v.numpy() == 2.0

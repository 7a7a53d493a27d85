"""The training script as a user runs it: what it leaves, what it refuses, what a kill costs."""

import json
import shutil
import subprocess
import time

import numpy as np
import pytest

from tests import reference_data
from tests.pipelines import scripts

TRAIN = "pipelines/train.py"
KILLS = 20
METRICS = {
    f"{name}@{k}" for name in ("recall", "ndcg", "ndcg_hits", "ndcg_target_order", "hr") for k in (20, 50)
}


def record_of(run):
    return json.loads((run / "metrics.json").read_text(encoding="utf-8"))


def test_a_run_leaves_its_record(trained):
    record = record_of(trained.run)
    assert set(record) >= {
        *("system", "recipe", "seed", "split_seed", "dataset", "protocol", "epochs", "best_epoch"),
        *("train_examples_per_second", "validation", "test", "pop", "command", "versions"),
    }
    assert record["system"] == "causerec_item"
    assert (record["recipe"], record["seed"], record["split_seed"]) == ("paper", 0, 0)
    info = json.loads((trained.dataset / "dataset.json").read_text(encoding="utf-8"))
    assert record["dataset"] == {"name": "world", "fingerprint": info["fingerprint"]}
    assert (record["protocol"]["max_history"], record["protocol"]["exclude_seen"]) == (20, False)
    assert record["epochs"] == 2 and record["best_epoch"] in (1, 2)
    assert record["train_examples_per_second"] > 0
    for part in ("validation", "test", "pop"):
        assert set(record[part]) == METRICS
        assert all(0 <= value <= 1 for value in record[part].values())
    assert record["command"].endswith(f"train.py --flagfile={trained.flagfile}")
    assert {"tensorflow", "tf-keras", "tensorflow-recommenders"} <= set(record["versions"])


def test_a_run_leaves_its_settings_and_events(trained):
    written = (trained.run / "flags.txt").read_text().splitlines()
    assert set(scripts.flags(dataset=trained.dataset, run=trained.run)) <= set(written)
    assert list((trained.run / "events").glob("events.out.tfevents.*"))
    assert "epoch 2/2" in trained.done.stderr + trained.done.stdout
    assert "causerec_item" in trained.done.stdout and "pop" in trained.done.stdout


def test_the_same_command_prints_the_record_and_computes_nothing(trained):
    before = scripts.files_of(trained.run)
    done = scripts.run(TRAIN, f"--flagfile={trained.flagfile}")
    assert done.returncode == 0, done.stderr
    assert "is finished" in done.stdout
    assert f"{record_of(trained.run)['test']['recall@50']:.4f}" in done.stdout
    assert scripts.files_of(trained.run) == before


def test_a_finished_run_is_measured_again_for_what_its_record_lacks(tmp_path, trained):
    """As an earlier version left it; first as a trial, which must not look at the test users."""
    run, whole = tmp_path / "run", record_of(trained.run)
    shutil.copytree(trained.run, run)
    flags = [f"--flagfile={trained.flagfile}", f"--run={run}"]
    lacking = {name: part for name, part in whole.items() if name not in ("settings", "test", "pop")}
    (run / "metrics.json").write_text(json.dumps(lacking))
    (run / "test_users.npz").unlink()
    checkpoints = scripts.files_of(run / "checkpoints")
    done = scripts.run(TRAIN, *flags, "--notest")
    assert done.returncode == 0, done.stderr
    assert "lacks the settings in metrics.json: measuring it again" in done.stdout
    trial = record_of(run)
    assert not {"test", "pop"} & set(trial) and not (run / "test_users.npz").exists()
    assert trial["settings"] == whole["settings"] and trial["validation"] == whole["validation"]
    assert "validation_users" in trial["protocol"] and "test_users" not in trial["protocol"]

    done = scripts.run(TRAIN, *flags)
    assert done.returncode == 0, done.stderr
    assert "lacks the figures of the test users, test_users.npz" in done.stdout
    again = record_of(run)
    for part in ("test", "pop"):
        assert again[part] == pytest.approx(whole[part], abs=1e-6)
    with np.load(run / "test_users.npz", allow_pickle=False) as users:
        assert {name: users[name].mean() for name in users.files} == pytest.approx(whole["test"], abs=1e-5)
    assert scripts.files_of(run / "checkpoints") == checkpoints

    shutil.rmtree(run / "checkpoints")
    (run / "test_users.npz").unlink()
    done = scripts.run(TRAIN, *flags)
    scripts.assert_refused(done, "lacks test_users.npz, and has no checkpoint to measure again")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset=world", "--run=r", "--epoch=3"], "epoch"),
        (["--run=r"], "--dataset"),
        (["--dataset=world"], "--run"),
        (["--flagfile=none.flags", "--run=r", "--dataset=world"], "none.flags"),
        (["--dataset=world", "--run=r", "--method=causal"], "--method=causal"),
        (["--dataset=world", "--run=r", "--batch_size=many"], "--batch_size=many"),
        (["--dataset=world", "--run=r", "--replacement_rate=1.5"], "--replacement_rate=1.5: wanted more"),
        (["--dataset=world", "--run=r", "again"], "unexpected argument 'again'"),
        (["--dataset=nowhere", "--run=r"], "nowhere is no dataset: it has no dataset.json"),
    ],
)
def test_flags_that_cannot_be_are_refused(tmp_path, arguments, message):
    scripts.assert_refused(scripts.run(TRAIN, *arguments, cwd=tmp_path), message)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["truncated", "changed"])
def test_a_damaged_shard_is_refused_before_training(tmp_path, trained, damage):
    shutil.copytree(trained.dataset, tmp_path / "world")
    shard = next(path for path in (tmp_path / "world").glob("*train.tfrecord*") if path.stat().st_size)
    content = bytearray(shard.read_bytes())
    if damage == "truncated":
        del content[-7:]
    else:
        content[len(content) // 2] ^= 0xFF
    shard.write_bytes(content)
    done = scripts.run(TRAIN, *scripts.flags(dataset=tmp_path / "world", run=tmp_path / "run"))
    scripts.assert_refused(done, shard.name, "is damaged", "Prepare the dataset again")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("missing", ["validation", "test"])
def test_a_dataset_without_users_to_measure_on_is_refused_before_training(tmp_path, missing):
    splits = ("train", "validation", "test")
    wanted = {*splits} - {missing}

    def found(seed):
        users = (f"user-{number:06d}" for number in range(1, 7))
        return {splits[reference_data.split_and_shard(user, seed, 2)[0]] for user in users}

    seed = next(seed for seed in range(1000) if found(seed) == wanted)
    scripts.write_world(tmp_path / "world", num_users=6, split_seed=seed)
    done = scripts.run(TRAIN, *scripts.flags(dataset=tmp_path / "world", run=tmp_path / "run"))
    scripts.assert_refused(done, f"has no {missing} user", "--split_seed")
    assert not (tmp_path / "run").exists()


def test_another_dataset_or_setting_is_refused_by_a_run_that_is_there(tmp_path, trained):
    scripts.write_world(tmp_path / "other", split_seed=1)
    before = scripts.files_of(trained.run)
    flagfile = f"--flagfile={trained.flagfile}"
    done = scripts.run(TRAIN, flagfile, "--seed=1")
    scripts.assert_refused(done, "--seed=0 there, --seed=1 asked for", "Choose another --run")
    # The dataset was prepared again, in the same place, in another way.
    shutil.copytree(trained.run, tmp_path / "run")
    text = (tmp_path / "run" / "flags.txt").read_text()
    text = text.replace(str(trained.dataset), str(tmp_path / "other"))
    (tmp_path / "run" / "flags.txt").write_text(text.replace(str(trained.run), str(tmp_path / "run")))
    done = scripts.run(TRAIN, flagfile, f"--dataset={tmp_path / 'other'}", f"--run={tmp_path / 'run'}")
    scripts.assert_refused(done, "has fingerprint", "was trained on")
    assert scripts.files_of(trained.run) == before


def test_a_loss_that_is_not_finite_ends_with_one_and_says_where(tmp_path, trained):
    flags = scripts.flags(dataset=trained.dataset, run=tmp_path / "run", learning_rate=1e30)
    done = scripts.run(TRAIN, *flags)
    scripts.assert_refused(done, "not finite at step 2", "matching=", "co=", "--learning_rate", code=1)
    assert not (tmp_path / "run" / "metrics.json").exists()


@pytest.mark.long
def test_killed_twenty_times_it_ends_as_if_undisturbed(tmp_path, trained):
    """Each time at a random moment after it has got further; half of the time goes into checkpoints here."""
    import tensorflow as tf

    moments = np.random.default_rng(0).uniform(0, 0.25, KILLS)
    flags = scripts.flags(epochs=10, patience=10, checkpoint_steps=1, dataset=trained.dataset)
    done = scripts.run(TRAIN, *flags, f"--run={tmp_path / 'whole'}")
    assert done.returncode == 0, done.stderr
    killed = tmp_path / "killed"
    listing = killed / "checkpoints" / "checkpoint"
    for moment in moments:
        before = listing.stat().st_mtime_ns if listing.exists() else 0
        process = subprocess.Popen(
            scripts.command(TRAIN, *flags, f"--run={killed}"),
            env=scripts.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 120
        while not listing.exists() or listing.stat().st_mtime_ns == before:
            assert process.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.005)
        time.sleep(moment)
        process.kill()
        process.wait(timeout=30)
        assert not (killed / "metrics.json").exists()
        reader = tf.train.load_checkpoint(tf.train.latest_checkpoint(killed / "checkpoints"))
        for name in reader.get_variable_to_shape_map():
            reader.get_tensor(name)  # checks its checksum
    # By the flagfile that it left behind.
    done = scripts.run(TRAIN, f"--flagfile={killed / 'flags.txt'}")
    assert done.returncode == 0, done.stderr
    assert "going on from epoch" in done.stderr + done.stdout
    whole, resumed = record_of(tmp_path / "whole"), record_of(killed)
    for part in ("validation", "test", "pop"):
        assert resumed[part] == pytest.approx(whole[part], abs=1e-9)
    assert resumed["best_epoch"] == whole["best_epoch"]
    scores = [[epoch["validation_recall@50"] for epoch in one["by_epoch"]] for one in (resumed, whole)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-9)

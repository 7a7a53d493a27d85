"""The training script as a user runs it: what it leaves, what it refuses, what a kill costs."""

import glob
import json
import re
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from causerec_tf.data.generated import synthetic
from causerec_tf.runs import RunDirectory
from tests import reference_data, worlds
from tests.pipelines import forked, scripts

TRAIN = "pipelines/train.py"
KILLS = 20
CUTOFFS = (10, 20, 50)
METRICS = {
    f"{name}@{k}"
    for name in ("recall", "ndcg", "ndcg_hits", "ndcg_target_order", "hr", "mrr")
    for k in CUTOFFS
}
OF_LISTS = {f"{name}@{k}" for name in ("coverage", "popularity", "novelty") for k in CUTOFFS}


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
    for part in ("validation", "test", "test_without_seen", "pop"):
        assert set(record[part]) == METRICS | (OF_LISTS if part != "validation" else set())
        assert all(0 <= record[part][name] <= 1 for name in METRICS)
    assert (
        record["test"] != record["test_without_seen"] and record["pop"] == record["baselines"]["pop"]["test"]
    )
    of_seen = ["test", "test_without_seen"]
    assert {name: list(one) for name, one in record["baselines"].items()} == {
        "pop": of_seen,
        "own_past": of_seen[:1],
    }
    for key, file in zip(of_seen, ("test_users.npz", "test_users_without_seen.npz"), strict=True):
        with np.load(trained.run / file, allow_pickle=False) as users:
            assert set(users.files) == METRICS
            assert all(users[name].shape == (record["protocol"][f"{key}_users"],) for name in METRICS)
            means = {name: users[name].mean(dtype=np.float64) for name in METRICS}
        assert means == pytest.approx({name: record[key][name] for name in METRICS}, abs=1e-6)
    assert f"{record['baselines']['own_past']['test']['recall@20']:.4f}" in trained.done.stdout
    assert record["command"].endswith(f"train.py --flagfile={trained.flagfile}")
    assert {"tensorflow", "tf-keras", "tensorflow-recommenders"} <= set(record["versions"])


def test_a_run_leaves_its_settings_and_events(trained):
    written = (trained.run / "flags.txt").read_text().splitlines()
    assert set(scripts.flags(dataset=trained.dataset, run=trained.run)) <= set(written)
    assert list((trained.run / "events").glob("events.out.tfevents.*"))
    assert "epoch 2/2" in trained.done.stderr + trained.done.stdout
    assert "causerec_item" in trained.done.stdout and "pop" in trained.done.stdout


def test_a_chosen_run_is_trained_again_on_everything(tmp_path, trained):
    """The settings are those of the run; what is given beside it comes after them."""
    from causerec_tf.data.preparation import prepare
    from causerec_tf.data.splits.protocol_settings import ProtocolSettings
    from tests.data.splits.test_protocols import log_of

    draw = np.random.default_rng(1)
    rows = [(f"u{n % 40}", f"i{draw.integers(60)}", n) for n in range(400)]
    prepare(log_of(rows, {}), tmp_path / "all", protocol=ProtocolSettings("none"), num_shards=1)
    flags = [f"--dataset={tmp_path / 'all'}", f"--run={tmp_path / 'run'}"]
    done = scripts.run(TRAIN, *flags, f"--like={trained.run}", "--seed=5")
    assert done.returncode == 0, done.stderr
    record, chosen = record_of(tmp_path / "run"), record_of(trained.run)
    assert record["epochs"] == record["settings"]["stop_after"] == chosen["best_epoch"]
    asked = {"seed": 5, "stop_after": chosen["best_epoch"]}
    assert record["settings"] == chosen["settings"] | asked
    assert "test" not in record and "validation" not in record
    again = scripts.run(TRAIN, *flags, f"--like={trained.run}", "--seed=5")
    assert again.returncode == 0 and "is finished" in again.stdout
    refused = scripts.run(TRAIN, *flags, f"--like={trained.run}", "--patience=4")
    assert refused.returncode == 2
    assert "--patience=4 has no effect here: it acts with --stop_after=0" in refused.stderr
    refused = scripts.run(
        TRAIN, f"--dataset={trained.dataset}", f"--run={tmp_path / 'b'}", f"--like={trained.run}"
    )
    assert refused.returncode == 2 and "is split by users" in refused.stderr


# Trains, and asks at each of the two writings of a run whether its lock is held.
WATCHED = """
import runpy, sys
from causerec_tf import files, runs
from causerec_tf.errors import InputError

def watched(write):
    def in_lock(path, value):
        try:
            with runs.RunDirectory(path.parent).locked():
                print(f"{path.name} outside the lock")
        except InputError as error:
            print(f"{path.name}: {error}")
        write(path, value)
    return in_lock

files.write_text, files.write_json = watched(files.write_text), watched(files.write_json)
sys.argv[:2] = [sys.argv[1]]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_one_process_has_a_run_from_its_settings_to_its_record(tmp_path, trained):
    run = tmp_path / "run"
    flags = [f"--flagfile={trained.flagfile}", f"--run={run}", "--epochs=1", "--notest", "--method=base"]
    done = scripts.run_code(WATCHED, scripts.ROOT / TRAIN, *flags)
    assert done.returncode == 0, done.stderr
    busy = f"{run} is being trained by another process. Wait for it."
    for name in ("dataset.txt", "flags.txt", "metrics.json"):
        assert f"{name}: {busy}" in done.stdout
    assert "outside" not in done.stdout
    with RunDirectory(tmp_path / "new").locked():
        done = scripts.run(TRAIN, f"--flagfile={trained.flagfile}", f"--run={tmp_path / 'new'}")
        scripts.assert_refused(done, f"{tmp_path / 'new'} is being trained by another process")
        assert [path.name for path in (tmp_path / "new").iterdir()] == [".lock"]


def test_the_same_command_prints_the_record_and_computes_nothing(trained):
    before = scripts.files_of(trained.run)
    done = scripts.run(TRAIN, f"--flagfile={trained.flagfile}")
    assert done.returncode == 0, done.stderr
    assert "is finished" in done.stdout
    assert f"{record_of(trained.run)['test']['recall@50']:.4f}" in done.stdout
    assert scripts.files_of(trained.run) == before


def test_a_finished_run_without_its_best_epoch_is_told(tmp_path, trained):
    run = tmp_path / "run"
    shutil.copytree(trained.run, run)
    for part in (run / "best").glob("*.data*"):
        part.write_bytes(part.read_bytes()[:100])
    done = scripts.run(TRAIN, f"--flagfile={trained.flagfile}", f"--run={run}")
    scripts.assert_refused(done, "cannot be read", f"Remove the whole directory {run} and run")
    assert "is finished" not in done.stdout


@pytest.mark.long
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
        (["--dataset=world", "--run="], "--run= names nothing: wanted a directory"),
        (["--dataset=", "--run=r"], "--dataset= names nothing: wanted a directory"),
    ],
)
def test_flags_that_cannot_be_are_refused(tmp_path, arguments, message):
    scripts.assert_refused(scripts.run(TRAIN, *arguments, cwd=tmp_path), message)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_no_run_is_left_alone(tmp_path, trained):
    """Such as the dataset's, which --overwrite of pipelines/prepare.py would remove with the run in it."""
    shutil.copytree(trained.dataset, tmp_path / "world")
    (tmp_path / "shop.csv").write_text("a log")
    before = scripts.files_of(tmp_path)
    done = scripts.run(TRAIN, *scripts.flags(dataset=tmp_path / "world", run=tmp_path / "shop.csv"))
    scripts.assert_refused(done, "shop.csv is a file. Choose another --run")
    done = scripts.run(TRAIN, *scripts.flags(dataset=tmp_path / "world", run=tmp_path / "world"))
    scripts.assert_refused(done, "world is not empty and no run: it has dataset.json", "Choose another --run")
    assert scripts.files_of(tmp_path) == before


@pytest.mark.parametrize("damage", ["truncated", pytest.param("changed", marks=pytest.mark.long)])
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


@pytest.mark.parametrize("missing", ["validation", pytest.param("test", marks=pytest.mark.long)])
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


@pytest.mark.long
def test_a_loss_that_is_not_finite_ends_with_one_and_says_where(tmp_path, trained):
    flags = scripts.flags(dataset=trained.dataset, run=tmp_path / "run", learning_rate=1e30)
    done = scripts.run(TRAIN, *flags)
    scripts.assert_refused(done, "not finite at step 2", "matching=", "co=", "--learning_rate", code=1)
    assert not (tmp_path / "run" / "metrics.json").exists()


@pytest.mark.long
def test_a_warm_start_takes_the_next_day_on(tmp_path, trained):
    """Old items keep their rows, new ones have some; told from vocabularies and checkpoints alone."""
    yesterday = synthetic.generate(num_users=400, **scripts.WORLD).events()
    gone = yesterday["item"].value_counts().sort("count")["item"][0]
    kept = yesterday.filter(pl.col("item") != gone)
    later = int(yesterday["time"].max()) + 1
    # Every old user meets a new item, and users come who have old and new ones.
    meets = kept.select("user").unique().with_columns(item=pl.lit("fresh-1"), time=pl.lit(later, pl.Int64))
    come = kept.filter(pl.col("user").is_in(kept["user"].unique().sort()[:50].implode()))
    come = come.with_columns(user="late-" + pl.col("user"), time=pl.col("time") + 1)
    ends = come.select("user").unique().with_columns(item=pl.lit("fresh-2"), time=pl.lit(later + 1, pl.Int64))
    worlds.write_events(pl.concat([kept, meets, come, ends]), tmp_path / "today")

    # So short a step leaves the rows where the start has put them.
    asked = {"epochs": 1, "learning_rate": 1e-12, "dataset": tmp_path / "today", "run": tmp_path / "run"}
    done = scripts.run(TRAIN, *scripts.flags(**asked, warm_start=trained.run))
    assert done.returncode == 0, done.stderr
    there, here = (_ids_of(dataset) for dataset in (trained.dataset, tmp_path / "today"))
    assert set(there) - set(here) == {gone} and set(here) - set(there) == {"fresh-1", "fresh-2"}
    best = record_of(trained.run)["best_epoch"]
    old, new = _best_table(trained.run, best), _best_table(tmp_path / "run", 1)
    assert old.shape[0] == len(there) + 1 and new.shape[0] == len(here) + 1
    both = [item for item in here if item in there]
    assert [here.index(item) for item in both] != [there.index(item) for item in both]
    kept_rows = new[[here.index(item) + 1 for item in both]]
    np.testing.assert_allclose(kept_rows, old[[there.index(item) + 1 for item in both]], atol=1e-8)
    fresh_rows = new[[here.index(item) + 1 for item in ("fresh-1", "fresh-2")]]
    lengths = np.linalg.norm(kept_rows, axis=1).mean()
    np.testing.assert_allclose(np.linalg.norm(fresh_rows, axis=1), lengths, rtol=1e-4)

    start = record_of(tmp_path / "run")["warm_start"]
    assert (start["run"], start["epoch"], start["is_finished"]) == (str(trained.run), best, True)
    assert start["items"] == {"kept": 119, "new_from_histories": 2, "new_at_random": 0, "gone": 1}
    assert f"starting from epoch {best} of {trained.run}: 119 items keep their vectors" in done.stdout
    assert f"--warm_start={trained.run}" in (tmp_path / "run" / "flags.txt").read_text().splitlines()


def _ids_of(dataset):
    return (dataset / "items.txt").read_text(encoding="utf-8").splitlines()


def _best_table(run, epoch):
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(run / "best" / f"ckpt-{epoch}"))
    return reader.get_tensor("item_tower/table/.ATTRIBUTES/VARIABLE_VALUE")


class _Watched:
    """What an observer sees of a run that is being trained, against what it was when the watch began."""

    def __init__(self, run, steps, epochs):
        self._run, self._steps, self._epochs = run, steps, epochs
        self._number, self._best = self.number, self._changed("best/checkpoint")
        self._users, self._left = self._changed("test_users.npz"), self._being_saved()

    @property
    def number(self):
        """Of the last checkpoint that is listed: the steps that are kept, or 0."""
        try:
            listed = (self._run / "checkpoints" / "checkpoint").read_text()
        except FileNotFoundError:
            return 0
        return int(re.search(r'^model_checkpoint_path: "ckpt-(\d+)"', listed, re.MULTILINE)[1])

    def has_started(self):
        return True

    def has_trained(self):
        return self.number > self._number

    def is_saving(self):
        return any("checkpoints" in path.parts for path in self._being_saved() - self._left)

    def evaluates_after_the_next_step(self):
        # A checkpoint follows each step, that of an epoch's last step its evaluation.
        return self.has_trained() and self.number % self._steps == self._steps - 1

    def has_kept_a_best_epoch(self):
        saves = any("best" in path.parts for path in self._being_saved() - self._left)
        return saves or self._changed("best/checkpoint") != self._best

    def has_finished_the_epochs(self):
        return self.number == self._steps * self._epochs

    def has_written_the_users(self):
        begun = self._run / ".test_users.npz.unfinished" / "new"
        return begun.exists() or self._changed("test_users.npz") != self._users

    def _being_saved(self):
        # Their names are drawn anew at each save: what a kill has left is told from what is written now.
        # Unlike that of Path, this glob takes it as it comes that a directory goes while it looks into it.
        return {*map(Path, glob.glob(f"{self._run}/*/ckpt-*_temp/*.tempstate*"))}  # noqa: PTH207

    def _changed(self, name):
        path = self._run / name
        return path.stat().st_mtime_ns if path.exists() else 0


# One after another; within each in random order: what is waited for, seconds after it within which the kill
# falls, how often. None: as long as an undisturbed run takes to its first checkpoint.
_STAGES = [
    [(_Watched.has_started, None, 2)],  # there is nothing yet
    [(_Watched.has_kept_a_best_epoch, 0.1, 2)],  # the first epoch is the best so far whatever it gives
    [
        (_Watched.has_started, None, 2),
        (_Watched.has_trained, 0.3, 5),
        (_Watched.is_saving, 0.003, 5),
        (_Watched.evaluates_after_the_next_step, 1.0, 3),
    ],
    [(_Watched.has_finished_the_epochs, 0.3, 1), (_Watched.has_written_the_users, 0, 2)],
]


def _moments(random, start_up):
    for stage in _STAGES:
        planned = [(event, most) for event, most, count in stage for _ in range(count)]
        for place in random.permutation(len(planned)):
            event, most = planned[place]
            yield event, random.uniform(0, start_up if most is None else most)


def _assert_whole(run):
    """Nothing that a reader could meet is half-written; to the last byte, by its checksums."""
    import tensorflow as tf

    for directory in (run / "checkpoints", run / "best"):
        last = tf.train.latest_checkpoint(directory)
        assert last or not (directory / "checkpoint").exists()
        if last:
            reader = tf.train.load_checkpoint(last)
            for name in reader.get_variable_to_shape_map():
                reader.get_tensor(name)
    if (run / "test_users.npz").exists():
        with np.load(run / "test_users.npz", allow_pickle=False) as users:
            assert set(users.files) == METRICS
    if (run / "metrics.json").exists():
        record_of(run)


def test_a_run_that_is_told_to_end_says_what_it_keeps(tmp_path, trained):
    info = json.loads((trained.dataset / "dataset.json").read_text(encoding="utf-8"))
    steps = -(-info["counts"]["training_windows"] // scripts.SMALL["batch_size"])
    run, log = tmp_path / "run", tmp_path / "log"
    flags = [f"--flagfile={trained.flagfile}", f"--run={run}", "--method=base"]
    flags += ["--epochs=500", "--patience=500", "--checkpoint_steps=1"]
    process, watched = forked.start(TRAIN, *flags, log=log), _Watched(run, steps, 500)
    while process.exitcode is None and watched.number <= steps:
        time.sleep(0.01)
    process.terminate()
    process.join()
    said = log.read_text().splitlines()
    assert process.exitcode == 143, said
    epochs, more = divmod(watched.number, steps)
    done = f"{epochs} of 500 epochs" + (f" and {more} steps of the next" if more else "")
    assert said[-1] == (
        f"stopped by SIGTERM: the last checkpoint in {run} has {done}; the same command goes on from there"
    )


@pytest.mark.long
def test_killed_twenty_times_it_ends_as_if_undisturbed(tmp_path):
    """At random moments of every phase: start-up, steps, checkpoints, evaluation, best epoch, record.

    Every life is the same script with the same flags; TensorFlow is imported before it, but for the last.
    """
    epochs = 6
    dataset = scripts.write_world(tmp_path / "world", num_users=200)
    flags = scripts.flags(epochs=epochs, patience=epochs, checkpoint_steps=1, dataset=tmp_path / "world")
    steps = -(-dataset.num_training_windows // scripts.SMALL["batch_size"])
    whole, killed, log = tmp_path / "whole", tmp_path / "killed", tmp_path / "log"

    process = forked.start(TRAIN, *flags, f"--run={whole}", log=log)
    began = time.monotonic()
    while process.exitcode is None and not (whole / "checkpoints" / "checkpoint").exists():
        time.sleep(0.01)
    start_up = time.monotonic() - began
    process.join()
    assert process.exitcode == 0, log.read_text()

    kept, kills = 0, Counter()
    for event, after in _moments(np.random.default_rng(0), start_up):
        watched = _Watched(killed, steps, epochs)
        process = forked.start(TRAIN, *flags, f"--run={killed}", log=log)
        deadline = time.monotonic() + 600
        while process.exitcode is None and not event(watched):
            assert time.monotonic() < deadline, f"waited for {event.__name__}"
            time.sleep(0.0005)
        time.sleep(after)
        process.kill()
        process.join()
        if process.exitcode == 0:
            # The record follows the users' figures within milliseconds: this life may have been too short.
            assert event is _Watched.has_written_the_users
            break
        assert process.exitcode == -signal.SIGKILL, log.read_text()
        kills[event.__name__] += 1
        _assert_whole(killed)
        assert watched.number >= kept, "a checkpoint was lost"
        kept = watched.number
    assert kills.total() >= KILLS, kills

    # By the flagfile that it left behind.
    done = scripts.run(TRAIN, f"--flagfile={killed / 'flags.txt'}")
    assert done.returncode == 0, done.stderr
    assert "going on from epoch" in done.stderr + done.stdout
    undisturbed, resumed = record_of(whole), record_of(killed)
    for part in ("validation", "test", "pop"):
        assert resumed[part] == pytest.approx(undisturbed[part], abs=1e-9)
    assert resumed["best_epoch"] == undisturbed["best_epoch"]
    scores = [[epoch["validation_recall@50"] for epoch in one["by_epoch"]] for one in (resumed, undisturbed)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-9)
    for directory in ("checkpoints", "best"):
        assert {*scripts.files_of(killed / directory)} == {*scripts.files_of(whole / directory)}

"""The evaluation script as a user runs it, beside figures worked out user by user."""

import json
import shutil

import numpy as np
import pytest

from causerec_tf.data.sequences import open_dataset
from tests import reference
from tests.pipelines import scripts

EVALUATE = "pipelines/evaluate.py"
NAMES = ("recall", "ndcg", "ndcg_hits", "ndcg_target_order", "hr")


def popular(dataset, split, *, exclude_seen):
    """POP's figures from the definitions: the vocabulary's order, the first 80 % of each user."""
    values = []
    for items in dataset.read(split).rows():
        if len(items) < 2:
            continue
        cut = max(1, len(items) * 8 // 10)
        seen, targets = items[:cut].tolist(), list(dict.fromkeys(items[cut:].tolist()))
        ranked = range(1, dataset.num_items + 1)
        if exclude_seen:
            ranked, targets = ([item for item in items if item not in seen] for items in (ranked, targets))
            if not targets:
                continue
        values.append(
            {
                f"{name}@{k}": value
                for k in (20, 50)
                for name, value in reference.ranking_metrics(list(ranked), targets, k).items()
            }
        )
    return {name: np.mean([one[name] for one in values]) for name in values[0]}, len(values)


@pytest.mark.parametrize(
    ("split", "flags"), [("validation", []), ("test", []), ("test", ["--exclude_seen"])], ids=str
)
def test_a_record_for_each_split_and_policy(tmp_path, trained, split, flags):
    output = tmp_path / "made" / "record.json"
    per_user = tmp_path / "users.npz"
    files = [f"--output={output}", f"--per_user={per_user}"]
    done = scripts.run(EVALUATE, f"--run={trained.run}", f"--split={split}", *files, *flags)
    assert done.returncode == 0, done.stderr
    record = json.loads(output.read_text(encoding="utf-8"))
    kept = json.loads((trained.run / "metrics.json").read_text(encoding="utf-8"))
    pop, users = popular(open_dataset(trained.dataset), split, exclude_seen=bool(flags))
    assert record["pop"] == pytest.approx(pop)
    assert record["protocol"][f"{split}_users"] == users
    assert record["protocol"]["exclude_seen"] is bool(flags)
    with np.load(per_user, allow_pickle=False) as of_users:
        means = {name: of_users[name].mean(dtype=np.float64) for name in of_users.files}
        assert all(of_users[name].shape == (users,) for name in of_users.files)
    assert means == pytest.approx(record[split], abs=1e-6)
    assert {f"{name}@{k}" for name in NAMES for k in (20, 50)} == set(record[split])
    if flags:
        # Who leaves the seen out has other lists, targets and figures.
        assert record[split] != pytest.approx(kept[split])
    else:
        # What training measured on the best epoch, from the model that was kept.
        assert record[split] == pytest.approx(kept[split], abs=1e-6)
    for name in ("system", "recipe", "seed", "split_seed", "dataset", "versions"):
        assert record[name] == kept[name]
    assert f"{split} users" in done.stdout and f"{record[split]['ndcg@50']:.4f}" in done.stdout
    policy = "seen items left out" if flags else "seen items kept"
    assert policy in done.stdout
    assert [path.name for path in output.parent.iterdir()] == ["record.json"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "--run"),
        (["--run=r", "--splt=test"], "splt"),
        (["--run=r", "--split=train"], "--split=train"),
        (["--run=r", "--output=there.json"], "there.json exists: choose another --output"),
        (["--run=r", "--per_user=there.json"], "there.json exists: choose another --per_user"),
        (["--run=r", "--disturbed=0.3,2"], "--disturbed=0.3,2: wanted different numbers above 0, at most 1"),
        (["--run=r", "--disturbed=0.3", "--exclude_seen"], "--disturbed with --exclude_seen"),
        (["--run=r"], "is missing: r is not the directory of a run"),
    ],
)
def test_bad_input_ends_with_two_and_leaves_all_as_it_was(tmp_path, flags, message):
    (tmp_path / "there.json").write_text("mine")
    scripts.assert_refused(scripts.run(EVALUATE, *flags, cwd=tmp_path), message)
    assert [path.name for path in tmp_path.iterdir()] == ["there.json"]
    assert (tmp_path / "there.json").read_text() == "mine"


def test_disturbed_histories_are_measured_as_the_script_for_several_runs_does(tmp_path, trained):
    flags = [f"--run={trained.run}", "--split=validation", f"--output={tmp_path / 'record.json'}"]
    done = scripts.run(EVALUATE, *flags, "--disturbed=0.2,0.5")
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "record.json").read_text(encoding="utf-8"))
    several = [f"--runs={trained.run}", "--split=validation", f"--output={tmp_path / 'several'}"]
    assert scripts.run("pipelines/robustness.py", *several, "--rates=0.2,0.5").returncode == 0
    wanted = json.loads((tmp_path / "several" / "robustness.json").read_text(encoding="utf-8"))
    [system] = wanted["systems"].values()
    assert record["disturbed"]["clicks_sha256"] == system["clicks_sha256"]
    for ours, theirs in zip(record["disturbed"]["conditions"], system["conditions"], strict=True):
        assert ours == {name: value for name, value in theirs.items() if name != "change_minus_first"}
        assert f"{ours['values']['recall@50']['mean']:.4f}" in done.stdout


def test_a_run_is_measured_from_another_directory(tmp_path, trained):
    """Its flagfile has relative paths, as the README's commands write them."""
    shutil.copytree(trained.run, tmp_path / "run")
    text = (tmp_path / "run" / "flags.txt").read_text()
    (tmp_path / "run" / "flags.txt").write_text(text.replace(str(trained.dataset), "datasets/world"))
    done = scripts.run(EVALUATE, "--run=run", cwd=tmp_path)
    scripts.assert_refused(done, "is no dataset", "stands in run/flags.txt", "name its place with --dataset")
    done = scripts.run(EVALUATE, "--run=run", f"--dataset={trained.dataset}", "--output=r.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    kept = json.loads((trained.run / "metrics.json").read_text(encoding="utf-8"))
    record = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert record["test"] == pytest.approx(kept["test"], abs=1e-6)


@pytest.mark.long
def test_a_run_is_measured_on_its_own_dataset_only(tmp_path, trained):
    """The dataset was prepared again in its place, or is gone, or the best epoch is."""
    run = tmp_path / "run"
    shutil.copytree(trained.run, run)
    flags = (run / "flags.txt").read_text()
    (run / "flags.txt").write_text(flags.replace(str(trained.dataset), str(tmp_path / "other")))
    arguments = [f"--run={run}", f"--output={tmp_path / 'record.json'}"]
    scripts.assert_refused(scripts.run(EVALUATE, *arguments), "other is no dataset")
    scripts.write_world(tmp_path / "other", split_seed=1)
    scripts.assert_refused(scripts.run(EVALUATE, *arguments), "has fingerprint", "was trained on")

    (run / "flags.txt").write_text(flags)
    shutil.rmtree(run / "best")
    scripts.assert_refused(scripts.run(EVALUATE, *arguments), "has lost the checkpoint of the best epoch")
    assert not (tmp_path / "record.json").exists()

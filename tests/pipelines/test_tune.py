"""Tuning: the search by hand, plans that cannot be, and two systems as a user tunes them, run again."""

import dataclasses
import json
from pathlib import Path

import pytest

from causerec_tf.errors import InputError
from causerec_tf.settings import Settings
from pipelines.comparison import tuning
from tests.pipelines import scripts

PLAN = """
dataset = "{place}/world"
[flags]
epochs = 1
[stages]
rate = [{{ learning_rate = 0.01 }}, {{ learning_rate = 0.0001 }}]
similarity = [{{ similarity = "cosine", temperature = 0.1 }}]
weights = [{{ lambda_co = 0.1 }}, {{ lambda_co = 0.0 }}, {{ lambda_ii = 0.1 }}]
[[systems]]
flagfile = "{place}/base.flags"
stages = ["rate", "similarity"]
[[systems]]
flagfile = "{place}/item.flags"
stages = ["weights"]
"""


def write_plan(place, text=PLAN):
    for method in ("base", "item"):
        lines = scripts.flags(method=method, dataset="elsewhere", run="elsewhere")
        (place / f"{method}.flags").write_text("".join(line + "\n" for line in lines))
    (place / "plan.toml").write_text(text.format(place=place))
    return place / "plan.toml"


def test_the_search_keeps_the_best_so_far_and_changes_one_stage_at_a_time(tmp_path):
    plan = tuning.read_plan(write_plan(tmp_path))
    asked, scores = [], iter([0.5, 0.4, 0.7, 0.7])

    def train(runs):
        asked.append([(run.name, run.settings.learning_rate, run.settings.similarity) for run in runs])
        return [{"validation": {"recall@50": next(scores)}} for _ in runs]

    trials = tuning.search(plan, plan.systems[0], tmp_path / "runs", train)
    start = Settings.learning_rate
    assert asked == [
        [("base.trial_0-tuned-0", start, "dot")],
        [("base.trial_1-tuned-0", 0.01, "dot"), ("base.trial_2-tuned-0", 0.0001, "dot")],
        [("base.trial_3-tuned-0", 0.0001, "cosine")],
    ]
    assert [trial.score for trial in trials] == [0.5, 0.4, 0.7, 0.7]
    assert trials[3].tried == {"similarity": "cosine", "temperature": 0.1}
    assert trials[3].changes == {"learning_rate": 0.0001, "similarity": "cosine", "temperature": 0.1}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('stages = ["rate", "similarity"]', 'stages = ["rate"]', "the same number of trials, got .* 3, .* 4"),
        ('stages = ["weights"]', 'stages = ["weight"]', "stage 'weight': wanted one of rate, similarity"),
        ("{place}/item.flags", "{place}/none.flags", "there is no flagfile .*none.flags"),
        ("[flags]\nepochs = 1", 'seed = "1"', "seed = '1'"),
    ],
)
def test_plans_that_cannot_be(tmp_path, old, new, message):
    assert old in PLAN
    with pytest.raises(InputError, match=message):
        tuning.read_plan(write_plan(tmp_path, PLAN.replace(old, new)))


def test_plans_of_this_repository_are_whole(monkeypatch):
    monkeypatch.chdir(scripts.ROOT)
    for path in (scripts.ROOT / "configs" / "tuning").glob("*.toml"):
        assert tuning.read_plan(path).systems


def test_a_plan_that_was_changed_is_refused_before_anything_runs(tmp_path, trained):
    """Of every system as far as its trials are known: here a second stage of one, the first of the other."""
    from causerec_tf.data.sequences import open_dataset
    from causerec_tf.runs import RunDirectory

    write_plan(tmp_path)
    (tmp_path / "world").symlink_to(trained.dataset)
    plan, dataset = tuning.read_plan(tmp_path / "plan.toml"), open_dataset(tmp_path / "world")
    runs, output = tmp_path / "runs", tmp_path / "output"
    output.mkdir()

    def leave(run, **changes):
        """A record where nothing is changed, else the directory of a run that was begun."""
        settings = dataclasses.replace(run.settings, **changes)
        if changes:
            RunDirectory(Path(settings.run)).start(settings, dataset)
            return {"validation": {"recall@50": 0.1}}
        own = dataclasses.asdict(settings) | {"run": "", "dataset": ""}
        about = {"name": "world", "fingerprint": dataset.fingerprint}
        record = {"settings": own, "dataset": about, "validation": {"recall@50": 0.1}}
        (output / f"{run.name}.json").write_text(json.dumps(record))
        return record

    def first(planned):
        return [leave(run, **({"epochs": 7} if "trial_2" in run.name else {})) for run in planned]

    tuning.search(plan, plan.systems[0], runs, first)
    tuning.search(plan, plan.systems[1], runs, lambda planned: [leave(run, seed=8) for run in planned])
    before = scripts.files_of(tmp_path)
    done = scripts.run(
        *("pipelines/tune.py", f"--plan={tmp_path / 'plan.toml'}", f"--output={output}", f"--runs={runs}")
    )
    there = runs / "world"
    scripts.assert_refused(
        done,
        f"  {there / 'base.trial_2-tuned-0'}: --epochs=7 there, --epochs=1 asked for\n"
        f"  {there / 'causerec_item.trial_0-tuned-0'}: --seed=8 there, --seed=0 asked for\n",
        "choose another --output and --runs; or remove",
    )
    assert "system 1 of 2" not in done.stdout and scripts.files_of(tmp_path) == before


@pytest.mark.long
def test_a_system_is_tuned_and_a_second_time_nothing_is_trained(tmp_path):
    scripts.write_world(tmp_path / "world")
    # One system and one stage: two trials.
    one_system = PLAN.split('[[systems]]\nflagfile = "{place}/item')[0].replace('"rate", ', "")
    write_plan(tmp_path, one_system)
    places = [f"--{name}={tmp_path / name}" for name in ("output", "runs")]
    command = ["pipelines/tune.py", f"--plan={tmp_path / 'plan.toml'}", *places]
    done = scripts.run(*command)
    assert done.returncode == 0, done.stdout + done.stderr
    records = [
        json.loads((tmp_path / "output" / f"base.trial_{number}-tuned-0.json").read_text())
        for number in (0, 1)
    ]
    assert all("test" not in record and "pop" not in record for record in records)
    scores = [record["validation"]["recall@50"] for record in records]
    page = (tmp_path / "output" / "tuning.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith(("| 0 |", "| 1 |"))]
    for row, score in zip(rows, scores, strict=True):
        assert f"| {score:.4f} |" in row and ("**kept**" in row) == (score == max(scores))
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("metrics.json")}
    assert len(times) == 2
    again = scripts.run(*command)
    assert again.returncode == 0
    assert times == {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("metrics.json")}
    assert (tmp_path / "output" / "tuning.md").read_text(encoding="utf-8") == page

"""Comparisons as a user makes them: a plan of two systems and two seeds, stopped, changed, run again."""

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from causerec_tf.errors import InputError
from pipelines.comparison import plan as plans
from pipelines.comparison import running
from tests.pipelines import scripts

COMPARE = "pipelines/compare.py"
NAMES = [f"{system}-paper-{seed}" for system in ("base", "youtube_dnn.light") for seed in (0, 1)]

OF_LISTS = ("coverage", "popularity", "novelty")

PLAN = """
dataset = "{place}/world"
baseline = "base"
paper = "{place}/paper.toml"
[flags]
epochs = 1
[settings.narrow]
embedding_dim = 16
[[rows]]
flagfile = "{place}/base.flags"
recipe = "paper"
seeds = [1, 0]
[[rows]]
flagfile = "{place}/youtube.flags"
variant = "light"
flags = {{ learning_rate = 0.01 }}
seeds = [0, 1]
"""
PAPER = """
source = "a paper"
[systems."youtube_dnn.light"]
"recall@20" = 0.0
"recall@50" = 1.0
"ndcg_target_order@20" = 0.0
"ndcg_target_order@50" = 1.0
"hr@20" = 0.0
"hr@50" = 1.0
[systems.mind]
"recall@20" = 0.1
"recall@50" = 0.1
"ndcg_target_order@20" = 0.1
"ndcg_target_order@50" = 0.1
"hr@20" = 0.1
"hr@50" = 0.1
"""


def write_plan(place, text=PLAN):
    for name, tower in (("base", "mean"), ("youtube", "youtube_dnn")):
        lines = scripts.flags(method="base", tower=tower, dataset="elsewhere", run="elsewhere")
        (place / f"{name}.flags").write_text("# small\n" + "".join(line + "\n" for line in lines))
    (place / "paper.toml").write_text(PAPER)
    (place / "plan.toml").write_text(text.format(place=place))
    return place / "plan.toml"


def compare(place, *flags):
    arguments = [f"--plan={place / 'plan.toml'}", f"--output={place / 'out'}", f"--runs={place / 'runs'}"]
    return scripts.run(COMPARE, *arguments, *flags)


BY_COMMAND = NAMES[1]


@pytest.fixture(name="compared", scope="module")
def fixture_compared(tmp_path_factory):
    """The place in which the plan was run, and what the command printed, which trained the last run."""
    from causerec_tf.train_run import train_run
    from pipelines.comparison import results

    place = tmp_path_factory.mktemp("compared")
    dataset = scripts.write_world(place / "world")
    plan = plans.read_plan(write_plan(place), place / "runs")
    for run in plan.runs:
        if run.name != BY_COMMAND:
            train_run(run.settings, dataset)
            results.store(place / "out", run, dataset, plan)
    done = compare(place)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 runs on world, 3 of them done" in done.stdout
    return place, done


def record_of(place, name):
    return json.loads((place / "out" / f"{name}.json").read_text(encoding="utf-8"))


def cells_of(place, start):
    """The cells of the first line of the page that starts so."""
    lines = (place / "out" / "comparison.md").read_text(encoding="utf-8").splitlines()
    line = next(line for line in lines if line.startswith(start))
    return [cell.strip() for cell in line.strip("|").split("|")]


def printed(value):
    return f"{value:.4f}".removeprefix("0")


def test_each_run_leaves_its_record_and_the_figures_of_its_users(compared):
    place, done = compared
    for name in NAMES:
        record = record_of(place, name)
        assert record == json.loads((place / "runs" / "world" / name / "metrics.json").read_text())
        system, _, seed = name.split("-")
        assert (record["system"], record.get("variant", "")) == tuple(f"{system}.".split(".")[:2])
        assert record["seed"] == int(seed) and record["settings"]["epochs"] == record["epochs"] == 1
        assert not {"run", "dataset"} & set(record["settings"])
        with np.load(place / "out" / "per_user" / f"{name}.npz", allow_pickle=False) as users:
            # All but what is of all lists together.
            of_lists = {name for name in record["test"] if name.split("@")[0] in OF_LISTS}
            assert set(users.files) == set(record["test"]) - of_lists and len(of_lists) == 9
            for metric in users.files:
                assert users[metric].dtype == np.float32
                assert users[metric].shape == (record["protocol"]["test_users"],)
                assert users[metric].mean(dtype=np.float64) == pytest.approx(record["test"][metric], abs=1e-6)
        told = f"{name}: test recall@50 {record['test']['recall@50']:.4f}"
        assert (told in done.stdout) == (name == BY_COMMAND)
    assert "epoch 1/1" in (place / "runs" / "world" / f"{BY_COMMAND}.log").read_text()
    assert record_of(place, NAMES[2])["settings"]["learning_rate"] == 0.01
    assert (place / "out" / "comparison.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.long
def test_runs_side_by_side_leave_the_same_records(compared, tmp_path):
    place, _ = compared
    shutil.copytree(place / "world", tmp_path / "world")
    write_plan(tmp_path)
    done = compare(tmp_path, "--jobs=2")
    assert done.returncode == 0, done.stdout + done.stderr
    for name in NAMES:
        record, other = (record_of(one, name) for one in (tmp_path, place))
        assert record["settings"] == other["settings"]
        assert record["test"] == pytest.approx(other["test"], abs=1e-3)
        assert f"{name}: test recall@50 {record['test']['recall@50']:.4f}" in done.stdout
        assert "epoch 1/1" in (tmp_path / "runs" / "world" / f"{name}.log").read_text()


def test_the_page_holds_what_the_records_and_users_give(compared):
    place, _ = compared
    base, light = ([record_of(place, name) for name in pair] for pair in (NAMES[:2], NAMES[2:]))
    cells = cells_of(place, "| `youtube_dnn.light` | paper | 2 |")
    for cell, metric in zip(
        cells[3:9], ("recall@20", "recall@50", "ndcg@20", "ndcg@50", "hr@20", "hr@50"), strict=True
    ):
        first, second = (record["test"][metric] for record in light)
        # The sample deviation of two numbers is their distance over the root of 2.
        assert cell == f"{printed((first + second) / 2)} ± {printed(abs(first - second) / 2**0.5)}"
    assert cells_of(place, "| pop |")[3] == printed(base[0]["pop"]["recall@20"])

    means = [np.mean([one["test"]["recall@50"] for one in records]) for records in (light, base)]
    cells = cells_of(place, "| `youtube_dnn.light` | paper | Recall@50 |")
    assert cells[3] == "0, 1"
    assert float(cells[4]) == pytest.approx(means[0] - means[1], abs=6e-5)
    assert cells[5] == f"{means[0] / means[1] - 1:+.1%}"
    low, high = (float(bound) for bound in cells[6].split(" to "))
    assert low < means[0] - means[1] < high
    assert len(cells[8].split(", ")) == 2

    # Only what the paper has higher is marked, and what it has and we have not is named.
    lines = (place / "out" / "comparison.md").read_text().split("## Beside the paper")[1].splitlines()
    ours = next(line for line in lines if line.startswith("| `youtube_dnn.light`"))
    assert [cell.strip().endswith("▼") for cell in ours.strip("| ").split("|")[2:]] == [False, True] * 3
    assert "without a figure here: `mind`" in "\n".join(lines)


@pytest.mark.long
def test_what_is_done_is_not_computed_again(compared):
    place, _ = compared
    made = ("comparison.md", "comparison.png")

    def state():
        return {name: found for name, found in scripts.files_of(place).items() if name.name not in made}

    before, page = state(), (place / "out" / "comparison.md").read_bytes()
    done = compare(place, "--jobs=2")
    assert done.returncode == 0 and "4 runs on world, 4 of them done" in done.stdout, done.stderr
    assert state() == before
    assert (place / "out" / "comparison.md").read_bytes() == page

    (place / "out" / f"{NAMES[1]}.json").unlink()
    shutil.rmtree(place / "runs" / "world" / NAMES[1])
    done = compare(place, "--table_only")
    assert done.returncode == 0, done.stderr
    assert cells_of(place, "| `base` |")[2] == "1 of 2"
    done = compare(place, "--jobs=2")
    assert done.returncode == 0, done.stdout + done.stderr
    after = state()
    changed = {str(name) for name in after if after[name] != before.get(name)}
    assert changed and all(NAMES[1] in name for name in changed)
    assert (place / "out" / "comparison.md").read_bytes() == page


def test_results_of_other_settings_or_data_are_refused(compared, tmp_path):
    from causerec_tf.data.sequences import open_dataset
    from pipelines.comparison import results

    place, _ = compared
    plan = plans.read_plan(place / "plan.toml", place / "runs")
    dataset, run = open_dataset(place / "world"), plan.runs[0]
    shutil.copytree(place / "out", tmp_path / "out")
    path = tmp_path / "out" / f"{run.name}.json"
    record = json.loads(path.read_text())
    assert results.load(tmp_path / "out", run, dataset, "test").record == record

    def refused(message, **changes):
        path.write_text(json.dumps(record | changes))
        with pytest.raises(InputError, match=message):
            results.load(tmp_path / "out", run, dataset, "test")

    refused("--epochs=9 there, --epochs=1 asked for", settings=record["settings"] | {"epochs": 9})
    refused("which this version does not have", settings=record["settings"] | {"depth": 9})
    refused(
        f"a dataset of fingerprint abc there, {dataset.fingerprint[:16]} asked",
        dataset={"name": "world", "fingerprint": "abc"},
    )
    refused(
        r"json was measured by the protocol time_last \(validation_from=3, test_from=5\), world by users:",
        protocol=record["protocol"]
        | {"name": "time", "test_target": "last", "validation_from": 3, "test_from": 5},
    )
    refused("does not belong to the record", test=record["test"] | {"recall@20": 0.9})
    del record["settings"]
    refused("it has no settings.*measured again, not trained again")
    # A setting that the record's version did not have has its default.
    record["settings"] = {**dataclasses.asdict(run.settings)}
    for name in ("run", "dataset", "precision"):
        del record["settings"][name]
    path.write_text(json.dumps(record))
    assert results.load(tmp_path / "out", run, dataset, "test") is not None
    users = tmp_path / "out" / "per_user" / f"{run.name}.npz"
    users.write_bytes(users.read_bytes()[:100])
    with pytest.raises(InputError, match=r"npz cannot be read.*measured again"):
        results.load(tmp_path / "out", run, dataset, "test")
    users.unlink()
    assert results.load(tmp_path / "out", run, dataset, "test") is None


def test_a_row_is_tested_against_its_control_too(compared):
    """Turned around, base against the row that is tested against it, every difference has the other sign."""
    from causerec_tf.data.sequences import open_dataset
    from pipelines.comparison import page, results, summary

    place, _ = compared
    plan = plans.read_plan(place / "plan.toml", place / "runs")
    plan = dataclasses.replace(plan, controls={"base": "youtube_dnn.light"})
    dataset = open_dataset(place / "world")
    done = {run.name: results.load(place / "out", run, dataset, "test") for run in plan.runs}
    text = page.write(plan, dataset, summary.summarise(plan, done), command="c", picture=None)
    before, after = text.split("## Against controls")
    row = next(line for line in before.splitlines() if line.startswith("| `youtube_dnn.light` | paper | R"))
    turned = next(line for line in after.splitlines() if line.startswith("| `base` | paper | `youtube_dnn"))
    row, turned = ([cell.strip() for cell in line.strip("|").split("|")] for line in (row, turned))
    assert turned[3:5] == ["Recall@50", row[3]]
    assert float(turned[5]) == -float(row[4]) != 0
    assert turned[9:] == row[8:]  # the t-tests have two sides


def test_each_recipe_has_its_baseline(compared):
    """The same results as two recipes, their baselines turned around: differences change their sign."""
    from causerec_tf.data.sequences import open_dataset
    from pipelines.comparison import page, results, summary

    place, _ = compared
    plan = plans.read_plan(place / "plan.toml", place / "runs")
    tuned = [dataclasses.replace(row, recipe="tuned") for row in plan.rows]
    plan = dataclasses.replace(
        plan, rows=(*plan.rows, *tuned), baselines={"paper": "base", "tuned": "youtube_dnn.light"}
    )
    dataset = open_dataset(place / "world")
    done = {run.name: results.load(place / "out", run, dataset, "test") for run in plan.runs}
    text = page.write(plan, dataset, summary.summarise(plan, done), command="c", picture=None)
    tests = text.split("## Against `base` (paper) and `youtube_dnn.light` (tuned) of the same recipe")[1]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in tests.splitlines()]
    found = {tuple(row[:2]): row[4] for row in rows if len(row) > 4 and row[2] == "Recall@50"}
    assert set(found) == {("`youtube_dnn.light`", "paper"), ("`base`", "tuned")}
    assert float(found["`youtube_dnn.light`", "paper"]) == -float(found["`base`", "tuned"]) != 0


def test_trials_are_compared_on_validation_users_alone(compared):
    from causerec_tf.data.sequences import open_dataset
    from pipelines.comparison import page, results, summary

    place, _ = compared
    plan = dataclasses.replace(plans.read_plan(place / "plan.toml", place / "runs"), measure="validation")
    dataset = open_dataset(place / "world")
    done = {run.name: results.load(place / "out", run, dataset, "validation") for run in plan.runs}
    text = page.write(plan, dataset, summary.summarise(plan, done), command="c", picture=None)
    records = [record_of(place, name) for name in NAMES[:2]]
    assert printed(np.mean([record["validation"]["recall@50"] for record in records])) in text
    assert "## Validation users" in text and "for choosing settings only" in text
    for absent in ("Against", "Beside the paper", "| pop |"):
        assert absent not in text

    done[NAMES[0]].record["protocol"]["candidates"] = "ten of them"
    done[NAMES[1]].record["protocol"]["max_history"] = 7
    text = page.write(plan, dataset, summary.summarise(plan, done), command="c", picture=None)
    assert f"**candidates differs, these rows cannot be compared**: ten of them in {NAMES[0]}; the " in text
    assert "- max history: 20 in base-paper, youtube_dnn.light-paper; 7 in base-paper\n" in text


WITHOUT_SEEN = """
measure = "test_without_seen"
metrics = ["hr@10", "mrr@10", "ndcg@20"]
tested = ["ndcg@10"]
"""


@pytest.mark.long
def test_seen_items_are_left_out_where_the_plan_says_so(compared, tmp_path):
    """The same runs in another output: nothing is trained, and the other figures of each are taken."""
    place, _ = compared
    write_plan(tmp_path, WITHOUT_SEEN + PLAN.replace('paper = "{place}/paper.toml"', ""))
    for name in ("world", "runs"):
        shutil.copytree(place / name, tmp_path / name)
    for name in NAMES:
        (tmp_path / "runs" / "world" / name / "flags.txt").write_text(
            (place / "runs" / "world" / name / "flags.txt").read_text().replace(str(place), str(tmp_path))
        )
    done = compare(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr

    records = [record_of(tmp_path, name) for name in NAMES]
    users = []
    for name, record in zip(NAMES, records, strict=True):
        assert record == record_of(place, name)
        assert (
            f"{name}: test_without_seen ndcg@10 {record['test_without_seen']['ndcg@10']:.4f}" in done.stdout
        )
        with np.load(tmp_path / "out" / "per_user" / f"{name}_without_seen.npz") as stored:
            users.append(stored["ndcg@10"].astype(np.float64))
        assert users[-1].mean() == pytest.approx(record["test_without_seen"]["ndcg@10"], abs=1e-6)
    page = (tmp_path / "out" / "comparison.md").read_text()
    measured, of_all = (records[0]["protocol"][key] for key in ("test_without_seen_users", "test_users"))
    assert f"Measured on {measured} of {of_all} test users, seen items left out: items of a user's" in page
    assert "- exclude seen: True\n" in page and "## Test users, seen items left out\n" in page
    heads = cells_of(tmp_path, "| system |")
    assert heads[3:] == ["HR@10", "MRR@10", "NDCG@20", "best epoch"]
    pop = records[0]["baselines"]["pop"]["test_without_seen"]
    assert pop != records[0]["pop"]
    assert cells_of(tmp_path, "| pop |")[3:6] == [printed(pop[one]) for one in ("hr@10", "mrr@10", "ndcg@20")]
    mean = np.mean([record["test_without_seen"]["mrr@10"] for record in records[2:]])
    assert cells_of(tmp_path, "| `youtube_dnn.light` |")[4].startswith(f"{printed(mean)} ± ")
    tests = [line for line in page.split("## Against")[1].splitlines() if line.startswith("| `youtube")]
    assert len(tests) == 1
    cells = [cell.strip() for cell in tests[0].strip("|").split("|")]
    difference = np.mean([users[2] - users[0], users[3] - users[1]])
    assert cells[2] == "NDCG@10" and float(cells[4]) == pytest.approx(difference, abs=6e-5)

    # The other policy of the same records is not there before its users are: then it is added.
    write_plan(tmp_path)
    done = compare(tmp_path, "--table_only")
    assert "4 runs on world, 0 of them done" in done.stdout, done.stderr


def test_a_record_without_a_metric_of_the_plan_is_refused(compared, tmp_path):
    """As those of versions that did not measure it."""
    from causerec_tf.data.sequences import open_dataset
    from pipelines.comparison import results

    place, _ = compared
    plan = plans.read_plan(place / "plan.toml", place / "runs")
    shutil.copytree(place / "out", tmp_path / "out")
    record = record_of(place, NAMES[0])
    record["validation"] = {"recall@50": 0.5}
    (tmp_path / "out" / f"{NAMES[0]}.json").write_text(json.dumps(record))
    dataset = open_dataset(place / "world")
    assert len(results.survey(tmp_path / "out", plan, dataset)) == 4
    plan = dataclasses.replace(plan, measure="validation", metrics=("hr@10",), tested=("recall@50", "mrr@10"))
    message = (
        rf"{NAMES[0]}.json, validation users: there is no hr@10, mrr@10. .* from what is there: recall@50\."
    )
    with pytest.raises(InputError, match=message):
        results.survey(tmp_path / "out", plan, dataset)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("baseline =", "basline ="), "has the key basline: wanted only dataset, baseline"),
        (
            ('baseline = "base"', 'baseline = "mind"'),
            "baseline = 'mind': wanted one of its rows, base, youtube",
        ),
        (
            ("baseline =", "controls = {{ mind = 'base' }}\nbaseline ="),
            "controls = 'mind': wanted one of its rows, base, youtube",
        ),
        (
            ("baseline =", "controls = {{ base = 'mind' }}\nbaseline ="),
            "controls = 'mind': wanted one of its rows, base, youtube",
        ),
        (
            ("baseline =", "controls = {{ base = ['base'] }}\nbaseline ="),
            r"controls = \['base'\]: wanted one of its rows, base, youtube",
        ),
        (
            ('baseline = "base"', 'baseline = {{ tuned = "base" }}'),
            "baseline has the recipes tuned: wanted those of its rows, paper",
        ),
        (('baseline = "base"', "baseline = 1"), "baseline = 1: wanted a string or a table"),
        (
            ('baseline = "base"', 'baseline = {{ paper = "mind" }}'),
            "baseline = 'mind': wanted one of its rows, base, youtube",
        ),
        (
            ("baseline =", 'measure = "train"\nbaseline ='),
            "measure = 'train': wanted one of test, test_without_seen, validation",
        ),
        (
            ("baseline =", 'metrics = ["hr@10", "hr@15"]\nbaseline ='),
            r"metrics = \['hr@10', 'hr@15'\]: wanted one or more, each once, of recall@10, .*hr@10, .*@50\.",
        ),
        (("baseline =", 'metrics = ["hr@10", "hr@10"]\nbaseline ='), "wanted one or more, each once, of"),
        (("baseline =", 'metrics = [["hr@10"]]\nbaseline ='), "wanted one or more, each once, of"),
        (("baseline =", 'metrics = "hr@10"\nbaseline ='), "metrics = 'hr@10': wanted a list"),
        (("baseline =", "tested = []\nbaseline ="), r"tested = \[\]: wanted one or more"),
        (("baseline =", 'tested = ["coverage@10"]\nbaseline ='), r"tested = \['coverage@10'\]: wanted one"),
        (("seeds = [1, 0]", "seed = 1"), "row 1 has the key seed: wanted only seeds, flagfile"),
        (("seeds = [1, 0]", ""), "row 1 has no seeds"),
        (("seeds = [1, 0]", "seeds = []"), r"row 1: seeds = \[\]: wanted one seed or more"),
        (("seeds = [1, 0]", "seeds = [1.5]"), "row 1: seeds has 1.5: wanted whole numbers"),
        (("seeds = [1, 0]", "seeds = [-1]"), "row 1: --seed=-1: wanted 0 to"),
        (
            ("seeds = [1, 0]", "seeds = [0, 0]"),
            "would make the record base-paper-0, which the plan makes already",
        ),
        (("epochs = 1", "epoch = 1"), "row 1: .*epoch"),
        (("epochs = 1", "epochs = 0"), "row 1: --epochs=0: wanted 1 or more"),
        (("epochs = 1", 'epochs = "many"'), "row 1: .*epochs=many"),
        (("epochs = 1", "epochs = [1]"), r"row 1: epochs = \[1\] is no value of a flag"),
        (("epochs = 1", "seed = 1"), "row 1: the flags have seed; seeds says that"),
        (('recipe = "paper"', 'recipe = "best"'), "row 1: recipe = 'best': wanted one of paper, tuned"),
        (('"light"', '"Without-co"'), "row 2: --variant=Without-co: wanted a-z, 0-9 and _ only"),
        (("youtube.flags", "none.flags"), "row 2: there is no flagfile .*none.flags"),
        (
            ('youtube.flags"\nvariant = "light"\nflags', 'base.flags"\nflags'),
            "row 2 would (make the record|stand in one row)",
        ),
        (('variant = "light"', 'settings = ["wide"]'), "row 2: settings has 'wide': wanted some of narrow"),
        (("[flags]", "[flags"), "cannot be read as TOML"),
        (("paper.toml", "none.toml"), "there is no file .*none.toml"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(tmp_path, change, message):
    assert change[0] in PLAN
    path = write_plan(tmp_path, PLAN.replace(*change, 1))
    with pytest.raises(InputError, match=message):
        plans.read_plan(path, tmp_path / "runs")


def test_a_row_has_the_settings_that_it_names_and_its_own_flags(tmp_path):
    """From general to special: the flagfile, the flags of all, the named settings, the row's flags."""
    more = """[settings.wide]
embedding_dim = 64
max_history = 50
[[rows]]
settings = ["narrow", "wide"]
flags = {{ max_history = 30 }}
variant = "wide"
seeds = [0]
"""
    run = plans.read_plan(write_plan(tmp_path, PLAN + more), tmp_path / "runs").runs[-1]
    assert run.name == "base.wide-paper-0"
    settings = run.settings
    assert (settings.embedding_dim, settings.max_history, settings.epochs) == (64, 30, 1)


@pytest.mark.long
def test_rows_that_are_not_asked_for_are_not_trained(tmp_path, compared):
    write_plan(tmp_path)
    (tmp_path / "world").symlink_to(compared[0] / "world")
    scripts.assert_refused(compare(tmp_path, "--only=mind"), "--only=mind: wanted some of base-paper, youtub")


def test_rows_of_one_name_with_other_settings_are_refused(tmp_path):
    more = '[[rows]]\nflagfile = "{place}/base.flags"\nflags = {{ batch_size = 32 }}\nseeds = [5]\n'
    with pytest.raises(InputError, match="row 3 would stand in one row of the table with base-paper-1"):
        plans.read_plan(write_plan(tmp_path, PLAN + more), tmp_path / "runs")


def test_figures_of_a_paper_that_cannot_be_are_refused(tmp_path):
    path = write_plan(tmp_path)
    for old, new, message in (
        ('"hr@20"', '"hr@10"', "youtube_dnn.light must have the figures recall@20"),
        ("= 0.1", "= 10.0", r"mind has recall@20 = 10.0: wanted a number from 0.0 to 1.0"),
    ):
        (tmp_path / "paper.toml").write_text(PAPER.replace(old, new, 1))
        with pytest.raises(InputError, match=message):
            plans.read_plan(path, tmp_path / "runs")


def test_plans_of_this_repository_are_whole(monkeypatch, tmp_path):
    monkeypatch.chdir(scripts.ROOT)
    for path in (scripts.ROOT / "configs" / "plans").glob("*.toml"):
        assert plans.read_plan(path, tmp_path).runs


def test_the_script_refuses_a_plan_before_anything_runs(tmp_path):
    write_plan(tmp_path, PLAN.replace("epochs = 1", "epoch = 1"))
    before = scripts.files_of(tmp_path)
    scripts.assert_refused(compare(tmp_path), "row 1", "epoch")
    assert scripts.files_of(tmp_path) == before


def test_the_script_refuses_a_file_for_its_output_before_anything_runs(tmp_path):
    write_plan(tmp_path)
    (tmp_path / "shop.csv").write_text("a log")
    before = scripts.files_of(tmp_path)
    done = compare(tmp_path, f"--output={tmp_path / 'shop.csv'}")
    scripts.assert_refused(done, "shop.csv is a file. Choose another --output")
    assert scripts.files_of(tmp_path) == before


def begin(run, dataset, **changes):
    """The directory of a run as one that was stopped early leaves it."""
    from causerec_tf.runs import RunDirectory

    RunDirectory(Path(run.settings.run)).start(dataclasses.replace(run.settings, **changes), dataset)


def test_a_plan_that_was_changed_is_refused_before_anything_runs(tmp_path, compared):
    """All that is in its way is told at once: a record, and directories of runs that were begun."""
    from causerec_tf.data.sequences import open_dataset

    write_plan(tmp_path)
    (tmp_path / "world").symlink_to(compared[0] / "world")
    planned = {run.name: run for run in plans.read_plan(tmp_path / "plan.toml", tmp_path / "runs").runs}
    dataset = open_dataset(tmp_path / "world")
    begin(planned[NAMES[0]], dataset)  # as it is asked for
    begin(planned[NAMES[1]], dataset, batch_size=64)
    begin(planned[NAMES[3]], dataset, max_history=7, batch_size=32)
    begun = tmp_path / "runs" / "world"
    (begun / NAMES[0] / "dataset.txt").write_text("f" * 64)
    settings = dataclasses.asdict(planned[NAMES[3]].settings) | {
        "learning_rate": 0.5,
        "run": "",
        "dataset": "",
    }
    record = {"settings": settings, "dataset": {"name": "world", "fingerprint": dataset.fingerprint}}
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / f"{NAMES[3]}.json").write_text(json.dumps(record))
    before = scripts.files_of(tmp_path)
    done = compare(tmp_path)
    scripts.assert_refused(
        done,
        f"  {begun / NAMES[0]}: a dataset of fingerprint {'f' * 16} there, {dataset.fingerprint[:16]} asked",
        f"  {begun / NAMES[1]}: --batch_size=64 there, --batch_size=256 asked for\n",
        f"  {begun / NAMES[3]}: --max_history=7 there, --max_history=20 asked for; --batch_size=32 the",
        f"  {tmp_path / 'out' / NAMES[3]}.json: --learning_rate=0.5 there, --learning_rate=0.01 asked for\n",
        "No run was started in their place.",
        "choose another --output and --runs; or remove",
    )
    assert NAMES[2] not in done.stderr and "--run," not in done.stderr
    assert scripts.files_of(tmp_path) == before
    # To make a table nothing is started, so directories are in nobody's way.
    (tmp_path / "out" / f"{NAMES[3]}.json").unlink()
    done = compare(tmp_path, "--table_only")
    assert done.returncode == 0, done.stderr
    (begun / NAMES[2]).mkdir()
    (begun / NAMES[2] / "notes.txt").write_text("")
    done = compare(tmp_path)
    scripts.assert_refused(done, f"{NAMES[2]} is not empty and no run: it has notes.txt", "another --runs:")


STAND_IN = """
import os, sys, time
seed = next(one for one in sys.argv if one.startswith("--seed="))
print("epoch 1/1 (0 s): loss", os.environ.get("TF_NUM_INTRAOP_THREADS"), "--notest" in sys.argv)
if seed == "--seed=1":
    sys.exit("error: seed 1 is unlucky")
"""


def test_a_run_that_fails_is_reported_and_the_others_go_on(tmp_path, monkeypatch):
    (tmp_path / "train.py").write_text(STAND_IN)
    monkeypatch.setattr(running, "_TRAIN", tmp_path / "train.py")
    runs = plans.read_plan(write_plan(tmp_path), tmp_path / "runs").runs
    ended = []

    def on_end(run, seconds):
        ended.append(run.name)
        assert 0 < seconds < 60
        return run.name

    failures = running.train_all(runs, test=False, jobs=2, on_end=on_end)
    assert sorted(ended) == [NAMES[0], NAMES[2]]
    assert sorted(one.run.name for one in failures) == [NAMES[1], NAMES[3]]
    assert failures[0].last_lines.endswith("error: seed 1 is unlucky")
    log = (tmp_path / "runs" / "world" / f"{NAMES[0]}.log").read_text()
    assert log.startswith("epoch 1/1") and log.endswith("True\n")
    assert "None" not in log


def test_no_run_outlives_a_comparison_that_is_stopped(tmp_path, monkeypatch):
    (tmp_path / "train.py").write_text(STAND_IN + "if seed == '--seed=0': time.sleep(3600)\n")
    monkeypatch.setattr(running, "_TRAIN", tmp_path / "train.py")
    begun = []
    start = running._start

    def remembered(*arguments, **options):
        begun.append(start(*arguments, **options))
        return begun[-1]

    def stopped(*_):
        raise SystemExit(1)

    monkeypatch.setattr(running, "_start", remembered)
    monkeypatch.setattr(running, "_failure", stopped)  # the first that ends is the unlucky one
    runs = plans.read_plan(write_plan(tmp_path), tmp_path / "runs").runs
    with pytest.raises(SystemExit):
        running.train_all(runs, test=True, jobs=2, on_end=lambda *_: "")
    assert len(begun) == 2 and all(one.process.poll() is not None for one in begun)


def test_a_process_that_does_not_end_when_told_is_killed(monkeypatch):
    monkeypatch.setattr(running, "_SECONDS_TO_END", 0.2)
    ignore = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    deaf = f"{ignore}; print(flush=True); time.sleep(3600)"
    with subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE) as process:
        process.stdout.readline()  # it is deaf from here on
        process.terminate()
        running._wait_or_kill(process)
        assert process.returncode == -signal.SIGKILL

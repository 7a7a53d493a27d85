"""The search for settings: plans that cannot be, pruning, and a search that is stopped and goes on."""

import math
import multiprocessing
import os
import signal
import subprocess
import time

import optuna
import pytest

from causerec_tf.errors import InputError
from pipelines.comparison import search, search_page, search_plan
from tests.pipelines import scripts

PLAN = """
dataset = "{place}/world"
seed = 3
[flags]
epochs = 3
[space]
learning_rate = {{ low = 0.001, high = 0.1, log = true }}
[systems.base]
space = {{ matching = [{{}}, {{ similarity = "cosine", temperature = 0.1 }}] }}
[systems.causerec_item]
flags = {{ method = "item" }}
space = {{ num_negatives = {{ low = 2, high = 8, step = 2 }}, max_history = [10, 20] }}
"""


def write_plan(place, text=PLAN):
    (place / "plan.toml").write_text(text.format(place=place))
    return place / "plan.toml"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seed = 3", 'seed = "3"', "seed = '3': wanted a whole number"),
        ("[systems.base]", "[systems.Base]", "system Base: wanted a name of a-z"),
        ("low = 0.001", "low = 0.2", "learning_rate = .*low.* Wanted a list"),
        ("low = 0.001", "low = 0", "learning_rate = .*low.* Wanted a list"),
        ("log = true", "log = true, step = 0.1", "learning_rate = .*step.* Wanted a list"),
        ("log = true", "logs = true", "learning_rate = .*logs.* Wanted a list"),
        ("[10, 20]", "[]", r"max_history = \[\]: .* Wanted a list of values"),
        ("[10, 20]", "10", "max_history = 10: .* Wanted a list of values"),
        ("[10, 20]", "[10, 0]", "--max_history=0: wanted 1 or more"),
        ("max_history =", "max_histories =", "flag 'max_histories'"),
        ('method = "item"', 'method = "base"', "num_negatives has no effect with any of its options"),
        ('similarity = "cosine"', 'dataset = "x"', "the flags have dataset"),
        ('similarity = "cosine"', 'choose_by = "hr@10"', "compared by one figure: choose_by stands in flags"),
    ],
)
def test_plans_that_cannot_be(tmp_path, old, new, message):
    assert old in PLAN
    with pytest.raises(InputError, match=message):
        search_plan.read_plan(write_plan(tmp_path, PLAN.replace(old, new)))


def test_a_plan_without_anything_to_try_is_refused(tmp_path):
    with pytest.raises(InputError, match="base has no space"):
        search_plan.read_plan(write_plan(tmp_path, 'dataset = "d"\n[systems.base]\n'))
    with pytest.raises(InputError, match="has no systems"):
        search_plan.read_plan(write_plan(tmp_path, 'dataset = "d"\n[systems]\n'))


def test_plans_of_this_repository_are_whole(monkeypatch):
    monkeypatch.chdir(scripts.ROOT)
    for path in (scripts.ROOT / "configs" / "tuning").glob("*.toml"):
        assert search_plan.read_plan(path).systems


def score(settings, epoch):
    """Best at a rate of .02 and the last epoch."""
    return 0.5 - 0.1 * abs(math.log10(settings.learning_rate / 0.02)) + 0.01 * epoch


def train(file, system, number, settings, epochs=3):
    """What a trial's process does, with figures by formula; fewer epochs are those before a kill."""
    study = search.open_study(file, system)
    trial = search.trial_of(study, number)
    reporter = search.Reporter(trial)
    try:
        for epoch in range(1, epochs + 1):
            reporter.on_epoch(epoch, {"recall@50": score(settings, epoch), "ndcg@50": 0.25})
    except optuna.TrialPruned:
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    else:
        if epochs == 3:
            study.tell(trial, score(settings, 3))


def run(place, limit, *, killed_at=None, jobs=1):
    """Searches for the second system; at one trial it is killed, with two epochs done."""
    plan = search_plan.read_plan(write_plan(place))
    begun = []

    def start(number, settings):
        begun.append(number)
        what = (place / "trials.db", "causerec_item", number, settings)
        if number == killed_at:
            train(*what, epochs=2)
            raise KeyboardInterrupt
        train(*what)
        process = multiprocessing.get_context("fork").Process(target=os._exit, args=(0,))
        process.start()
        return process

    found = search.Search(plan, plan.systems[1], "f" * 64, place / "trials.db")
    try:
        found.run(limit, jobs, start, lambda: None)
    except KeyboardInterrupt:
        assert killed_at is not None
    return found, begun


def outline(found):
    return [(one.number, one.params, one.state, one.intermediate_values) for one in found.trials]


def test_a_search_that_was_killed_goes_on_as_if_it_had_not_been(tmp_path):
    for name in ("whole", "killed", "other"):
        (tmp_path / name).mkdir()
    whole, _ = run(tmp_path / "whole", 4)
    _, begun = run(tmp_path / "killed", 4, killed_at=1)
    assert begun == [0, 1]
    killed, begun = run(tmp_path / "killed", 3)
    assert begun == [1, 2]
    killed, begun = run(tmp_path / "killed", 4)
    assert begun == [3]
    assert outline(killed) == outline(whole)
    assert run(tmp_path / "killed", 4)[1] == []
    # The first trial is the flags alone, and another seed tries other things after it.
    assert whole.trials[0].params == {"learning_rate": 0.005, "num_negatives": 8, "max_history": 20}
    assert whole.settings_of(whole.trials[0]).lambda_co == 1.0
    other = PLAN.replace("seed = 3", "seed = 4")
    plan = search_plan.read_plan(write_plan(tmp_path / "other", other))
    found = search.Search(plan, plan.systems[1], "f" * 64, tmp_path / "other" / "trials.db")
    begin = found.begin(3)
    assert [next(begin) for _ in range(3)] == [0, 1, 2]
    assert found.trials[0].params == whole.trials[0].params
    assert all(found.trials[number].params != whole.trials[number].params for number in (1, 2))


def test_the_best_is_kept_and_the_page_has_every_trial(tmp_path):
    found, _ = run(tmp_path, 4, jobs=2)
    ended = [one for one in found.trials if one.state == optuna.trial.TrialState.COMPLETE]
    rates = {one.number: one.params["learning_rate"] for one in ended}
    best = min(rates, key=lambda number: abs(math.log10(rates[number] / 0.02)))
    assert found.best.number == best
    page = search_page.page([found], title="T", command="c", shown=("recall@50", "ndcg@50"))
    rows = [line for line in page.splitlines() if line.startswith("| ") and line[2].isdigit()]
    assert len(rows) == 4
    figure = f"| {score(found.settings_of(found.trials[best]), 3):.4f} | 0.2500 | 3 of 3 | **best** |"
    assert rows[best].endswith(figure)
    flagfile = search_page.best_flagfile(found)
    assert f"--learning_rate={rates[best]}\n" in flagfile and "--dataset" not in flagfile
    (tmp_path / "best.flags").write_text(flagfile)
    from causerec_tf import flagfiles

    assert flagfiles.read(tmp_path / "best.flags").learning_rate == rates[best]


def test_a_trial_behind_the_median_is_pruned_from_the_second_epoch_on(tmp_path):
    study = search.open_study(tmp_path / "trials.db", "base")
    for offset in (0.0, 0.1, 0.2, 0.3):  # medians: .25, .35
        trial = study.ask()
        for epoch in (1, 2, 3):
            search.Reporter(trial).on_epoch(epoch, {"recall@50": offset + epoch / 10})
        study.tell(trial, offset + 0.3)
    behind, ahead = study.ask(), study.ask()
    reporter = search.Reporter(behind)
    reporter.on_epoch(1, {"recall@50": 0.0})
    with pytest.raises(optuna.TrialPruned):
        reporter.on_epoch(2, {"recall@50": 0.34})
    assert behind.user_attrs[search.BEST] == {"epoch": 2, "validation": {"recall@50": 0.34}}
    reporter = search.Reporter(ahead)
    for epoch, value in ((1, 0.0), (2, 0.36), (3, 0.46)):
        reporter.on_epoch(epoch, {"recall@50": value})


def test_trials_are_compared_by_the_figure_that_chooses_the_epoch(tmp_path):
    asked = PLAN.replace("epochs = 3", 'epochs = 3\nchoose_by = "ndcg@10"')
    plan = search_plan.read_plan(write_plan(tmp_path, asked))
    found = search.Search(plan, plan.systems[0], "f" * 64, tmp_path / "trials.db")
    assert found.choose_by == "ndcg@10"
    study = search.open_study(tmp_path / "trials.db", "base")
    for _ in found.begin(1):
        trial = search.trial_of(study, 0)
        reporter = search.Reporter(trial, found.choose_by)
        for epoch, value in ((1, 0.5), (2, 0.25)):
            reporter.on_epoch(epoch, {"recall@50": epoch / 10, "ndcg@10": value})
        study.tell(trial, reporter.best_score)
    assert found.best.value == reporter.best_score == 0.5
    page = search_page.page([found], title="T", command="c", shown=("recall@50",))
    assert "| trial | tried | recall@50 | ndcg@10 | epoch | |" in page
    assert "| 0.1000 | 0.5000 | 1 of 2 | **best** |" in page
    assert search_page.best_flagfile(found).startswith("# base, trial 0: validation ndcg@10 0.5000\n")


def test_another_plan_or_dataset_is_refused(tmp_path):
    found, _ = run(tmp_path, 1)
    plan = found.plan
    with pytest.raises(InputError, match="begun with another dataset"):
        search.Search(plan, plan.systems[1], "e" * 64, tmp_path / "trials.db")
    plan = search_plan.read_plan(write_plan(tmp_path, PLAN.replace("epochs = 3", "epochs = 4")))
    with pytest.raises(InputError, match="begun with another flags"):
        search.Search(plan, plan.systems[1], "f" * 64, tmp_path / "trials.db")


def test_a_trial_that_fails_ends_the_search_and_the_others(tmp_path):
    plan = search_plan.read_plan(write_plan(tmp_path))
    found = search.Search(plan, plan.systems[0], "f" * 64, tmp_path / "trials.db")
    fork, started = multiprocessing.get_context("fork"), []

    def start(number, settings):
        target, args = (os._exit, (3,)) if number else (time.sleep, (600,))
        started.append(fork.Process(target=target, args=args))
        started[-1].start()
        return started[-1]

    with pytest.raises(RuntimeError, match=r"trial 1 of base failed \(exit code 3\); .*base/1.log says why"):
        found.run(4, 2, start, lambda: None)
    assert [process.exitcode for process in started] == [-signal.SIGTERM, 3]


def test_the_script_refuses_a_plan_before_anything_is_made(tmp_path):
    write_plan(tmp_path, PLAN.replace("epochs = 3", "epoch = 3"))
    before = scripts.files_of(tmp_path)
    place = [f"--plan={tmp_path / 'plan.toml'}", f"--output={tmp_path / 'out'}"]
    scripts.assert_refused(scripts.run("pipelines/tune.py", *place), "system base", "epoch")
    scripts.assert_refused(scripts.run("pipelines/tune.py", *place, "--trials=0"), "trials")
    assert scripts.files_of(tmp_path) == before


@pytest.mark.long
def test_a_search_killed_by_force_ends_as_one_that_was_not(tmp_path):
    scripts.write_world(tmp_path / "world")
    one_system = PLAN.split("[systems.causerec_item]")[0].replace("epochs = 3", "\n".join(SMALL))
    write_plan(tmp_path, one_system)
    command = ["pipelines/tune.py", f"--plan={tmp_path / 'plan.toml'}", "--trials=3"]
    done = scripts.run_anew(*command, f"--output={tmp_path / 'whole'}")
    assert done.returncode == 0, done.stdout + done.stderr
    killed = [*command, f"--output={tmp_path / 'killed'}"]
    process = subprocess.Popen(scripts.command(*killed), env=scripts.environment(), start_new_session=True)
    checkpoints = tmp_path / "killed" / "trials" / "base" / "1" / "checkpoints"
    while process.poll() is None and not list(checkpoints.glob("ckpt-*.index")):
        time.sleep(0.05)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    done = scripts.run_anew(*killed)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = [(tmp_path / name / "tuning.md").read_text().split("## base") for name in ("whole", "killed")]
    assert pages[0][1] == pages[1][1]
    assert (tmp_path / "whole" / "base.flags").read_text() == (tmp_path / "killed" / "base.flags").read_text()
    assert "test" not in pages[0][1]


SMALL = ("epochs = 3", "sampler = 'full'", "embedding_dim = 16", "batch_size = 256", "patience = 3")

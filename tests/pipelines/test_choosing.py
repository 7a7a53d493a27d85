"""A recipe that is found: the rounds with trials that are made up, what cannot be, and once for real."""

import dataclasses
import json

import numpy as np
import pytest

from causerec_tf import files, flagfiles
from causerec_tf.errors import InputError
from pipelines.choosing import choosing_page
from pipelines.choosing.choose import seconds_of, short_trials
from pipelines.choosing.preset import read_preset
from pipelines.choosing.rounds import RoundSearch
from pipelines.choosing.trial_process import score_of
from tests.pipelines import scripts

PRESET = """
[flags]
max_history = 50
[[rounds]]
name = "encoder"
[rounds.options.mean]
tower = "youtube_dnn"
[rounds.options.sasrec]
tower = "sasrec"
training_rows = "sequences"
sampler = "full"
[[rounds]]
name = "settings"
[rounds.options.longer]
max_history = 100
[rounds.options.sharper]
temperature = 0.5
[rounds.options.as_long]
max_history = 50
[[rounds]]
name = "counterfactual"
time = 2
control = "random"
[rounds.options.without]
[rounds.options.augmented]
method = "item"
lambda_cm = 0.5
[rounds.options.random]
method = "item"
lambda_cm = 0.5
concept_scores = "random"
"""
SCORES = {
    "encoder.mean": 0.2,
    "encoder.sasrec": 0.1,
    "settings.longer": 0.21,
    "settings.sharper": 0.19,
    "counterfactual.without": 0.22,
    "counterfactual.augmented": 0.24,
    "counterfactual.random": 0.9,
}


def preset_of(place, text=PRESET):
    (place / "preset.toml").write_text(text)
    return read_preset(place / "preset.toml")


class MadeUp:
    """Stands in for the processes: every trial has the score of `SCORES`."""

    def __init__(self, scores=SCORES, stop_at=None, best_epoch=6):
        self.scores, self.stop_at, self.best_epoch, self.started = scores, stop_at, best_epoch, []

    def __call__(self, settings, seconds, directory):
        name = directory.name
        if name == self.stop_at:
            return 1
        self.started.append((name, settings, seconds))
        directory.mkdir(parents=True)
        score = self.scores[name]
        figures = dict.fromkeys(("recall@20", "recall@50", "ndcg@50", "hr@50"), score)
        result = {"epochs": 7, "best_epoch": self.best_epoch, "seconds_per_epoch": 1.5, "score": score}
        if score < 0:
            result = {"failed": "loss is not finite"}
        users = np.linspace(0, 2 * score, 40, dtype=np.float32)
        values = {"recall@50": users, "ndcg@50": users, "recall@50_without_seen": users[:30] / 2}
        files.write_arrays(directory / "users.npz", values)
        files.write_json(directory / "result.json", result | {"validation": figures, "without_seen": figures})
        return 0


def search_of(place, preset, *, num_items=100, seconds=90.0, given=None):
    return RoundSearch(
        preset,
        place / "search",
        dataset="world",
        fingerprint="f",
        num_items=num_items,
        seconds=seconds,
        given=given or {},
    )


def run(search, start):
    skipped = []
    search.run(start, lambda attempt: None, skipped.append)
    return skipped


def test_each_round_starts_from_the_best_so_far(tmp_path):
    search, start = search_of(tmp_path, preset_of(tmp_path)), MadeUp()
    assert run(search, start) == ["settings.as_long: it changes nothing here"]
    settings = {name: one for name, one, _ in start.started}
    assert list(settings) == [*SCORES]
    assert settings["settings.sharper"].tower == "youtube_dnn"
    assert settings["counterfactual.augmented"].max_history == 100
    assert settings["counterfactual.augmented"].temperature == 1.0  # the sharper one was worse
    # Five options with a unit of time, and three with two.
    assert [seconds for *_, seconds in start.started] == pytest.approx([90 / 11] * 4 + [180 / 11] * 3)
    assert search.best.name == "augmented"  # the control, which is better, is not chosen


TOGETHER = PRESET.replace('name = "settings"', 'name = "settings"\ntogether = true')


def test_what_gained_is_then_tried_together(tmp_path):
    scores = SCORES | {"settings.longer": 0.21, "settings.sharper": 0.23, "settings.together": 0.25}
    search, start = search_of(tmp_path, preset_of(tmp_path, TOGETHER)), MadeUp(scores)
    run(search, start)
    settings = {name: one for name, one, _ in start.started}
    assert (settings["settings.together"].max_history, settings["settings.together"].temperature) == (
        100,
        0.5,
    )
    assert settings["counterfactual.augmented"].max_history == 100
    assert settings["counterfactual.augmented"].temperature == 0.5
    assert [seconds for *_, seconds in start.started] == pytest.approx([90 / 13] * 4 + [180 / 13] * 4)


def test_of_two_that_change_the_same_the_better_counts(tmp_path):
    text = TOGETHER.replace(
        "[rounds.options.as_long]\nmax_history = 50", "[rounds.options.most]\nmax_history = 400"
    )
    scores = SCORES | {"settings.longer": 0.23, "settings.sharper": 0.21, "settings.most": 0.22}
    search, start = (
        search_of(tmp_path, preset_of(tmp_path, text)),
        MadeUp(scores | {"settings.together": 0.2}),
    )
    run(search, start)
    settings = {name: one for name, one, _ in start.started}
    assert (settings["settings.together"].max_history, settings["settings.together"].temperature) == (
        100,
        0.5,
    )
    assert settings["counterfactual.augmented"].temperature == 1.0  # together they were worse


def test_one_that_gained_is_not_tried_again(tmp_path):
    search, start = search_of(tmp_path, preset_of(tmp_path, TOGETHER)), MadeUp()
    assert run(search, start)[-1] == "settings.together: fewer than two options gained"
    assert "settings.together" not in [name for name, *_ in start.started]


@pytest.mark.parametrize(
    ("best_epoch", "epochs"), [(6, 12), (5, 7)]
)  # of 7: the last fifth begins behind 5.6
def test_what_was_still_gaining_is_trained_for_longer(tmp_path, best_epoch, epochs):
    search = search_of(tmp_path, preset_of(tmp_path, "least_epochs = 12\n" + PRESET))
    run(search, MadeUp(best_epoch=best_epoch))
    (tmp_path / "chosen.flags").write_text(choosing_page.chosen_flagfile(search))
    assert flagfiles.read(tmp_path / "chosen.flags").epochs == epochs


def test_what_was_better_than_longer_trials_is_not_trained_for_longer(tmp_path):
    search = search_of(tmp_path, preset_of(tmp_path, "least_epochs = 12\n" + PRESET))
    run(search, MadeUp(SCORES | {"settings.longer": 0.25}))
    (tmp_path / "chosen.flags").write_text(choosing_page.chosen_flagfile(search))
    assert search.best.name == "longer"
    assert flagfiles.read(tmp_path / "chosen.flags").epochs == 7


def test_the_chosen_flagfile_gives_the_settings_of_the_best(tmp_path):
    search = search_of(tmp_path, preset_of(tmp_path), given={"seed": 4})
    run(search, MadeUp())
    (tmp_path / "chosen.flags").write_text(choosing_page.chosen_flagfile(search))
    found = flagfiles.read(tmp_path / "chosen.flags")
    got = found.tower, found.max_history, found.method, found.lambda_cm, found.epochs, found.seed
    assert got == ("youtube_dnn", 100, "item", 0.5, 7, 4)
    assert found.dataset == found.run == ""


def test_a_search_that_was_stopped_goes_on_where_it_was(tmp_path):
    preset = preset_of(tmp_path)
    with pytest.raises(RuntimeError, match=r"settings.sharper failed .* The same command goes on"):
        run(search_of(tmp_path, preset), MadeUp(stop_at="settings.sharper"))
    search, start = search_of(tmp_path, preset), MadeUp()
    run(search, start)
    assert [name for name, *_ in start.started] == list(SCORES)[3:]
    assert [f"{one.round_name}.{one.name}" for one in search.attempts] == list(SCORES)


def test_a_trial_that_diverged_is_not_chosen(tmp_path):
    search = search_of(tmp_path, preset_of(tmp_path))
    run(search, MadeUp(SCORES | {"encoder.mean": -1.0, "counterfactual.augmented": -1.0}))
    assert search.of_round("settings")[0].settings.tower == "sasrec"
    assert "loss is not finite" in choosing_page.page(search, {}, title="T", command="c")
    with pytest.raises(RuntimeError, match="no trial has a result"):
        run(search_of(tmp_path / "other", preset_of(tmp_path)), MadeUp(dict.fromkeys(SCORES, -1.0)))


def test_a_softmax_that_does_not_fit_is_left_out(tmp_path):
    skipped = run(search_of(tmp_path, preset_of(tmp_path), num_items=10_000_000), MadeUp())
    assert skipped[0] == "encoder.sasrec: the full softmax does not fit"


def test_another_search_is_not_gone_on_with(tmp_path):
    preset = preset_of(tmp_path)
    run(search_of(tmp_path, preset), MadeUp())
    with pytest.raises(InputError, match="begun with another seconds"):
        search_of(tmp_path, preset, seconds=5.0)
    with pytest.raises(InputError, match="begun with another given"):
        search_of(tmp_path, preset, given={"seed": 1})


def test_the_page_says_what_the_counterfactual_part_buys(tmp_path):
    search = search_of(tmp_path, preset_of(tmp_path))
    run(search, MadeUp())
    page = choosing_page.page(search, {"pop": {"validation": {"recall@50": 0.0123}}}, title="T", command="c")
    # Each user's figure is .24 / .22 of the one without.
    assert "| augmented | recall@50 | +9.1% |" in page
    assert "| augmented | recall@50, seen left out | +9.1% |" in page
    assert "| random | recall@50 | +309.1% |" in page
    assert "| pop | 0.0123 |  |  |  |" in page
    assert "| recall@50 | ndcg@50 | recall@50, seen left out | ndcg@50, seen left out | epochs |" in page
    assert "Chosen: **counterfactual.augmented**" in page


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('tower = "sasrec"', 'tower = "sas"', "tower"),
        ('control = "random"', 'control = "chance"', "control = 'chance': wanted one of without"),
        ("time = 2", "time = 0", "time = 0: wanted a number above 0"),
        ("max_history = 100", "max_histories = 100", "max_histories"),
        ('name = "encoder"', 'title = "encoder"', "wanted only"),
        ('name = "encoder"', 'name = "encoder"\ntogether = 1', "together"),
        ("longer]\nmax", "together]\nmax", "an option is named 'together'"),
        ("[flags]", "least_epochs = 0\n[flags]", "least_epochs = 0: wanted 1 or more"),
    ],
)
def test_presets_that_cannot_be(tmp_path, old, new, message):
    assert old in TOGETHER
    with pytest.raises(InputError, match=message):
        preset_of(tmp_path, TOGETHER.replace(old, new, 1))


@pytest.mark.parametrize(
    ("choose_by", "score"),
    [("recall@50", 0.3), ("ndcg@10", 0.3), ("recall@50_without_seen", 0.9)],  # (.4 x .1 x .9 x .225) ^ 1/4
)
def test_what_trials_are_compared_by(choose_by, score):
    kept, left_out = {"recall@50": 0.4, "ndcg@50": 0.1, "ndcg@10": 0.3}, {"recall@50": 0.9, "ndcg@50": 0.225}
    assert score_of(choose_by, {False: kept, True: left_out}) == pytest.approx(score)


def test_without_lists_without_seen_items_the_others_count():
    assert score_of("recall@50", {False: {"recall@50": 0.4, "ndcg@50": 0.1}}) == pytest.approx(0.2)
    assert 0 < score_of("recall@50", {False: {"recall@50": 0.4, "ndcg@50": 0.0}}) < 0.01


def test_the_preset_that_comes_with_it_can_be_read():
    assert [one.name for one in read_preset("any").rounds] == ["encoder", "settings", "counterfactual"]
    with pytest.raises(InputError, match="no preset 'every': wanted any"):
        read_preset("every")


@pytest.mark.parametrize(("budget", "seconds"), [("90s", 90), ("30m", 1800), ("1.5h", 5400)])
def test_budgets(budget, seconds):
    assert seconds_of(budget) == seconds


@pytest.mark.parametrize("budget", ["30", "0m", "-1h", "", "1d"])
def test_budgets_that_cannot_be(budget):
    with pytest.raises(InputError, match=r"--budget=.*: wanted a time such as"):
        seconds_of(budget)


@pytest.mark.parametrize(
    ("seconds_per_epoch", "said"),
    [(20.0, ""), (30.0, "a budget 2 times as large gives 5"), (130.0, "a budget 7 times as large gives 5")],
)
def test_a_search_says_when_its_trials_are_too_short(tmp_path, seconds_per_epoch, said):
    search = search_of(tmp_path, preset_of(tmp_path))
    run(search, MadeUp())
    result = {**search.attempts[0].result, "seconds_per_epoch": seconds_per_epoch}
    note = short_trials(dataclasses.replace(search.attempts[0], result=result), 100.0)
    assert said in note if said else note == ""


@pytest.mark.long
def test_auto_finds_a_recipe_and_trains_it(tmp_path):
    """The command as people give it, killed by nothing; the second call reads what the first made."""
    scripts.write_world(tmp_path / "world")
    train = ["--recipe=auto", "--budget=5s", "--dataset=world", "--run=run", "--embedding_dim=8"]
    first = scripts.run_anew("pipelines/train.py", *train, cwd=tmp_path, timeout=1800)
    record = json.loads((tmp_path / "run" / "metrics.json").read_text())
    chosen = flagfiles.read(tmp_path / "run" / "search" / "chosen.flags")
    assert record["settings"]["tower"] == chosen.tower
    assert record["settings"]["embedding_dim"] == 8
    assert "Beside simple rules" in first.stdout
    again = scripts.run_anew("pipelines/train.py", *train, cwd=tmp_path)
    assert "is finished" in again.stdout

"""Searches settings for systems, with as many trials for each, on validation users only (Optuna).

    python pipelines/tune.py --plan=configs/tuning/yelp2018.toml --output=tuning/yelp2018 --trials=20 --jobs=2

    python pipelines/tune.py --preset=any --budget=30m --dataset=datasets/shop --output=tuning/shop

tries what a preset says, round by round, on a log of which nothing is known: towers, then settings, then the
counterfactual part; `train.py --recipe=auto` does this and trains.

It can be stopped and run again at any time, also with more --trials: trials that ended are kept, one that was
being trained goes on from its last checkpoint. The test users are not looked at.
"""

import multiprocessing
import sys
from pathlib import Path

from absl import flags
from tqdm import tqdm

from causerec_tf.errors import InputError
from pipelines.command_line import command, outputs, report

FLAGS = flags.FLAGS

flags.DEFINE_string("plan", None, "TOML file that says what to tune, and how.")
flags.DEFINE_string("preset", None, "Instead of a plan: any, or a TOML file like choosing/any.toml.")
flags.DEFINE_string("dataset", None, "Of a preset: directory made by pipelines/prepare.py.")
flags.DEFINE_string("budget", "30m", "Of a preset: time to train all trials in: 90s, 30m, 2h.")
flags.DEFINE_string(
    "output", None, "Directory for trials.db, the trials' runs, the page and flagfiles.", required=True
)
flags.DEFINE_integer("trials", 20, "Trials of each system, those of earlier calls too.", lower_bound=1)
flags.DEFINE_integer("jobs", 1, "Trials trained side by side; they share the cores.", lower_bound=1)

_SHOWN = ("recall@50", "ndcg@50", "hr@50")


def main() -> None:
    """Makes every trial that is missing; writes the page and the best flags."""
    _check_flags()
    if FLAGS.preset:
        from pipelines.choosing.choose import choose

        output = Path(FLAGS.output)
        outputs.check_place(output, "--output", InputError, is_filled=True)
        command.keep_freed_memory()
        choose(FLAGS.dataset, output, preset=FLAGS.preset, budget=FLAGS.budget, given={})
    else:
        _tune_by_plan()


def _check_flags() -> None:
    """Raises `InputError` where flags of a plan and of a preset are mixed, or both or neither is named."""
    of_other = {"plan": ("dataset", "budget"), "preset": ("trials", "jobs")}
    named = [one for one in of_other if FLAGS[one].value]
    if len(named) != 1:
        raise InputError("wanted --plan=FILE, or --preset=any with --dataset=DIR: one of the two.")
    for name in of_other[named[0]]:
        if FLAGS[name].present:
            raise InputError(f"--{name} has no effect with --{named[0]}. Leave it out.")
    if FLAGS.preset and not FLAGS.dataset:
        raise InputError("--preset wants --dataset=DIR: the log that a recipe is found for.")


def _tune_by_plan() -> None:
    try:
        from pipelines.comparison import search, search_page, search_plan, trial
    except ImportError as error:
        raise InputError(f"{error}: wanted the extra tune, `pip install 'causerec_tf[tune]'`.") from error
    plan = search_plan.read_plan(Path(FLAGS.plan))
    output = Path(FLAGS.output)
    outputs.check_place(output, "--output", InputError, is_filled=True)

    # TensorFlow takes seconds to import: a wrong plan should not wait for it.
    from causerec_tf import files, runs, training
    from causerec_tf.data.sequences import open_dataset

    dataset = open_dataset(plan.dataset)
    dataset.verify()
    training.check_users(dataset)
    runs.RunDirectory(output, flag="--output")  # TensorFlow must be able to read the name
    file = output / "trials.db"
    spawn = multiprocessing.get_context("spawn")

    def start(number, settings):
        what = (file, current.system.name, number, settings, FLAGS.jobs)
        process = spawn.Process(target=trial.train, args=what, daemon=True)
        process.start()
        return process

    with (
        files.only_one(output / ".lock", f"{output} is being filled by another search. Wait for it."),
        _Bar(len(plan.systems) * FLAGS.trials) as bar,
    ):
        searches = [search.Search(plan, system, dataset.fingerprint, file) for system in plan.systems]
        bar.begin(searches)
        for current in searches:
            current.run(FLAGS.trials, FLAGS.jobs, start, lambda: bar.move(searches))
            if current.best is None:
                bar.write(f"{current.system.name}: no trial has a result; see {output}/trials")
                continue
            flagfile = output / f"{current.system.name}.flags"
            files.write_text(flagfile, search_page.best_flagfile(current))
            bar.write(f"{current.system.name}: {' '.join(search_page.tried_flags(current.best))}: {flagfile}")
    title = f"Search on {dataset.name}, fingerprint {dataset.fingerprint[:16]}"
    text = search_page.page(searches, title=title, command=report.this_command(), shown=_SHOWN)
    files.write_text(output / "tuning.md", text)
    print(text[text.index("\n## ") :])
    print(f"page: {output / 'tuning.md'}")


class _Bar(tqdm):
    """A bar over all trials, a running one counted by its epochs, with the time left."""

    def __init__(self, total: int):
        super().__init__(
            total=total,
            desc="trials",
            bar_format="{desc} {n:.1f}/{total} |{bar:20}| {elapsed}, {remaining} left at most{postfix}",
            smoothing=0,
            dynamic_ncols=True,
            mininterval=1.0 if sys.stderr.isatty() else 60.0,
        )

    def begin(self, searches) -> None:
        """Sets where an earlier search came to: what is left is judged by what is done from now on."""
        self.initial = self.n = _done(searches)
        self.refresh()

    def move(self, searches) -> None:
        """Moves it to where the searches are."""
        self.update(_done(searches) - self.n)


def _done(searches) -> float:
    """How many trials ended, and what share of a running one."""
    return sum(
        1.0 if one.state.is_finished() else len(one.intermediate_values) / search.settings_of(one).epochs
        for search in searches
        for one in search.trials
        if one.state.is_finished() or one.intermediate_values
    )


if __name__ == "__main__":
    command.run(main, bad_input=(InputError,))

"""Tunes systems with the same small budget, on validation users only.

    python pipelines/tune.py --plan=configs/tuning/yelp2018.toml --output=docs/results/yelp2018_tuning

It can be stopped and run again at any time: a trial with a record in --output is not trained again. The test
users are not looked at.
"""

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from causerec_tf.errors import InputError
from causerec_tf.files import write_text
from causerec_tf.settings import CHOSEN_BY
from pipelines.command_line import command, outputs, report
from pipelines.comparison import tuning
from pipelines.comparison.plan import PlannedRun

FLAGS = flags.FLAGS

flags.DEFINE_string("plan", None, "TOML file that says what to tune, and how.", required=True)
flags.DEFINE_string("output", None, "Directory for the trials' records and the page.", required=True)
flags.DEFINE_string("runs", "runs/tuning", "Directory in which the runs have theirs.")
flags.DEFINE_integer(
    "jobs", 1, "Trials of a stage trained side by side; they share the cores.", lower_bound=1
)

_SHOWN = ("recall@50", "ndcg@50", "hr@50")


class _NotTrainedError(Exception):
    """A stage has a trial without a result, so those of the next are not known."""


def main() -> None:
    """Makes every trial that is missing, writes the page after each system."""
    plan = tuning.read_plan(Path(FLAGS.plan))
    output = Path(FLAGS.output)
    outputs.check_place(output, "--output", InputError, is_filled=True)

    # TensorFlow takes seconds to import: a wrong plan should not wait for it.
    from causerec_tf.data.sequences import open_dataset
    from pipelines.comparison import results, running

    dataset = open_dataset(plan.dataset)
    _check_what_is_there(plan, output, dataset)

    def train(planned: Sequence[PlannedRun]) -> list[dict]:
        """The records of a stage's trials."""
        found, departures = results.survey(output, planned, dataset, "validation")
        results.refuse(departures)
        missing = [run for run in planned if run.name not in found]
        if missing:
            outputs.check_place(Path(missing[0].settings.run).parent, "--runs", InputError, is_filled=True)

        def take_over(run: PlannedRun, seconds: float) -> str:
            found[run.name] = results.store(output, run, dataset, "validation")
            score = found[run.name].record["validation"][CHOSEN_BY]
            return f"{run.name}: {CHOSEN_BY} {score:.4f} ({seconds:.0f} s)"

        failures = running.train_all(missing, test=False, jobs=FLAGS.jobs, on_end=take_over)
        for failure in failures:
            print(
                f"{failure.run.name} failed; {failure.log} ends with\n{failure.last_lines}", file=sys.stderr
            )
        if failures:
            raise RuntimeError(f"{len(failures)} trials failed; the same command tries them again.")
        return [found[run.name].record for run in planned]

    done: list[tuple[tuning.System, list[tuning.Trial]]] = []
    for number, system in enumerate(plan.systems, start=1):
        print(f"system {number} of {len(plan.systems)}: {system.flagfile}", flush=True)
        done.append((system, tuning.search(plan, system, Path(FLAGS.runs), train)))
        write_text(output / "tuning.md", _page(plan, dataset, done))
    print(f"page: {output / 'tuning.md'}")


def _check_what_is_there(plan: tuning.TuningPlan, output: Path, dataset) -> None:
    """Refuses what an earlier plan left of the trials that are known by now, of all systems at once.

    They are known up to the first stage that is not done: what is tried next depends on what it gives. Later
    ones are checked when they are.
    """
    from pipelines.comparison import results

    departures = []

    def look(planned: Sequence[PlannedRun]) -> list[dict]:
        found, more = results.survey(output, planned, dataset, "validation")
        departures.extend(more)
        if len(found) < len(planned):
            raise _NotTrainedError
        return [found[run.name].record for run in planned]

    for system in plan.systems:
        with contextlib.suppress(_NotTrainedError):
            tuning.search(plan, system, Path(FLAGS.runs), look)
    results.refuse(departures)


def _page(plan: tuning.TuningPlan, dataset, done) -> str:
    """Every trial of every system, and what to put on top of its flagfile."""
    common = " ".join(f"--{name}={value}" for name, value in plan.flags.items())
    lines = [
        f"# Tuning on {dataset.name}",
        "",
        "```",
        report.this_command(),
        "```",
        "",
        f"Dataset fingerprint `{dataset.fingerprint[:16]}`, seed {plan.seed}"
        + (f"; every trial with `{common}`." if common else "."),
        "Each stage is tried on top of the best trial so far, by Recall@50 of the validation users; the test",
        "users were not looked at. Every system has the same number of trials.",
    ]
    for system, trials in done:
        best = max(trials, key=lambda trial: trial.score)
        lines += ["", f"## {best.record['system']}", "", f"From `{system.flagfile}`.", ""]
        lines += [
            "| trial | tried | " + " | ".join(_SHOWN) + " | epoch | |",
            "|---|---|" + "---:|" * 4 + "---|",
        ]
        for number, trial in enumerate(trials):
            figures = " | ".join(f"{trial.record['validation'][name]:.4f}" for name in _SHOWN)
            epochs = f"{trial.record['best_epoch']} of {trial.record['epochs']}"
            mark = "**kept**" if trial is best else ""
            lines.append(
                f"| {number} | {_flags(trial.tried) or 'the flagfile'} | {figures} | {epochs} | {mark} |"
            )
        lines += ["", f"Kept: {_flags(best.changes) or 'the flagfile as it is'}."]
    return "\n".join(lines) + "\n"


def _flags(changes: dict) -> str:
    return " ".join(f"`--{name}={value}`" for name, value in changes.items())


if __name__ == "__main__":
    command.run(main, bad_input=(InputError,))

"""Compares systems: trains what a plan asks for, run by run, and lays the results side by side.

    python pipelines/compare.py --plan=configs/plans/yelp2018.toml --output=docs/results/yelp2018

It can be stopped and run again at any time: what is done is not computed again, an unfinished run goes on
from its last checkpoint, and only the table and the picture are made anew.
"""

import shlex
import sys
from pathlib import Path

from absl import flags

from causerec_tf.errors import InputError
from causerec_tf.files import write_text
from pipelines.command_line import command, outputs, pictures
from pipelines.comparison.plan import Plan, PlannedRun, read_plan

FLAGS = flags.FLAGS

flags.DEFINE_string("plan", None, "TOML file that says what to compare.", required=True)
flags.DEFINE_string("output", None, "Directory for records, table and picture.", required=True)
flags.DEFINE_string("runs", "runs/compare", "Directory in which the runs have theirs.")
flags.DEFINE_integer("jobs", 1, "Runs trained side by side; they share the cores.", lower_bound=1)
flags.DEFINE_list("only", [], "Train these rows alone, such as base-paper; the table has all.")
flags.DEFINE_bool("table_only", False, "Train nothing: make table and picture of what is there.")


def main() -> None:
    """Reads the plan, trains what is missing, writes table and picture."""
    output = Path(FLAGS.output)
    plan = read_plan(Path(FLAGS.plan), Path(FLAGS.runs))
    rows = {f"{row.system}-{row.recipe}": row.runs for row in plan.rows}
    if not set(FLAGS.only) <= set(rows):
        raise InputError(f"--only={','.join(FLAGS.only)}: wanted some of {', '.join(rows)}.")
    asked_for = [run for name in FLAGS.only or rows for run in rows[name]]
    outputs.check_place(output, "--output", InputError, is_filled=True)

    # TensorFlow takes seconds to import: a wrong plan should not wait for it.
    from causerec_tf.data.sequences import open_dataset
    from pipelines.comparison import results, running

    dataset = open_dataset(plan.dataset)
    trains = not FLAGS.table_only
    done = results.survey(output, plan, dataset, directories=trains)
    pending = [run for run in asked_for if run.name not in done]
    if pending and trains:
        outputs.check_place(Path(pending[0].settings.run).parent, "--runs", InputError, is_filled=True)
    print(f"{len(plan.runs)} runs on {dataset.name}, {len(done)} of them done")

    def take_over(run: PlannedRun, seconds: float) -> str:
        done[run.name] = results.store(output, run, dataset, plan)
        record = done[run.name].record
        score = ", ".join(f"{name} {record[plan.measure][name]:.4f}" for name in plan.tested)
        return (
            f"{run.name}: {plan.measure} {score}, epoch {record['best_epoch']} of {record['epochs']}"
            f" ({seconds:.0f} s)"
        )

    failures = []
    if trains:
        failures = running.train_all(
            pending, test=plan.measures_test_users, jobs=FLAGS.jobs, on_end=take_over
        )
    _write(output, plan, dataset, done)
    _report(failures)


def _write(output: Path, plan: Plan, dataset, done: dict) -> None:
    """Writes the table, and the picture where matplotlib is installed and there is something to draw."""
    from pipelines.comparison import page, picture
    from pipelines.comparison.summary import summarise

    summaries = summarise(plan, done)
    name = None
    if pictures.can_draw() and done:
        name = picture.NAME
        picture.draw(output / name, plan, dataset, summaries)
        print(f"picture: {output / name}")
    write_text(output / page.NAME, page.write(plan, dataset, summaries, command=_command(), picture=name))
    print(f"table:   {output / page.NAME}")


def _command() -> str:
    """The command that makes the whole comparison, also where only the table was asked for."""
    of_this_call = ("table_only", "only")
    kept = [one for one in sys.argv if one.lstrip("-").partition("=")[0] not in of_this_call]
    return shlex.join(["python", *kept])


def _report(failures) -> None:
    """Says what failed and why, and ends the process with exit code 1 if anything did."""
    if not failures:
        return
    for failure in failures:
        print(f"\n{failure.run.name} failed; {failure.log} ends with", file=sys.stderr)
        print("  " + failure.last_lines.replace("\n", "\n  "), file=sys.stderr)
    print(
        f"\nerror: {len(failures)} runs failed. The same command tries them again and computes nothing else.",
        file=sys.stderr,
    )
    sys.exit(1)


if __name__ == "__main__":
    command.run(main, bad_input=(InputError,))

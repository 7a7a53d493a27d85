"""Measures a trained run on test or validation users, with POP beside it.

python pipelines/evaluate.py --run=runs/quickstart --split=test --exclude_seen
"""

from pathlib import Path

from absl import flags

from causerec_tf.errors import InputError
from causerec_tf.files import check_free, write_arrays, write_json
from pipelines.command_line import command, outputs, report, trained_runs
from pipelines.studies import disturbed, robustness_page

FLAGS = flags.FLAGS

flags.DEFINE_string("run", None, "Directory of a trained run.", required=True)
flags.DEFINE_string("dataset", None, "Where the run's dataset is, if not where it was trained from.")
flags.DEFINE_enum("split", "test", ["test", "validation"], "Whose users.")
flags.DEFINE_bool(
    "exclude_seen", False, "Leave the items of a user's history out of the lists and of the targets."
)
flags.DEFINE_list(
    "disturbed",
    None,
    "Rates of disturbance: measure with foreign clicks in the histories, too. docs/studies.md;"
    " pipelines/robustness.py has several runs side by side, and pictures.",
)
flags.DEFINE_string("output", None, "Where to write the record, as JSON.")
flags.DEFINE_string("per_user", None, "Where to write the figures of each user, as .npz.")
flags.DEFINE_bool("overwrite", False, "Replace an --output or --per_user that exists.")


def main() -> None:
    """Evaluates, prints, writes the record and the users' figures if asked to."""
    for flag, file in (("--output", FLAGS.output), ("--per_user", FLAGS.per_user)):
        if file:
            outputs.check_place(file, flag, InputError)
            check_free(file, flag, overwrite=FLAGS.overwrite)
    rates = disturbed.rates_of("disturbed", FLAGS.disturbed) if FLAGS.disturbed is not None else []
    if rates and FLAGS.exclude_seen:
        raise InputError(
            "--disturbed with --exclude_seen: an item that was clicked is left out then, whether the click"
            " belongs there or not. Leave one of the two flags out."
        )

    from causerec_tf import evaluation, records

    trained = trained_runs.load_one(FLAGS.run, FLAGS.dataset)
    settings, dataset = trained.settings, trained.dataset
    measured = evaluation.evaluate(trained.model, dataset, FLAGS.split, exclude_seen=FLAGS.exclude_seen)
    users = {f"{FLAGS.split}_users": measured.num_users}
    record = records.head(settings, dataset, exclude_seen=FLAGS.exclude_seen, users=users) | {
        "is_finished": trained.is_finished,
        FLAGS.split: measured.model,
        "pop": measured.pop,
        "command": report.this_command(),
        "versions": records.versions(),
    }
    report.print_record(record)
    if rates:
        record["disturbed"] = _disturbed(trained, rates)
    if FLAGS.per_user:
        write_arrays(Path(FLAGS.per_user), measured.per_user)
        print(f"users:  {FLAGS.per_user}")
    if FLAGS.output:
        write_json(Path(FLAGS.output), record)
        print(f"record: {FLAGS.output}")


def _disturbed(trained, rates: list[float]) -> dict:
    """Measures with disturbed histories, prints what is lost, and gives it for the record."""
    result = disturbed.measure(
        trained, FLAGS.run, FLAGS.split, rates, num_draws=disturbed.NUM_DRAWS, seed=disturbed.SEED
    )
    conditions = [one.record() for one in result.conditions]
    print(robustness_page.summary(conditions))
    return {
        "seed": disturbed.SEED,
        "draws": disturbed.NUM_DRAWS,
        "conditions": conditions,
        "clicks_sha256": result.digest,
    }


if __name__ == "__main__":
    command.run(main, bad_input=(InputError,))

"""Measures a trained run on test or validation users, with POP beside it.

python pipelines/evaluate.py --run=runs/quickstart --split=test --exclude_seen
"""

from pathlib import Path

from absl import flags

from causerec_tf.errors import InputError
from pipelines import command, report

FLAGS = flags.FLAGS

flags.DEFINE_string("run", None, "Directory of a trained run.", required=True)
flags.DEFINE_enum("split", "test", ["test", "validation"], "Whose users.")
flags.DEFINE_bool("exclude_seen", False, "Leave the items of a user's history out of the lists.")
flags.DEFINE_string("output", None, "Where to write the record, as JSON.")
flags.DEFINE_bool("overwrite", False, "Replace an --output that exists.")


def main() -> None:
    """Evaluates, prints, writes the record if asked to."""
    output = Path(FLAGS.output) if FLAGS.output else None
    if output is not None and output.exists() and not FLAGS.overwrite:
        raise InputError(f"{output} exists: choose another --output, or add --overwrite.")

    from causerec_tf import records
    from causerec_tf.runs import load_trained, write_json

    trained = load_trained(FLAGS.run)
    if not trained.is_finished:
        print(f"note: {FLAGS.run} is not finished; this is its best epoch so far")
    settings, dataset = trained.settings, trained.dataset
    measured = records.evaluate(
        trained.model, settings, dataset, FLAGS.split, exclude_seen=FLAGS.exclude_seen
    )
    users = {f"{FLAGS.split}_users": measured.num_users}
    record = records.head(settings, dataset, exclude_seen=FLAGS.exclude_seen, users=users) | {
        "is_finished": trained.is_finished,
        FLAGS.split: measured.model,
        "pop": measured.pop,
        "command": report.this_command(),
        "versions": records.versions(),
    }
    report.print_record(record)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_json(output, record)
        print(f"record: {output}")


if __name__ == "__main__":
    command.run(main, bad_input=(InputError,))

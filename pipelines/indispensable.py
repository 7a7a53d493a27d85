"""Removes the past items that recommendations rest on by their scores, and measures what changes.

python pipelines/indispensable.py --run=runs/quickstart --output=runs/quickstart/indispensable.json
"""

from pathlib import Path

from absl import flags

from causerec_tf.errors import InputError
from causerec_tf.files import check_free, write_json
from pipelines.command_line import command, outputs, report, trained_runs

FLAGS = flags.FLAGS

flags.DEFINE_string("run", None, "Directory of a trained run.", required=True)
flags.DEFINE_string("dataset", None, "Where the run's dataset is now, if it was moved.")
flags.DEFINE_string("output", None, "Where to write the record, as JSON.", required=True)
flags.DEFINE_enum("split", "test", ["test", "validation"], "Which users to measure.")
flags.DEFINE_integer("remove", 3, "How many items of each history to remove.", lower_bound=1)
flags.DEFINE_integer("seed", 0, "Seed of the items removed at random.", lower_bound=0)
flags.DEFINE_bool("overwrite", False, "Replace --output if it exists.")


def main() -> None:
    """Loads, removes, measures, writes."""
    output = Path(FLAGS.output)
    outputs.check_place(output, "--output", InputError)
    check_free(output, "--output", overwrite=FLAGS.overwrite)

    from causerec_tf import records
    from causerec_tf.data.holdout import evaluation_users
    from causerec_tf.studies import indispensable_items

    trained = trained_runs.load_one(FLAGS.run, FLAGS.dataset)
    settings, dataset = trained.settings, trained.dataset
    users = evaluation_users(dataset.read(FLAGS.split), settings.max_history)
    answers = indispensable_items.removal(trained.model, users, FLAGS.remove, seed=FLAGS.seed)
    head = records.head(settings, dataset, exclude_seen=False, users={f"{FLAGS.split}_users": len(users)})
    record = head | {
        "is_finished": trained.is_finished,
        "removed": FLAGS.remove,
        "removal_seed": FLAGS.seed,
        "ways": answers,
        "command": report.this_command(),
        "versions": records.versions(),
    }
    print(f"{FLAGS.remove} items of each history removed{'':8}{'top 50 replaced':>22}{'first item lost':>22}")
    for way, values in answers.items():
        cells = (values["replaced@50"], values["lost@50"])
        print(f"{way:41}" + "".join(f"{report.mean_and_error(cell, 4):>22}" for cell in cells))
    write_json(output, record)
    print(f"record: {output}")


if __name__ == "__main__":
    command.run(main, bad_input=(InputError,))

"""Measures trained runs on users whose histories are disturbed by clicks that do not belong there.

    python pipelines/robustness.py --runs=runs/quickstart_base,runs/quickstart --output=runs/robustness

Every run meets the same clicks. It writes `robustness.json`, `robustness.md` and `robustness.png`;
docs/studies.md says what is in them.
"""

from pathlib import Path

from absl import flags

from causerec_tf import files
from causerec_tf.errors import InputError
from pipelines.command_line import command, outputs, pictures, report, trained_runs
from pipelines.studies import disturbed

FLAGS = flags.FLAGS

flags.DEFINE_list("runs", None, "Directories of trained runs on one dataset, comma-separated.", required=True)
flags.DEFINE_string("dataset", None, "Where their dataset is now, if it was moved.")
flags.DEFINE_string("output", None, "Directory to write.", required=True)
flags.DEFINE_enum("split", "test", ["test", "validation"], "Which users to measure.")
flags.DEFINE_list("rates", [*disturbed.RATES], "Numbers of clicks, as shares of the history's length.")
flags.DEFINE_integer(
    "draws",
    disturbed.NUM_DRAWS,
    "Random draws of each kind, and attacked items of each popularity band.",
    lower_bound=1,
)
flags.DEFINE_integer("seed", disturbed.SEED, "Seed of the draws.", lower_bound=0)
flags.DEFINE_bool("overwrite", False, "Replace --output if this script made it.")

_MARKER = "robustness.json"


def main() -> None:
    """Loads the runs, disturbs, measures, writes."""
    output = Path(FLAGS.output)
    outputs.check_place(output.resolve(), "--output", InputError)
    files.check_output(output, marker=_MARKER, overwrite=FLAGS.overwrite)
    trained_runs.names_of(FLAGS.runs)
    rates = disturbed.rates_of("rates", FLAGS.rates)

    from causerec_tf import records
    from pipelines.studies import robustness_page, robustness_picture

    trained = trained_runs.load(FLAGS.runs, FLAGS.dataset)
    dataset = next(iter(trained.values())).dataset
    users = {f"{FLAGS.split}_users": dataset.num_evaluation_users(FLAGS.split)}

    systems, attacked, first = {}, {}, None
    for name, one in trained.items():
        result = disturbed.measure(one, name, FLAGS.split, rates, num_draws=FLAGS.draws, seed=FLAGS.seed)
        attacked, first = result.attacked, first or result
        head = records.head(one.settings, dataset, exclude_seen=False, users=users)
        systems[name] = head | {"is_finished": one.is_finished} | result.record(beside=first)

    vocabulary = dataset.item_ids()
    record = {
        "dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint},
        "disturbances": {
            "seed": FLAGS.seed,
            "draws": FLAGS.draws,
            "rates": rates,
            "attacked": {band: [vocabulary[item - 1] for item in items] for band, items in attacked.items()},
        },
        "systems": systems,
        "command": report.this_command(),
        "versions": records.versions(),
    }
    picture = "robustness.png" if pictures.can_draw() else None
    page = robustness_page.write(record, picture=picture)
    with files.directory_written_beside(output, marker=_MARKER, overwrite=FLAGS.overwrite) as beside:
        files.write_json(beside / _MARKER, record)
        files.write_text(beside / "robustness.md", page)
        if picture is not None:
            robustness_picture.draw(beside / picture, record)
    print(page)
    print(f"record, table, picture: {output}")


if __name__ == "__main__":
    command.run(main, bad_input=(InputError,))

"""A log of interactions -> a history for each user, oldest item first: what pipelines/retrieve.py reads.

python pipelines/histories.py --input='logs/*.csv.gz' --output=histories.jsonl
python pipelines/histories.py --input='logs/*.csv.gz' --output=histories.parquet --users=active_users.txt

With the flags of the log that pipelines/prepare.py got, the ids and the order are those of the dataset.
"""

from pathlib import Path

from absl import flags

from causerec_tf.data.logs.interactions import find_files
from causerec_tf.data.logs.suspicious_ids import suspicions_of
from causerec_tf.data.logs.time_units import describe_span
from causerec_tf.data.logs.user_histories import (
    build_histories,
    check_histories_file,
    read_user_ids,
    write_histories,
)
from causerec_tf.errors import InputError
from causerec_tf.files import check_free
from pipelines.command_line import command, log_flags, outputs
from pipelines.command_line.printed_steps import Steps

FLAGS = flags.FLAGS

log_flags.define(without_input=None)
flags.DEFINE_string("output", None, "File to write, .jsonl or .parquet.", required=True)
flags.DEFINE_integer(
    "max_history",
    None,
    "Keep only the last N items of each history. None: all, which is better: the tower takes the last known"
    " items by itself, and retrieval leaves out what a history contains.",
    lower_bound=1,
)
flags.DEFINE_string(
    "users",
    None,
    "Text file with one user id per line: write only these histories, empty if the log lacks the user.",
)
flags.DEFINE_bool("overwrite", False, "Replace --output if it exists.")


def main() -> None:
    """Checks what can be checked before the log is read, then writes."""
    output = Path(FLAGS.output)
    _check_output(output)
    users = read_user_ids(Path(FLAGS.users)) if FLAGS.users else None
    steps = Steps()
    steps.begin(f"reading {','.join(FLAGS.input)}")
    log, _ = log_flags.read()
    steps.end(f"{log.rows_read:,} rows")

    steps.begin("ordering")
    histories = build_histories(log.events, max_history=FLAGS.max_history, users=users)
    lengths = histories["history"].list.len().to_numpy()
    steps.end(f"{len(histories):,} histories")

    steps.begin("writing")
    write_histories(histories, output)
    steps.end(f"{output.stat().st_size:,} bytes")

    times = log.events["time"].to_numpy()
    empty = int((lengths == 0).sum())
    without = f", {empty:,} of them without any item in the log" if empty else ""
    print()
    for name, value in (
        ("rows", log_flags.describe_rows(log.rows_read, log.skipped)),
        ("times", describe_span(int(times.min()), int(times.max()), log.time_unit)),
        ("users", f"{len(histories):,}{without}"),
        ("items", f"{lengths.sum():,} in all, {lengths.max():,} in the longest history"),
        ("histories", output),
        ("seconds", f"{steps.seconds:.1f}"),
    ):
        print(f"{name:16}{value}")
    log_flags.print_suspicions(suspicions_of(log.events))


def _check_output(output: Path) -> None:
    check_histories_file(output)
    outputs.check_place(output, "--output", InputError)
    check_free(output, "--output", overwrite=FLAGS.overwrite)
    if output.exists() and not log_flags.is_tfds():
        read = [*find_files(FLAGS.input), *([Path(FLAGS.users)] if FLAGS.users else [])]
        if output.resolve() in {path.resolve() for path in read}:
            raise InputError(f"{output} would replace a file that is read. Choose another --output.")


if __name__ == "__main__":
    command.run(main, bad_input=(InputError,))

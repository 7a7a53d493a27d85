"""Files of a log and its tables -> a first schema, for you to correct, and what was found.

python pipelines/guess_schema.py --input=log.csv --item_table=items.csv --user_table=users.csv

Kinds are guessed of the first rows. The columns of the log are taken for what is known of an event once it
has happened, such as a rating; where one is known when a list is asked for, such as a device, write
owner = "request".
"""

from pathlib import Path

from absl import flags

from causerec_tf.data.columns.schema_guess import Guess, as_toml, guess_columns, read_columns
from causerec_tf.data.logs.interactions import find_files
from causerec_tf.data.logs.log_files import open_log_file
from causerec_tf.errors import InputError
from causerec_tf.files import check_free, file_written_beside
from pipelines.command_line import command, feature_flags, log_flags

FLAGS = flags.FLAGS

log_flags.define(without_input="no columns of events")
feature_flags.define_tables()
flags.DEFINE_string("output", "schema.toml", "Schema file to write.")
flags.DEFINE_bool("overwrite", False, "Replace --output if it exists.")


def main() -> None:
    """Looks at the files and writes the schema."""
    output = Path(FLAGS.output)
    check_free(output, "--output", overwrite=FLAGS.overwrite)
    guesses = [guess for owner in ("item", "user") for guess in _of_table(owner)] + _of_log()
    if not guesses:
        raise InputError(
            "there is nothing to look at: name files with --input, --item_table or --user_table."
        )
    with file_written_beside(output) as beside:
        beside.write_text(as_toml(guesses), encoding="utf-8")
    _print(guesses)
    print(f"\nschema          {output}")


def _of_table(owner: str) -> list[Guess]:
    patterns = FLAGS[f"{owner}_table"].value
    if not patterns:
        return []
    rows = read_columns([open_log_file(path) for path in find_files(patterns)])
    id_column = feature_flags.table_id(owner)
    if id_column not in rows.columns:
        raise InputError(
            f"{','.join(patterns)} has no column {id_column!r}. Columns found:"
            f" {', '.join(map(repr, rows.columns))}. Name that of the {owner}s' ids with --{owner}_table_id."
        )
    return guess_columns(owner, rows, [id_column])


def _of_log() -> list[Guess]:
    if not any(FLAGS.input):
        return []
    how = log_flags.settings()
    if log_flags.is_tfds() or FLAGS.format == "item_lists":
        return []  # they have no other columns
    files = [open_log_file(path, how.file_format, how.header) for path in find_files(FLAGS.input)]
    rows = read_columns(files)
    roles = how.roles().values()
    for name in roles:
        if name not in rows.columns:
            raise InputError(
                f"the log has no column {name!r}. Columns found: {', '.join(map(repr, rows.columns))}. Name"
                " yours with --user_column, --item_column and --time_column."
            )
    return guess_columns("event", rows, roles)


def _print(guesses: list[Guess]) -> None:
    print(f"{'owner':8}{'column':24}{'kind':14}{'values':>9}{'missing':>9}  {'most frequent':42}why")
    for guess in guesses:
        kind = guess.column.kind if guess.column else "left out"
        print(
            f"{guess.owner:8}{guess.source[:22]:24}{kind:14}{guess.distinct:>9,}"
            f"{guess.missing / max(1, guess.rows):>9.1%}  {guess.example:42}{guess.why}"
        )


if __name__ == "__main__":
    command.run(main, bad_input=(InputError,))

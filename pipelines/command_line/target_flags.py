"""The flag --targets and what goes with it: whom to measure on what, by a file of one's own."""

from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from causerec_tf.data.logs.log_settings import LogSettings
from causerec_tf.errors import InputError
from pipelines.command_line import log_flags

if TYPE_CHECKING:
    import polars as pl

FLAGS = flags.FLAGS

# They are the flags of the script that calls `define`, and stand in its --help.
flags.disclaim_key_flags()

_OF_TARGETS = ("histories", "format", "columns", "user_column", "item_column", "on_bad_row")


def define() -> None:
    """Defines them."""
    flags.DEFINE_string(
        "targets",
        None,
        "Instead of a --split: a file of users and items (csv, tsv, JSON lines, Parquet; gzip too), such as"
        " the log of the week after. A user's items in it are the targets, all events in the dataset the"
        " history.",
    )
    flags.DEFINE_string(
        "histories", None, "For --targets: histories from this file, as pipelines/histories.py writes them."
    )
    log_flags.define_files()


def check() -> None:
    """Raises `InputError` where a flag has no effect beside the others."""
    given = [name for name in _OF_TARGETS if FLAGS[name].present]
    if FLAGS.targets is None and given:
        raise InputError(f"--{given[0]} has no effect without --targets. Leave it out, or add that.")
    if FLAGS.targets is not None and FLAGS["split"].present:
        raise InputError("--targets says who is measured. Leave it or --split out.")
    if FLAGS.targets is not None and not Path(FLAGS.targets).is_file():
        raise InputError(f"--targets={FLAGS.targets} is not there, or is no file.")


def read() -> "pl.DataFrame":
    """The rows of --targets: columns `user` and `item` (text).

    Raises:
      InputError: the file cannot be used; the message says where and why.
    """
    from causerec_tf.data.logs.interactions import read_log

    how = LogSettings(
        file_format=FLAGS.format,
        columns=FLAGS.columns,
        user_column=FLAGS.user_column,
        item_column=FLAGS.item_column,
        order="file",
        on_bad_row=FLAGS.on_bad_row,
    )
    log = read_log([FLAGS.targets], how)
    print(f"targets: {log_flags.describe_rows(log.rows_read, log.skipped)}")
    return log.events.select("user", "item")


def protocol() -> dict[str, str]:
    """What differs in a record's protocol."""
    if FLAGS.targets is None:
        return {}
    histories = f"of {Path(FLAGS.histories).name}" if FLAGS.histories else "all events in the dataset"
    return {
        "name": "own_targets",
        "history": histories,
        "targets": f"the distinct items in {Path(FLAGS.targets).name}",
    }

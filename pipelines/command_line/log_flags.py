"""The flags that name a log and say how to read it, of the scripts that read one; and reading it."""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from causerec_tf.data.logs import interactions
from causerec_tf.data.logs.log_files import FORMATS, LAYOUTS
from causerec_tf.data.logs.log_settings import LogSettings
from causerec_tf.data.logs.suspicious_ids import Suspicion, describe
from causerec_tf.data.public.amazon import REVIEWS, TRIPLES
from causerec_tf.data.public.item_lists import read_item_lists
from causerec_tf.data.public.movielens import read_movielens
from causerec_tf.data.public.original_ids import read_original_ids, restore_ids
from causerec_tf.errors import InputError
from causerec_tf.schema import Column

FLAGS = flags.FLAGS

# They are the flags of the script that calls `define`, and stand in its --help.
flags.disclaim_key_flags()

_DEFAULTS = LogSettings()
_FORMATS_WITH_COLUMNS = (_DEFAULTS.file_format, *FORMATS)
# Formats in which datasets are published settle the columns. These are logs but for that.
_LOGS_OF_LAYOUT = {"amazon_reviews": REVIEWS, "comirec": TRIPLES}
_COLUMN_FLAGS = ("columns", "user_column", "item_column", "time_column", "time_format", "order")


def define(without_input: str | None) -> None:
    """Defines them; `without_input` is what is done without --input, for --help; None: it is required."""
    is_required = without_input is None
    flags.DEFINE_list(
        "input",
        None if is_required else [],
        "The log's files: globs, comma-separated; or tfds:NAME, MovieLens in TensorFlow Datasets."
        + ("" if is_required else f" None: {without_input}."),
        required=is_required,
    )
    define_files(
        LAYOUTS,
        " item_lists: lines `user item item ...` (Yelp2018, Gowalla); amazon_reviews: reviews in JSON lines;"
        " comirec: its Amazon Books.",
    )
    flags.DEFINE_string("tfds_dir", None, "Where TensorFlow Datasets keeps its datasets, for tfds:NAME.")
    flags.DEFINE_string("time_column", _DEFAULTS.time_column, "Name of the column of times.")
    flags.DEFINE_string(
        "time_format",
        _DEFAULTS.time_format,
        "Format of the times, as for strptime, such as '%d/%m/%Y %H:%M:%S %z'. None: integers, decimal"
        " seconds or ISO-8601.",
    )
    flags.DEFINE_enum(
        "order",
        _DEFAULTS.order,
        ["time", "file"],
        "What orders the interactions: their times, or, for a log without times, their order in the files.",
    )
    flags.DEFINE_string(
        "original_user_ids", None, "Table of original id and number (user_list.txt), to restore the user ids."
    )
    flags.DEFINE_string(
        "original_item_ids", None, "The same for item ids (item_list.txt, book_item_map.txt)."
    )


def define_files(layouts: Sequence[str] = (), about_layouts: str = "") -> None:
    """Defines what is said of files without times, too: format, columns of ids, bad rows.

    Args:
      layouts: published formats that are read beside those with columns.
      about_layouts: what they are, for --help.
    """
    flags.DEFINE_enum(
        "format",
        _DEFAULTS.file_format,
        [*_FORMATS_WITH_COLUMNS, *layouts],
        "The files' format; auto: by extension." + about_layouts,
    )
    flags.DEFINE_list(
        "columns",
        _DEFAULTS.columns,
        "For csv and tsv files without a header: the name of each column, such as user,item,time;"
        " any other name is a column to ignore.",
    )
    flags.DEFINE_string("user_column", _DEFAULTS.user_column, "Name of the column of user ids.")
    flags.DEFINE_string("item_column", _DEFAULTS.item_column, "Name of the column of item ids.")
    flags.DEFINE_enum(
        "on_bad_row", _DEFAULTS.on_bad_row, ["error", "skip"], "What to do with a row that cannot be read."
    )


def is_tfds() -> bool:
    """Whether the log is one of TensorFlow Datasets."""
    return any(pattern.startswith("tfds:") for pattern in FLAGS.input)


def settings(features: Sequence[Column] = ()) -> LogSettings:
    """How the log's files are to be read, and which columns of a schema are read of each event.

    Raises:
      InputError: columns are named where the format settles them, or a column of times that is not read.
    """
    if features and (is_tfds() or FLAGS.format == "item_lists"):
        wanted = "tfds:NAME" if is_tfds() else f"--format={FLAGS.format}"
        raise InputError(f"{wanted} has no column for {features[0].key} of the schema. Take it out.")
    if is_tfds() or FLAGS.format not in _FORMATS_WITH_COLUMNS:
        given = [name for name in _COLUMN_FLAGS if FLAGS[name].present]
        if given:
            wanted = "tfds:NAME" if is_tfds() else f"--format={FLAGS.format}"
            raise InputError(f"{wanted} settles the columns. Leave --{given[0]} out.")
    if FLAGS.format in _LOGS_OF_LAYOUT:
        return dataclasses.replace(
            _LOGS_OF_LAYOUT[FLAGS.format], on_bad_row=FLAGS.on_bad_row, features=features
        )
    if FLAGS.order == "file" and FLAGS["time_column"].present:
        raise InputError("--order=file reads no times. Leave it or --time_column out.")
    asked: dict[str, Any] = {name: FLAGS[name].value for name in (*_COLUMN_FLAGS, "on_bad_row")}
    return LogSettings(file_format=FLAGS.format, features=features, **asked)


def read(
    test_patterns: Sequence[str] = (), features: Sequence[Column] = ()
) -> tuple[interactions.Log, dict[str, str] | None]:
    """The log, and the items' names where the log itself has them; also published test lists.

    Args:
      test_patterns: globs and paths of published test lists.
      features: columns of a schema that are read of each event.

    Raises:
      InputError: flags do not go together, or the log cannot be used.
    """
    if not any(FLAGS.input):
        raise InputError("--input is empty: name the log's files.")
    how = settings(features)
    names = None
    if is_tfds():
        if len(FLAGS.input) > 1 or FLAGS.format != _DEFAULTS.file_format:
            raise InputError("tfds:NAME stands alone: no other --input, and no --format.")
        if test_patterns:
            raise InputError("tfds:NAME has no published test lists: leave --given_test out.")
        log, names = read_movielens(FLAGS.input[0].removeprefix("tfds:"), FLAGS.tfds_dir)
    elif FLAGS.format == "item_lists":
        log = read_item_lists(FLAGS.input, on_bad_row=how.on_bad_row, test_patterns=test_patterns)
    else:
        log = interactions.read_log(FLAGS.input, how, test_patterns)
    return _with_original_ids(log), names


def describe_rows(rows_read: int, skipped: dict[str, int]) -> str:
    """What a summary says of the rows of a log."""
    reasons = ", ".join(f"{count:,} with {reason}" for reason, count in skipped.items())
    return f"{rows_read:,} read, skipped: {reasons or 'none'}"


def print_suspicions(found: Iterable[Suspicion]) -> None:
    """Prints a note for each suspicion about the log's ids."""
    for one in found:
        print(f"note: {describe(one)}")


def _with_original_ids(log: interactions.Log) -> interactions.Log:
    events = log.events
    for role, table in (("user", FLAGS.original_user_ids), ("item", FLAGS.original_item_ids)):
        if table:
            restored = restore_ids(events[role], read_original_ids(Path(table)), Path(table))
            events = events.with_columns(restored.alias(role))
    return dataclasses.replace(log, events=events)

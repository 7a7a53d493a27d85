"""The flags that name a schema and the tables of items and users, and reading them."""

from pathlib import Path

from absl import flags

from causerec_tf.data.columns.feature_tables import TableUse
from causerec_tf.data.columns.features_of_log import Features, read_features
from causerec_tf.schema import OWNERS, Schema, read_schema

FLAGS = flags.FLAGS

# They are the flags of the script that calls `define`, and stand in its --help.
flags.disclaim_key_flags()

_TABLES = ("item", "user")


def define_tables() -> None:
    """Defines the flags of the tables; those of the log are defined too."""
    for owner in _TABLES:
        flags.DEFINE_list(
            f"{owner}_table",
            [],
            f"Table of {owner}s, a row each: globs of CSV, TSV, JSON lines or Parquet (gzip too).",
        )
        flags.DEFINE_string(
            f"{owner}_table_id",
            None,
            f"Name of the table's column of {owner} ids. None: as --{owner}_column.",
        )


def define() -> None:
    """Defines the flags of a preparation with a schema."""
    flags.DEFINE_string(
        "schema", None, "Schema file (TOML): the columns beyond user, item and time. None: there are none."
    )
    define_tables()


def table_id(owner: str) -> str:
    """The name of the column of ids of a table."""
    return str(FLAGS[f"{owner}_table_id"].value or FLAGS[f"{owner}_column"].value)


def schema() -> Schema:
    """The schema that is asked for.

    Raises:
      InputError: it cannot be read.
    """
    return read_schema(Path(FLAGS.schema)) if FLAGS.schema else Schema()


def read(asked: Schema) -> Features:
    """A schema with its tables.

    Raises:
      InputError: a table is missing, has no effect, or cannot be used.
    """
    return read_features(
        asked,
        {owner: (FLAGS[f"{owner}_table"].value or None, table_id(owner)) for owner in _TABLES},
        FLAGS.on_bad_row,
    )


def describe(use: TableUse) -> str:
    """What a summary says of a table and the log."""
    unreadable = ", ".join(f"{count:,} of {key}" for key, count in use.unreadable.items())
    return (
        f"{use.rows:,} rows; {use.ids - use.without_row:,} of {use.ids:,} {use.owner}s have one,"
        f" {use.not_in_log:,} are of no {use.owner} of the log"
        + (f"; values that cannot be read and count as missing: {unreadable}" if unreadable else "")
    )


def describe_schema(asked: Schema) -> str:
    """What a summary says of a schema."""
    return "; ".join(
        f"{owner}: " + ", ".join(f"{column.name} ({column.kind})" for column in asked.of(owner))
        for owner in OWNERS
        if asked.of(owner)
    )

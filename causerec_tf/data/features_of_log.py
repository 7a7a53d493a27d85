"""A schema, its tables and a log's sequences -> every column as a dataset stores it. No TensorFlow."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import polars as pl

from causerec_tf.data import times
from causerec_tf.data.feature_fitting import Fit, StoredColumn, fit, stored_values
from causerec_tf.data.feature_tables import FeatureTable, TableUse, rows_of, table_for
from causerec_tf.data.interactions import SplitSequences
from causerec_tf.errors import InputError
from causerec_tf.schema import Schema


@dataclass(frozen=True)
class Features:
    """What a preparation is given beside the log.

    Attributes:
      schema: the columns.
      tables: owner, `item` or `user`, -> its table, where the schema has a column of it.
    """

    schema: Schema = field(default_factory=Schema)
    tables: Mapping[str, FeatureTable] = field(default_factory=dict)


@dataclass(frozen=True)
class FittedFeatures:
    """The columns of a schema, in its order, and how the tables fit the log."""

    columns: tuple[StoredColumn, ...] = ()
    uses: tuple[TableUse, ...] = ()

    def description(self) -> dict[str, Any]:
        """What `dataset.json` says of the tables in its `source`."""
        if not self.uses:
            return {}
        return {
            "tables": {
                use.owner: {
                    name: value
                    for name, value in asdict(use).items()
                    if name != "owner" and (value or name != "unreadable")
                }
                for use in self.uses
            }
        }


def read_features(
    schema: Schema, sources: Mapping[str, tuple[Any, str]], on_bad_row: str = "error"
) -> Features:
    """Reads the tables that a schema needs.

    Args:
      schema: the columns.
      sources: `item` and `user` -> a frame or paths, or None, and the name of the column of ids.
      on_bad_row: `error`, or `skip`: a value that cannot be used counts as missing.

    Raises:
      InputError: a table is missing, has no effect, or cannot be used.
    """
    tables = {}
    for owner, (source, id_column) in sources.items():
        table = table_for(schema, owner, source, id_column, on_bad_row)
        if table is not None:
            tables[owner] = table
    return Features(schema, tables)


def fit_features(features: Features, sequences: SplitSequences, time_unit: str) -> FittedFeatures:
    """Fits the columns on the training events, and brings all values in the form in which they are stored.

    Raises:
      InputError: a column is computed of times, and the log has none.
    """
    schema = features.schema
    if schema.needs_times and time_unit == times.ORDER:
        column = next(column for column in schema.columns if column.is_of_time)
        raise InputError(
            f"{column.key} is computed of times, and the log is read without: its order is that of the file."
            " Take the column out of the schema, or name the log's times."
        )
    in_training = sequences.in_records("train")
    events = sequences.items[in_training] - 1
    counts = {"item": np.bincount(events, minlength=len(sequences.vocabulary))}
    values, uses = dict[str, pl.Series](), list[TableUse]()
    for owner, ids in (("item", sequences.vocabulary),):
        if owner in features.tables:
            found, use = rows_of(features.tables[owner], schema.of(owner), ids)
            values |= {column.key: found[column.key] for column in schema.of(owner)}
            uses.append(use)
    columns = []
    for column in schema.columns:
        if column.is_of_time:
            columns.append(StoredColumn(Fit(column)))
            continue
        if column.owner != "item":
            raise InputError(f"{column.key}: columns of the {column.owner} are not read yet.")
        fitted = fit(column, values[column.key], counts[column.owner])
        columns.append(StoredColumn(fitted, stored_values(fitted, values[column.key])))
    return FittedFeatures(tuple(columns), tuple(uses))

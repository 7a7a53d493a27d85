"""A schema, its tables and a log's sequences -> every column as a dataset stores it. No TensorFlow."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import polars as pl

from causerec_tf.data.columns.feature_fitting import Fit, StoredColumn, fit, stored_values
from causerec_tf.data.columns.feature_tables import FeatureTable, TableUse, rows_of, table_for
from causerec_tf.data.logs import times
from causerec_tf.data.logs.time_units import unit_of
from causerec_tf.data.splits.split_sequences import SplitSequences
from causerec_tf.errors import InputError
from causerec_tf.schema import Column, Schema


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


def of_events(schema: Schema) -> tuple[Column, ...]:
    """The columns of events and requests that a log has, not those of times."""
    return tuple(
        column for column in schema.columns if column.owner in ("event", "request") and not column.is_of_time
    )


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
    _check_times(schema, int(sequences.times.max()), time_unit)
    in_training, records = sequences.in_records("train"), sequences.records["train"]
    of_users = np.zeros(len(sequences.user_ids), np.int64)
    of_users[records.users] = records.lengths
    of_events = np.zeros(len(sequences.items), np.int64)
    of_events[in_training] = 1
    counts = {
        "item": np.bincount(sequences.items[in_training] - 1, minlength=len(sequences.vocabulary)),
        "user": of_users,
        "event": of_events,
        "request": of_events,
    }
    ids = {"item": sequences.vocabulary, "user": sequences.user_ids}
    return _fit(features, ids, counts, sequences.columns.to_dict())


def fit_item_features(
    features: Features, item_ids: Sequence[str], counts: np.ndarray, last_time: int, time_unit: str
) -> FittedFeatures:
    """`fit_features` of a schema that `check_item_features` passes.

    Args:
      features: the schema and the table of items.
      item_ids: the vocabulary.
      counts: int64 [items], the number of training events of each.
      last_time: of the log.
      time_unit: of the log.

    Raises:
      InputError: a column is computed of times, and the log has none.
    """
    _check_times(features.schema, last_time, time_unit)
    return _fit(features, {"item": item_ids}, {"item": counts}, {})


def check_item_features(schema: Schema, who: str) -> None:
    """Raises `InputError` where a schema has other columns than of items and times, which `who` reads."""
    for column in schema.columns:
        if column.owner != "item" and not column.is_of_time:
            raise InputError(
                f"{column.key}: {who} reads columns of items and of times alone. Take it out of the schema,"
                " or say --runner=local."
            )


def _fit(
    features: Features,
    ids_of: Mapping[str, Sequence[str]],
    counts: Mapping[str, np.ndarray],
    of_events: Mapping[str, pl.Series],
) -> FittedFeatures:
    """Fits columns; `counts` has, by owner, the number of training events that have each value."""
    schema, values, uses = features.schema, dict(of_events), list[TableUse]()
    for owner, ids in ids_of.items():
        if owner in features.tables:
            found, use = rows_of(features.tables[owner], schema.of(owner), ids)
            values |= {column.key: found[column.key] for column in schema.of(owner)}
            uses.append(use)
    columns = []
    for column in schema.columns:
        if column.is_of_time:
            columns.append(StoredColumn(Fit(column)))
            continue
        fitted = fit(column, values[column.key], counts[column.owner])
        columns.append(StoredColumn(fitted, stored_values(fitted, values[column.key])))
    return FittedFeatures(tuple(columns), tuple(uses))


def _check_times(schema: Schema, last: int, time_unit: str) -> None:
    for column in schema.columns:
        if column.is_of_time and time_unit == times.ORDER:
            raise InputError(
                f"{column.key} is computed of times, and the log is read without: its order is that of the"
                " file. Take the column out of the schema, or name the log's times."
            )
        if column.kind in ("hour", "weekday") and unit_of(last, time_unit) is None:
            raise InputError(
                f"{column.key} is of the calendar, and the times of the log are no dates: they end with"
                f" {last}, as given. Take the column out of the schema."
            )

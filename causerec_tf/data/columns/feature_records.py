"""The columns of users, events and requests in a dataset's records: written, and read back.

A record has a list for each column, under its key. Of a user: the stored values without padding, and nothing
where none is there. Of events and requests: a value for each of the record's events; numbers that are missing
are NaN.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import polars as pl
import tensorflow as tf

from causerec_tf.data.columns.feature_fitting import StoredColumn
from causerec_tf.data.ragged import row_splits
from causerec_tf.schema import MISSING, Column

OF_EVENTS = ("event", "request")


def in_records(columns: Iterable[Column]) -> list[Column]:
    """Those of the columns that records hold."""
    return [column for column in columns if column.owner != "item" and not column.is_of_time]


def missing_value(column: Column) -> float:
    """What stands where no value is."""
    return float("nan") if column.kind == "numeric" else MISSING


class RecordColumns:
    """Adds the columns to the records of sequences."""

    def __init__(self, columns: Sequence[StoredColumn]):
        """Brings the values in the form of records."""
        # Key, the list of `tf.train.Feature` that takes it, all values, and of users where each one's lie.
        self._columns: list[tuple[str, str, np.ndarray, np.ndarray | None]] = []
        for one in columns:
            if one.column in in_records([one.column]):
                assert one.stored is not None
                kind = "int64_list" if one.column.is_integer else "float_list"
                splits = None if one.column.owner in OF_EVENTS else _user_splits(one.column, one.stored)
                self._columns.append((one.column.key, kind, _flat(one.column, one.stored), splits))

    def add(self, example: tf.train.Example, user: int, start: int, end: int) -> None:
        """Adds those of a user and of the events from `start` up to but without `end`."""
        for key, kind, values, splits in self._columns:
            first, behind = (start, end) if splits is None else (splits[user], splits[user + 1])
            getattr(example.features.feature[key], kind).value.extend(values[first:behind].tolist())


def record_features(columns: Iterable[Column]) -> dict[str, tf.io.RaggedFeature]:
    """How `tf.io.parse_example` reads the columns of records, by their keys."""
    return {
        column.key: tf.io.RaggedFeature(
            tf.int64 if column.is_integer else tf.float32, row_splits_dtype=tf.int64
        )
        for column in in_records(columns)
    }


def values_of_users(column: Column, parsed: tf.RaggedTensor) -> tf.Tensor:
    """A parsed column of users as stored: int32 or float32 [users, *column.shape]."""
    values = parsed.with_values(tf.cast(parsed.values, tf.int32)) if column.is_integer else parsed
    width = column.shape[0] if column.shape else 1
    padded = values.to_tensor(default_value=missing_value(column), shape=[None, width])
    return padded if column.shape else padded[:, 0]


def metadata(columns: Iterable[Column]) -> dict[str, Any]:
    """The columns as TensorFlow Datasets describes features, by owner and name."""
    import tensorflow_datasets as tfds  # here, because reading a dataset does without it

    found: dict[str, Any] = {}
    for column in in_records(columns):
        kind = np.int64 if column.is_integer else np.float32
        found.setdefault(column.owner, {})[column.name] = tfds.features.Sequence(kind)
    return found


def _flat(column: Column, stored: pl.Series) -> np.ndarray:
    """All values in a row, int64 or float32."""
    kind = np.int64 if column.is_integer else np.float32
    if isinstance(stored.dtype, pl.List):
        return stored.filter(stored.list.len() > 0).explode().to_numpy().astype(kind)
    if column.owner in OF_EVENTS:
        return stored.fill_null(missing_value(column)).to_numpy().astype(kind)
    return stored.filter(_is_there(column, stored)).to_numpy().astype(kind)


def _user_splits(column: Column, stored: pl.Series) -> np.ndarray:
    lengths = stored.list.len() if isinstance(stored.dtype, pl.List) else _is_there(column, stored)
    return row_splits(lengths.cast(pl.Int64).to_numpy())


def _is_there(column: Column, stored: pl.Series) -> pl.Series:
    return stored.is_not_null() if column.kind == "numeric" else stored != MISSING

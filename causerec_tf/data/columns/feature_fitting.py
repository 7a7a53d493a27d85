"""What the training events say of a schema's columns, and values as they are stored.

Each training event counts its item's, its user's or its own value once. A vocabulary has the most frequent
values, by falling frequency, then by the order of their bytes. Mean and standard deviation are of the values
that are there. See `schema` for what is stored.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from causerec_tf.data.ragged import rows_and_positions
from causerec_tf.schema import FIRST_VALUE, MISSING, UNKNOWN, Column

STORED_TYPES: dict[str, Any] = {
    "categorical": pl.Int32,
    "multi": pl.List(pl.Int32),
    "numeric": pl.Float32,
    "embedding": pl.List(pl.Float32),
    "text": pl.List(pl.Int32),
}
_TEXTS_AT_ONCE = 1 << 16


@dataclass(frozen=True)
class Fit:
    """What is fitted of a column.

    Attributes:
      column: of the schema.
      vocabulary: categorical, multi: its values, the most frequent first.
      mean: numeric.
      std: numeric; 1 where all values are alike.
    """

    column: Column
    vocabulary: list[str] = field(default_factory=list)
    mean: float = 0.0
    std: float = 1.0

    def description(self) -> dict[str, Any]:
        """What `dataset.json` says of it."""
        fitted: dict[str, Any] = {}
        if self.column.kind in ("categorical", "multi"):
            fitted = {"num_values": len(self.vocabulary)}
        elif self.column.kind == "numeric":
            fitted = {"mean": self.mean, "std": self.std}
        return {**self.column.description(), "fitted": fitted}


@dataclass(frozen=True)
class StoredColumn:
    """A column as a dataset stores it: a value of each item, user or event, in their order.

    Attributes:
      fit: of the column.
      stored: of the type that `STORED_TYPES` has; numeric: null is missing, of lists an empty one. None: the
        column is of times.
    """

    fit: Fit
    stored: pl.Series | None = None

    @property
    def column(self) -> Column:
        """Of the schema."""
        return self.fit.column


def fit(column: Column, values: pl.Series, counts: np.ndarray) -> Fit:
    """Fits a column.

    Args:
      column: of the schema.
      values: as `column_values` gives them, [rows].
      counts: int64 [rows], how many training events have each row's value.
    """
    if column.kind == "numeric":
        return _moments(column, values, counts)
    if column.kind not in ("categorical", "multi"):
        return Fit(column)
    rows = pl.DataFrame({"value": values, "count": counts}).filter(pl.col("count") > 0)
    if column.kind == "multi":
        rows = rows.filter(pl.col("value").list.len() > 0).explode("value")
    return Fit(column, vocabulary_of(column, rows.drop_nulls("value")))


def vocabulary_of(column: Column, counted: pl.DataFrame) -> list[str]:
    """The vocabulary of values, columns `value` and `count`; a value may have several rows."""
    totals = counted.group_by("value").agg(pl.col("count").sum())
    ranked = totals.sort(["count", "value"], descending=[True, False])
    return ranked["value"].head(column.size).to_list()


def stored_values(of: Fit, values: pl.Series) -> pl.Series:
    """Values as they are stored, [rows], of the type that `STORED_TYPES` has."""
    kind, length = of.column.kind, of.column.length
    if kind == "numeric":
        stored = values.cast(pl.Float32)
    elif kind == "categorical":
        stored = _codes(of, values).fill_null(MISSING)
    elif kind == "multi":
        rows = values.list.len().fill_null(0).to_numpy()
        flat = values.filter(pl.Series(rows > 0)).explode()
        stored = _distinct_lists(
            np.repeat(np.arange(len(values)), rows), _codes(of, flat), len(values), length
        )
    elif kind == "text":
        rows, words = _words(values, of.column.size)
        stored = _distinct_lists(rows, pl.Series(words, dtype=pl.Int32), len(values), length)
    else:
        stored = values.fill_null([])
    return stored.cast(STORED_TYPES[kind])


def dense(column: Column, stored: pl.Series) -> np.ndarray:
    """Stored values as an array [rows, *column.shape], int32 or float32, padded on the right."""
    if not isinstance(stored.dtype, pl.List):
        return stored.fill_null(float("nan")).to_numpy() if column.kind == "numeric" else stored.to_numpy()
    lengths = stored.list.len().to_numpy()
    rows, positions = rows_and_positions(lengths)
    padded = np.zeros((len(stored), *column.shape), np.int32 if column.is_integer else np.float32)
    padded[rows, positions] = stored.filter(pl.Series(lengths > 0)).explode().to_numpy()
    return padded


def _moments(column: Column, values: pl.Series, counts: np.ndarray) -> Fit:
    is_there = values.is_not_null().to_numpy() & (counts > 0)
    numbers = values.filter(pl.Series(is_there)).to_numpy().astype(np.float64)
    weights = counts[is_there]
    if not len(numbers):
        return Fit(column)
    if numbers.min() == numbers.max():
        return Fit(column, mean=float(numbers[0]))
    mean = np.average(numbers, weights=weights)
    std = np.sqrt(np.average((numbers - mean) ** 2, weights=weights))
    return Fit(column, mean=float(mean), std=float(std))


def _codes(of: Fit, values: pl.Series) -> pl.Series:
    """Values as `schema` numbers them, int32 [rows]; nulls stay."""
    known = pl.DataFrame(
        {
            "value": pl.Series(of.vocabulary, dtype=pl.String),
            "code": np.arange(FIRST_VALUE, FIRST_VALUE + len(of.vocabulary), dtype=np.int32),
        }
    )
    found = values.alias("value").to_frame().join(known, on="value", how="left", maintain_order="left")
    return found.select(
        pl.when(pl.col("value").is_not_null()).then(pl.col("code").fill_null(UNKNOWN)).cast(pl.Int32)
    ).to_series()


def _distinct_lists(rows: np.ndarray, codes: pl.Series, num_rows: int, length: int) -> pl.Series:
    """Codes, each of a row, as a list of distinct ones a row, the first `length`."""
    entries = pl.DataFrame({"row": rows, "code": codes}, schema={"row": pl.Int64, "code": pl.Int32})
    lists = (
        entries.unique(maintain_order=True)
        .group_by("row", maintain_order=True)
        .agg(pl.col("code").head(length))
    )
    every = pl.DataFrame({"row": np.arange(num_rows, dtype=np.int64)})
    return every.join(lists, on="row", how="left", maintain_order="left")["code"].fill_null([])


def _words(texts: pl.Series, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The row of each hashed word and the word: int64 [words] each."""
    from causerec_tf.data.columns.hashed_words import hashed_words  # here: TensorFlow takes seconds to import

    rows, words = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        part = texts.slice(start, _TEXTS_AT_ONCE).fill_null("")
        found = hashed_words(part.to_list(), size)
        rows.append(start + found.value_rowids().numpy())
        words.append(found.values.numpy())
    return np.concatenate(rows), np.concatenate(words)


def by_key(columns: Sequence[StoredColumn], owner: str) -> dict[str, StoredColumn]:
    """The columns of an owner that are stored, by their keys."""
    return {one.column.key: one for one in columns if one.column.owner == owner and one.stored is not None}

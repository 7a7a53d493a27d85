"""The files of features in a dataset's directory: vocabularies, and the table of items. No TensorFlow."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from causerec_tf.data.columns.feature_fitting import StoredColumn, by_key, dense
from causerec_tf.schema import Column, FittedColumn, schema_of

VOCABULARIES = "features"
ITEM_FEATURES_FILE = "item_features.parquet"


def vocabulary_file(column: Column) -> str:
    """The name of a column's vocabulary in a dataset."""
    return f"{VOCABULARIES}/{column.owner}.{column.name}.txt"


def write_feature_files(directory: Path, columns: Sequence[StoredColumn]) -> list[str]:
    """Writes what is not in records.

    Returns:
      The names of the files, in the order of the schema.
    """
    names = []
    for one in columns:
        if one.column.kind in ("categorical", "multi"):
            names.append(vocabulary_file(one.column))
            path = directory / names[-1]
            path.parent.mkdir(exist_ok=True)
            path.write_bytes("".join(value + "\n" for value in one.fit.vocabulary).encode("utf-8"))
    items = by_key(columns, "item")
    if items:
        table = pl.DataFrame({one.column.name: one.stored for one in items.values()})
        table.write_parquet(directory / ITEM_FEATURES_FILE, compression="zstd", statistics=False)
        names.append(ITEM_FEATURES_FILE)
    return names


def read_item_features(directory: Path, columns: Sequence[Column], num_items: int) -> dict[str, np.ndarray]:
    """The values of items by name, V + 1 rows [V + 1, *column.shape], of which row 0 is missing values."""
    table = pl.read_parquet(directory / ITEM_FEATURES_FILE) if columns else pl.DataFrame()
    found = {}
    for column in columns:
        values = dense(column, table[column.name])
        padding = np.full((1, *column.shape), np.nan if column.kind == "numeric" else 0, values.dtype)
        found[column.name] = np.concatenate([padding, values])
        if len(values) != num_items:
            raise ValueError(f"got {len(values)} rows, wanted {num_items}, one for each item")
    return found


def fitted_columns(directory: Path, described: Sequence[dict[str, Any]]) -> list[FittedColumn]:
    """The columns as `dataset.json` describes them."""
    found = []
    for entries in described:
        fitted = entries["fitted"]
        (column,) = schema_of([{name: entries[name] for name in entries if name != "fitted"}]).columns
        has_vocabulary = column.kind in ("categorical", "multi")
        found.append(
            FittedColumn(
                column,
                num_values=fitted.get("num_values", 0),
                vocabulary=directory / vocabulary_file(column) if has_vocabulary else None,
                mean=fitted.get("mean", 0.0),
                std=fitted.get("std", 1.0),
            )
        )
    return found

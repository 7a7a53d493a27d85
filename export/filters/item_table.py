"""Reads the attributes of items from a table: CSV, TSV, JSON lines or Parquet."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from export.filters.columns import Kind
from export.filters.expression import WORDS
from export.filters.number_column import seconds_of
from export.filters.stored_attributes import MOST_COLUMNS, ItemAttributes, Labels, Numbers
from export.store.bundle_errors import BundleError

_DELIMITERS = {".csv": ",", ".tsv": "\t"}


def read_item_table(
    path: Path,
    item_column: str,
    *,
    columns: Sequence[str] = (),
    category: Sequence[str] = (),
    multi: Sequence[str] = (),
    time: Sequence[str] = (),
    separator: str = "|",
) -> ItemAttributes:
    """Reads a table with a row for each item; an empty cell is a missing value.

    A column of text becomes a category, of lists one of several values, of numbers, truth values, dates and
    times what it is.

    Args:
      path: ends in .csv, .tsv, .jsonl, .ndjson or .parquet; the first four also with .gz.
      item_column: of the ids, strings or integers.
      columns: those to take; empty: all.
      category: columns whose numbers are names.
      multi: columns of text with several values, and `separator` between them.
      time: columns of text in ISO 8601, or of numbers that are seconds since 1970.
      separator: of `multi`.

    Raises:
      BundleError: the file, an id or a column cannot be read; the message names it.
    """
    frame = _frame(path)
    named = [item_column, *columns, *category, *multi, *time]
    if missing := [name for name in named if name not in frame.columns]:
        has = ", ".join(map(repr, frame.columns))
        raise BundleError(f"{path} has no column {missing[0]!r}; it has {has}.")
    taken = [name for name in frame.columns if name != item_column and (not columns or name in columns)]
    if reserved := [name for name in taken if name in WORDS]:
        raise BundleError(f"{path}: the column {reserved[0]!r} is a word of filters; rename it.")
    if not taken or len(taken) > MOST_COLUMNS:
        raise BundleError(
            f"{path} has {len(taken)} columns beside {item_column!r}; wanted 1 to {MOST_COLUMNS}."
        )
    ids = _ids(path, frame[item_column])
    read: dict[str, Labels | Numbers] = {}
    for name in taken:
        series = frame[name]
        if name in multi and series.dtype == pl.String:
            series = series.str.split(separator)
        kind = "time" if name in time else "category" if name in category else _kind(path, series)
        try:
            read[name] = _column(series, kind)
        except (ValueError, OverflowError, pl.exceptions.PolarsError) as error:
            raise BundleError(f"{path}, column {name!r} cannot be read as {kind}: {error}") from error
    return ItemAttributes(ids, read)


def _frame(path: Path) -> pl.DataFrame:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    kind = suffixes[-2] if suffixes[-1:] == [".gz"] and len(suffixes) > 1 else "".join(suffixes[-1:])
    try:
        if kind in _DELIMITERS:
            # A quote in a tab-separated file is a quote, as in the other files of this project.
            quote = '"' if kind == ".csv" else None
            return pl.read_csv(
                path,
                separator=_DELIMITERS[kind],
                quote_char=quote,
                infer_schema_length=None,
                try_parse_dates=True,
                glob=False,
            )
        if kind in (".jsonl", ".ndjson"):
            return pl.read_ndjson(path, infer_schema_length=None)
        if kind == ".parquet":
            return pl.read_parquet(path, glob=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise BundleError(f"{path} cannot be read: {error}") from error
    raise BundleError(f"{path} is not .csv, .tsv, .jsonl (each also .gz) or .parquet; rename or convert it.")


def _ids(path: Path, series: pl.Series) -> list[str]:
    if not (series.dtype == pl.String or series.dtype.is_integer()):
        raise BundleError(
            f"{path}, column {series.name!r} is {series.dtype}; wanted ids, strings or integers."
        )
    ids = series.cast(pl.String).to_list()
    seen: set[str] = set()
    for number, item in enumerate(ids, start=1):
        if not item or "\n" in item:
            raise BundleError(f"{path}, item {number}: {item!r} is no id; it is not empty and one line long.")
        if item in seen:
            raise BundleError(f"{path}, item {number}: {item!r} is there twice; each item has one row.")
        seen.add(item)
    if not ids:
        raise BundleError(f"{path} holds no items.")
    return ids


def _kind(path: Path, series: pl.Series) -> Kind:
    dtype = series.dtype
    if isinstance(dtype, pl.List):
        return "multi"
    if dtype == pl.Boolean:
        return "boolean"
    if dtype.is_temporal() and dtype not in (pl.Time, pl.Duration):
        return "time"
    if dtype.is_numeric():
        return "numeric"
    if dtype in (pl.String, pl.Categorical, pl.Enum, pl.Null):
        return "category"
    raise BundleError(
        f"{path}, column {series.name!r} is {dtype}; wanted text, numbers, dates or lists of text."
    )


def _column(series: pl.Series, kind: Kind) -> Labels | Numbers:
    if kind == "numeric":
        values = series.cast(pl.Float64).to_numpy().astype(np.float64)
        return Numbers(kind, np.where(np.isinf(values), np.nan, values))
    if kind == "time":
        if series.dtype == pl.String:
            cells = series.to_list()
            return Numbers(kind, np.array([seconds_of(one) if one else np.nan for one in cells], np.float64))
        if series.dtype.is_temporal():
            series = series.cast(pl.Datetime("us")).dt.epoch("us") / 1e6
        return Numbers(kind, series.cast(pl.Float64).to_numpy().astype(np.float64))
    frame = pl.DataFrame({"item": np.arange(len(series), dtype=np.int64), "label": series})
    if kind == "multi":
        frame = frame.explode("label")
    # `true` and `false`, as JSON has them; an empty text is no value.
    frame = frame.with_columns(pl.col("label").cast(pl.String)).filter(pl.col("label").fill_null("") != "")
    frame = frame.unique(maintain_order=True)
    labels = frame["label"].unique().sort().to_list()
    codes = frame["label"].replace_strict(labels, list(range(len(labels))), return_dtype=pl.Int32)
    return Labels(kind, frame["item"].to_numpy(), codes.to_numpy().astype(np.int32), labels)

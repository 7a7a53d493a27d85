"""A column of a file as it is written -> values of its kind, checked. No TensorFlow.

What a value is before anything is fitted, by kind: categorical and text: text; multi: a list of text,
distinct and no longer than the column's length; numeric: float64; embedding: a list of float32. Null is
missing, and so is an empty text, an empty list and NaN.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from causerec_tf.errors import InputError
from causerec_tf.schema import Column

VALUE_TYPES: dict[str, Any] = {
    "categorical": pl.String,
    "multi": pl.List(pl.String),
    "numeric": pl.Float64,
    "embedding": pl.List(pl.Float32),
    "text": pl.String,
}
_TEXT_TYPES = (pl.String, pl.Categorical, pl.Enum, pl.Null)
_LIST_TYPES = (pl.List, pl.Array)
# What stands between the numbers of a vector that is text, without or within brackets.
_BETWEEN_NUMBERS = r"[\s,;|]+"
# What a vocabulary, a line each, cannot hold.
_LINE_BREAKS = "[\r\n\0]"
_LARGEST = float(np.finfo(np.float32).max)
_WANTED = {
    "categorical": "text or numbers; several values in a row are of kind multi",
    "multi": "lists, or text with a separator",
    "numeric": "numbers, or text that holds them",
    "embedding": "lists of numbers, or text that holds them",
    "text": "text, or lists of it",
}

# Gives, of the number of a row from 0, where it stands, for a message.
PlaceOfRow = Callable[[int], str]


@dataclass(frozen=True)
class _Check:
    """Rows whose value cannot be used, bool [rows]; what it is, by the row's number; and what was wanted."""

    is_bad: pl.Series
    got: Callable[[int], str]
    wanted: str


def checked_values(
    column: Column, raw: pl.Series, path: str, place_of_row: PlaceOfRow, *, skip_bad: bool
) -> tuple[pl.Series, int]:
    """The values of a column, of the type that `VALUE_TYPES` has for its kind; null is missing.

    Args:
      column: of the schema.
      raw: as read: of any type, [rows].
      path: of the file, for a message.
      place_of_row: of the file.
      skip_bad: whether a value that cannot be used counts as missing.

    Returns:
      The values, and the number of those that could not be used.

    Raises:
      InputError: the column's type does not fit, or a value cannot be used.
    """
    dtype = raw.dtype
    is_text, is_list = dtype in _TEXT_TYPES, isinstance(dtype, _LIST_TYPES)
    is_scalar = is_text or dtype.is_numeric() or dtype == pl.Boolean
    fits = {
        "categorical": is_scalar or dtype.is_temporal(),
        "multi": is_scalar or (is_list and not _inner(dtype).is_nested()),
        "numeric": is_scalar,
        "embedding": is_text or (is_list and (_inner(dtype).is_numeric() or _inner(dtype) == pl.Null)),
        "text": is_scalar or (is_list and _inner(dtype) in _TEXT_TYPES),
    }
    if not fits[column.kind]:
        raise InputError(
            f"{path}: column {column.source!r} is of type {dtype}, and {column.key} is {column.kind}: wanted"
            f" {_WANTED[column.kind]}."
        )
    raw = raw.cast(pl.String) if is_text else raw
    raw = raw.arr.to_list() if isinstance(dtype, pl.Array) else raw
    values, checks = _READ[column.kind](column, raw)
    num_bad = 0
    for check in checks:
        is_bad = check.is_bad.fill_null(False)
        if not is_bad.any():
            continue
        row = int(is_bad.arg_true()[0])
        if not skip_bad:
            raise InputError(
                f"{place_of_row(row)}: column {column.source!r} holds {check.got(row)}. {column.key} is"
                f" {column.kind}: wanted {check.wanted}. Mend it, or let such values count as missing with"
                " --on_bad_row=skip."
            )
        num_bad += int(is_bad.sum())
        values = pl.select(pl.when(~is_bad).then(values)).to_series()
    return values.cast(VALUE_TYPES[column.kind]), num_bad


def with_missing_replaced(column: Column, values: pl.Series) -> pl.Series:
    """The values with what the schema puts where none is."""
    return values if column.missing is None else values.fill_null(column.missing)


def as_text(values: pl.Series) -> pl.Series:
    """Scalars of any type as text; whole numbers that pandas keeps as floats are whole numbers."""
    if values.dtype.is_float():
        values = values.fill_nan(None)
        whole = values.cast(pl.Int64, strict=False)
        if (whole.cast(values.dtype) == values).fill_null(
            True
        ).all() and whole.null_count() == values.null_count():
            values = whole
    return values.cast(pl.String)


def _categorical(column: Column, raw: pl.Series) -> tuple[pl.Series, list[_Check]]:
    values = _without_empty(as_text(raw))
    return values, [_line_breaks(values, values)]


def _text(column: Column, raw: pl.Series) -> tuple[pl.Series, list[_Check]]:
    is_list = isinstance(raw.dtype, pl.List)
    joined = raw.cast(pl.List(pl.String)).list.join(" ", ignore_nulls=True) if is_list else as_text(raw)
    return _without_empty(joined), []


def _multi(column: Column, raw: pl.Series) -> tuple[pl.Series, list[_Check]]:
    if raw.dtype == pl.String:
        lists = _lists_of_text(column, raw)
    elif isinstance(raw.dtype, pl.List):
        lists = _each(raw, as_text)
    else:
        lists = as_text(raw).reshape((-1, 1)).arr.to_list()
    element = pl.element()
    kept = lists.list.eval(element.filter(element.is_not_null() & (element != "")))
    kept = _without_empty_lists(kept.list.unique(maintain_order=True).list.head(column.length))
    return kept, [_line_breaks(kept.list.join("", ignore_nulls=True), kept)]


def _lists_of_text(column: Column, raw: pl.Series) -> pl.Series:
    """Lists that are text: JSON's, or values with a separator between them."""
    text = raw.str.strip_chars()
    parts = text.str.split(column.separator) if column.separator else text.reshape((-1, 1)).arr.to_list()
    parts = parts.list.eval(pl.element().str.strip_chars())
    is_json = (text.str.starts_with("[") & text.str.ends_with("]")).fill_null(False)
    if not is_json.any():
        return parts
    rows = pl.DataFrame({"text": text, "parts": parts}).with_row_index("row")
    found = rows.filter(is_json).select(
        "row", pl.Series("list", [_json_list(one) for one in text.filter(is_json)], dtype=pl.List(pl.String))
    )
    joined = rows.join(found, on="row", how="left", maintain_order="left")
    return joined.select(pl.coalesce("list", "parts")).to_series()


def _json_list(text: str) -> list[str | None] | None:
    """A JSON list of scalars as text; None: it is none, but values that stand in brackets."""
    try:
        found = json.loads(text)
    except ValueError:
        return None
    if any(isinstance(one, list | dict) for one in found):
        return None
    return [one if one is None or isinstance(one, str) else json.dumps(one) for one in found]


def _numeric(column: Column, raw: pl.Series) -> tuple[pl.Series, list[_Check]]:
    if raw.dtype == pl.String:
        raw = _without_empty(raw.str.strip_chars())
    values = raw.cast(pl.Float64, strict=False)

    def got(row: int) -> str:
        return repr(raw[row])

    no_number = _Check(values.is_null() & raw.is_not_null(), got, "a number, or nothing where it is missing")
    values = values.fill_nan(None)
    return values, [no_number, _Check(values.abs() > _LARGEST, got, "a finite number that float32 can hold")]


def _embedding(column: Column, raw: pl.Series) -> tuple[pl.Series, list[_Check]]:
    if raw.dtype == pl.String:
        text = raw.str.strip_chars().str.strip_prefix("[").str.strip_suffix("]")
        marked = text.str.replace_all(_BETWEEN_NUMBERS, " ").str.strip_chars()
        raw = _without_empty(marked).str.split(" ")
    number = pl.element().cast(pl.Float64, strict=False)
    vectors = raw.list.eval(number)
    lengths = vectors.list.len()
    is_other = (lengths > 0) & (lengths != column.size)
    is_unusable = vectors.list.eval(
        (pl.element().is_null() | pl.element().is_nan() | (pl.element().abs() > _LARGEST)).any()
    ).list.first()
    return _without_empty_lists(vectors), [
        _Check(
            is_other,
            lambda row: f"a vector of {lengths[row]} numbers",
            f"{column.size}, which is its size in the schema",
        ),
        _Check(
            is_unusable & ~is_other,
            lambda row: f"the vector {raw[row].to_list()!s:.60}",
            "finite numbers",
        ),
    ]


_READ: dict[str, Callable[[Column, pl.Series], tuple[pl.Series, list[_Check]]]] = {
    "categorical": _categorical,
    "multi": _multi,
    "numeric": _numeric,
    "embedding": _embedding,
    "text": _text,
}


def _each(lists: pl.Series, change: Callable[[pl.Series], pl.Series]) -> pl.Series:
    """Lists with their elements changed, all at once; an empty one becomes null."""
    lengths = lists.list.len().fill_null(0)
    flat = change(lists.filter(lengths > 0).explode())
    every = pl.DataFrame({"row": np.arange(len(lists))})
    rows = pl.DataFrame({"row": np.repeat(np.arange(len(lists)), lengths.to_numpy()), "v": flat})
    found = rows.group_by("row", maintain_order=True).agg("v")
    return every.join(found, on="row", how="left", maintain_order="left")["v"]


def _without_empty(text: pl.Series) -> pl.Series:
    return pl.select(pl.when(text != "").then(text)).to_series()


def _without_empty_lists(lists: pl.Series) -> pl.Series:
    return pl.select(pl.when(lists.list.len() > 0).then(lists)).to_series()


def _inner(dtype: Any) -> pl.DataType:
    return dtype.inner


def _line_breaks(text: pl.Series, values: pl.Series) -> _Check:
    def got(row: int) -> str:
        value = values[row]
        shown = str(value.to_list() if isinstance(value, pl.Series) else value)[:60]
        return f"{shown!r}, with a line break or NUL"

    return _Check(
        text.str.contains(_LINE_BREAKS),
        got,
        "values without, since a vocabulary holds one a line; free text is of kind text",
    )

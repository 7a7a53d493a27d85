"""A first schema for a log and its tables: kinds guessed of the values. No TensorFlow.

It is a start for people to correct: a file says what its values look like, and not what they are for.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from causerec_tf.data.logs.column_values import as_text
from causerec_tf.data.logs.json_lines import JsonLinesFile
from causerec_tf.data.logs.log_files import LogFile
from causerec_tf.errors import InputError
from causerec_tf.schema import Column, schema_of

ROWS_LOOKED_AT = 100_000  # of a file, the first
_KEYS_OF_ROWS = 1_000  # JSON lines need not have the same keys
_LONGEST_LIST = 64
_NUMBER = r"^[+-]?(?:0|[1-9]\d*)?(?:\.\d+)?(?:[eE][+-]?\d+)?$"  # not 007, which is a code
_NUMBERS = r"^[+-]?[\d.eE+-]+(?:[\s,;|]+[+-]?[\d.eE+-]+)+$"
_DATE = r"^\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}.*)?$"
# How often a part between separators has to come up for a column to be lists; blanks also stand in names.
_SEPARATORS = {"|": 3, ";": 3, ",": 3, " ": 15}
_FEW, _FEW_OF_ROWS = 50, 0.3  # values: of a category
_WORDS_OF_TEXT = 2


@dataclass(frozen=True)
class Guess:
    """What is guessed of a column.

    Attributes:
      owner: whose it is.
      source: the column's name in the files.
      column: of the schema; None: it is left out.
      why: it is left out, or why it is of this kind.
      rows: looked at.
      missing: rows without a value.
      distinct: different values.
      example: the most frequent value.
    """

    owner: str
    source: str
    column: Column | None
    why: str
    rows: int
    missing: int
    distinct: int
    example: str


def read_columns(files: Sequence[LogFile | JsonLinesFile]) -> pl.DataFrame:
    """All columns of the first rows of files, those of the first file that has rows.

    Raises:
      InputError: no file has rows, or one cannot be read.
    """
    for file in files:
        if isinstance(file, JsonLinesFile):
            names = file.keys_of(_KEYS_OF_ROWS)
            rows, bad = file.table(names, [], stop_at_bad=True) if names else (pl.DataFrame(), [])
            if bad:
                raise InputError(f"{file.place_of_record(bad[0])}: the row {bad[0].problem}.")
        elif file.has_rows():
            try:
                rows = file.table(file.column_names())
            except pl.exceptions.PolarsError as error:
                for record in file.unreadable():
                    raise InputError(f"{file.place_of_record(record)}: the row {record.problem}.") from error
                raise InputError(f"{file.path} cannot be read: {error}.") from error
        else:
            continue
        if len(rows):
            return rows.head(ROWS_LOOKED_AT)
    raise InputError(f"{', '.join(str(file.path) for file in files)}: no rows to look at.")


def guess_columns(owner: str, rows: pl.DataFrame, left_out: Iterable[str]) -> list[Guess]:
    """Guesses the columns of a table.

    Args:
      owner: of them: `item`, `user` or `event`.
      rows: as read.
      left_out: names of columns that are no features: ids and times.
    """
    guesses: list[Guess] = []
    names = {""}
    for source in rows.columns:
        if source in left_out:
            continue
        name = _name(source, names)
        names.add(name)
        guesses.append(_guess(owner, source, name, rows[source]))
    return guesses


def as_toml(guesses: Sequence[Guess]) -> str:
    """The schema file: the guessed columns, and in comments what was left out."""
    parts = []
    for guess in guesses:
        if guess.column is None:
            parts.append(f"# {guess.owner} {json.dumps(guess.source, ensure_ascii=False)}: {guess.why}.\n")
            continue
        lines = [f"# {guess.why}."] if guess.why else []
        lines.append("[[column]]")
        for entry, value in _entries(guess.column).items():
            lines.append(f"{entry} = {json.dumps(value, ensure_ascii=False)}")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _entries(column: Column) -> dict[str, Any]:
    """What is not the default of a column."""
    return {
        name: value
        for name, value in column.description().items()
        if name in ("name", "owner", "kind", "column")
        or (name == "separator" and value != "|")
        or (name == "length" and column.kind == "multi")
        or (name == "size" and column.kind == "embedding")
    }


def _guess(owner: str, source: str, name: str, raw: pl.Series) -> Guess:
    values, kind, more, why = _kind_of(raw)
    is_there = values.drop_nulls()
    counts = is_there.value_counts(sort=True)
    example = str(counts[source][0])[:40] if len(counts) else ""
    column = None
    if kind and owner == "event" and kind not in ("categorical", "numeric"):
        kind, why = "", f"it looks like {kind}, and events have categorical and numeric columns"
    if kind:
        entries = {"name": name, "owner": owner, "kind": kind} | more
        column = schema_of([entries | ({"column": source} if source != name else {})]).columns[0]
    return Guess(owner, source, column, why, len(raw), len(raw) - len(is_there), len(counts), example)


def _kind_of(raw: pl.Series) -> tuple[pl.Series, str, dict[str, Any], str]:
    """The values as text or numbers, with nulls where none is; the kind, or none; entries; and why."""
    dtype = raw.dtype
    if isinstance(dtype, pl.List | pl.Array):
        lists = raw.arr.to_list() if isinstance(dtype, pl.Array) else raw
        return (lists.cast(pl.List(pl.String)).list.join(", ", ignore_nulls=True), *_of_lists(lists))
    if dtype.is_temporal():
        return raw.cast(pl.String), "", {}, "a date; take from it what matters, such as a year"
    if dtype.is_nested() or dtype == pl.Binary:
        return raw.is_null().cast(pl.String), "", {}, f"of type {dtype}"
    values = pl.select(pl.when(as_text(raw) != "").then(as_text(raw))).to_series().alias(raw.name)
    text = values.drop_nulls()
    distinct = text.n_unique()
    if distinct < 2:
        return values, "", {}, "all alike" if distinct else "no values"
    if dtype != pl.Boolean and (dtype.is_numeric() or text.str.contains(_NUMBER).all()):
        if distinct == 2:
            return values, "categorical", {}, "two numbers"
        return values, "numeric", {}, "numbers"
    if text.str.contains(_DATE).all():
        return values, "", {}, "a date; take from it what matters, such as a year"
    if (found := _json_lists(text)) is not None:
        return (values, *_of_lists(found))
    if text.str.contains(_NUMBERS).all():
        sizes = text.str.strip_chars().str.count_matches(r"[\s,;|]+") + 1
        if sizes.n_unique() == 1 and sizes[0] > 2:
            return values, "embedding", {"size": int(sizes[0])}, f"{sizes[0]} numbers in each row"
    for mark, often in _SEPARATORS.items():
        parts = text.str.split(mark).list.eval(pl.element().str.strip_chars())
        flat = parts.explode()
        flat = flat.filter(flat != "")
        # Parts of lists come up again and again, in many combinations.
        if flat.n_unique() * often <= len(flat) and 2 * flat.n_unique() < distinct:
            longest = min(_LONGEST_LIST, int(parts.list.len().max()))  # type: ignore[arg-type]
            why = f"up to {longest} values in a row, {flat.n_unique():,} in all"
            return values, "multi", {"separator": mark, "length": longest}, why
    words = float(text.str.count_matches(r"[\p{L}\p{N}]+").mean())  # type: ignore[arg-type]
    if distinct <= max(_FEW, _FEW_OF_ROWS * len(text)):
        others = text.filter(~text.str.contains(_NUMBER))
        but = (
            f", numbers but for {len(others):,} rows such as {others[0]!r:.40}"
            if len(others) < len(text) / 20
            else ""
        )
        return values, "categorical", {}, f"{distinct:,} values{but}"
    if words >= _WORDS_OF_TEXT:
        return values, "text", {}, f"{words:.1f} words in a row on average"
    return values, "", {}, f"{distinct:,} values in {len(text):,} rows: hardly any comes up again"


def _of_lists(lists: pl.Series) -> tuple[str, dict[str, Any], str]:
    there = lists.filter((lists.list.len() > 0).fill_null(False))
    if not len(there):
        return "", {}, "no values"
    sizes, inner = there.list.len(), there.explode().dtype
    if inner.is_nested():
        return "", {}, f"of type {there.dtype}"
    if inner.is_numeric() and sizes.n_unique() == 1 and sizes[0] > 1:
        return "embedding", {"size": int(sizes[0])}, f"{sizes[0]} numbers in each row"
    longest = min(_LONGEST_LIST, int(sizes.max()))  # type: ignore[arg-type]
    return (
        "multi",
        {"length": longest},
        f"up to {longest} values in a row, {there.explode().n_unique():,} in all",
    )


def _json_lists(text: pl.Series) -> pl.Series | None:
    """Text that is JSON lists, all of it, as lists."""
    if not (text.str.starts_with("[") & text.str.ends_with("]")).all():
        return None
    try:
        found = [json.loads(one) for one in text]
    except ValueError:
        return None
    is_numbers = all(isinstance(one, int | float) for values in found for one in values)
    if is_numbers:
        return pl.Series(found, dtype=pl.List(pl.Float64))
    return pl.Series([[str(one) for one in values] for values in found], dtype=pl.List(pl.String))


def _name(source: str, taken: set[str]) -> str:
    """A feature's name: what stands before a `:`, in letters, digits and `_`."""
    bare = re.sub(r"[^A-Za-z0-9_]+", "_", source.partition(":")[0]).strip("_")
    name = bare if re.match(r"[A-Za-z]", bare) else f"column_{bare}".rstrip("_")
    number = 2
    while name in taken:
        name, number = f"{bare or 'column'}_{number}", number + 1
    return name

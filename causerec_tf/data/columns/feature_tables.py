"""A table of items or of users, in files or a frame -> the columns of a schema by id. No TensorFlow."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from causerec_tf.data.logs import frames
from causerec_tf.data.logs.column_values import as_text, checked_values, with_missing_replaced
from causerec_tf.data.logs.frames import Frame
from causerec_tf.data.logs.interactions import find_files
from causerec_tf.data.logs.json_lines import JsonLinesFile
from causerec_tf.data.logs.log_files import LogFile, open_log_file
from causerec_tf.errors import InputError
from causerec_tf.schema import Column, Schema

_NO_ID_TYPES = (pl.List, pl.Array, pl.Struct)


@dataclass(frozen=True)
class FeatureTable:
    """The rows of a table, each of another item or user.

    Attributes:
      owner: `item` or `user`.
      rows: a column `id` (text), and one for each of the schema's columns of the owner, by its key, with what
        `column_values.checked_values` gives.
      files: the names of the files, without their folders; none of a frame.
      unreadable: key of a column -> values that could not be used and count as missing, where there are some.
    """

    owner: str
    rows: pl.DataFrame
    files: tuple[str, ...] = ()
    unreadable: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class TableUse:
    """How a table and a log fit.

    Attributes:
      owner: `item` or `user`.
      rows: of the table.
      ids: of the dataset.
      without_row: of these, so many have no row, and all of their features are missing.
      not_in_log: rows of ids that are not in the dataset.
      files: see `FeatureTable`.
      unreadable: see `FeatureTable`.
    """

    owner: str
    rows: int
    ids: int
    without_row: int
    not_in_log: int
    files: tuple[str, ...] = ()
    unreadable: Mapping[str, int] = field(default_factory=dict)


def read_feature_table(
    source: Any, owner: str, id_column: str, schema: Schema, on_bad_row: str = "error"
) -> FeatureTable:
    """Reads a table of which each row is another item or user.

    Args:
      source: a Polars, pandas or Arrow frame, or paths and globs of CSV, TSV, JSON lines or Parquet (gzip
        too).
      owner: `item` or `user`.
      id_column: name of the column of ids.
      schema: whose columns of the owner are read.
      on_bad_row: `error`, or `skip`: a value that cannot be used counts as missing.

    Raises:
      InputError: a file, a column or a value cannot be used, or an id is there twice.
    """
    columns = [column for column in schema.of(owner) if not column.is_of_time]
    files: list[LogFile | JsonLinesFile | Frame]
    names: tuple[str, ...] = ()
    if frames.is_frame(source):
        files = [Frame(frames.as_frame(source), f"the table of {owner}s")]
    else:
        paths = find_files(source)
        names = tuple(path.name for path in paths)
        files = [open_log_file(path) for path in paths]
    unreadable: Counter[str] = Counter()
    parts = [_read(file, owner, id_column, columns, on_bad_row == "skip", unreadable) for file in files]
    rows = pl.concat(parts, rechunk=True)
    if rows.is_empty():
        raise InputError(f"{', '.join(str(file.path) for file in files)}: no rows; wanted one an {owner}.")
    is_again = ~rows["id"].is_first_distinct()
    if is_again.any():
        row = int(is_again.arg_true()[0])
        twice = rows["id"][row]
        for file, part in zip(files, parts, strict=True):
            if row < len(part):
                raise InputError(
                    f"{file.place_of_row(row)}: the {owner} {twice!r} has a row above already; wanted one row"
                    f" for each {owner}."
                )
            row -= len(part)
    return FeatureTable(owner, rows, names, dict(unreadable))


def table_for(
    schema: Schema, owner: str, source: Any, id_column: str, on_bad_row: str
) -> FeatureTable | None:
    """The table of an owner, or None where the schema has no column of it.

    Raises:
      InputError: a table is missing, or has no effect; or as `read_feature_table`.
    """
    columns = schema.of(owner)
    if source is None:
        if columns:
            raise InputError(
                f"the schema has {columns[0].key}, and there is no table of {owner}s. Name it with"
                f" {owner}_table."
            )
        return None
    if not columns:
        raise InputError(
            f"{owner}_table has no effect: the schema has no column of the {owner}. Leave it out, or add its"
            " columns to the schema."
        )
    return read_feature_table(source, owner, id_column, schema, on_bad_row)


def rows_of(
    table: FeatureTable, columns: Sequence[Column], ids: Sequence[str]
) -> tuple[pl.DataFrame, TableUse]:
    """The table's columns by their keys, a row for each id in that order, and how they fit.

    What is missing is replaced where the schema says by what; so is all of an id without a row.
    """
    wanted = pl.DataFrame({"id": pl.Series(ids, dtype=pl.String)})
    found = wanted.join(
        table.rows.with_columns(pl.lit(True).alias("is_there")), on="id", how="left", maintain_order="left"
    )
    known = len(ids) - found["is_there"].null_count()
    values = found.select(
        with_missing_replaced(column, found[column.key]).alias(column.key) for column in columns
    )
    use = TableUse(
        table.owner,
        len(table.rows),
        len(ids),
        len(ids) - known,
        len(table.rows) - known,
        table.files,
        table.unreadable,
    )
    return values, use


def _read(
    file: LogFile | JsonLinesFile | Frame,
    owner: str,
    id_column: str,
    columns: Sequence[Column],
    skip_bad: bool,
    unreadable: Counter[str],
) -> pl.DataFrame:
    raw = _raw(file, owner, id_column, columns)
    if raw.schema[id_column] in _NO_ID_TYPES or raw.schema[id_column].is_temporal():
        raise InputError(
            f"{file.path}: column {id_column!r} is of type {raw.schema[id_column]}; ids are text or integers."
        )
    ids = as_text(raw[id_column])
    is_bad = ids.fill_null("") == ""
    if is_bad.any():
        row = int(is_bad.arg_true()[0])
        raise InputError(f"{file.place_of_row(row)}: column {id_column!r} is empty; wanted the {owner}'s id.")
    found = [ids.alias("id")]
    for column in columns:
        values, num_bad = checked_values(
            column, raw[column.source], str(file.path), file.place_of_row, skip_bad=skip_bad
        )
        found.append(values.alias(column.key))
        if num_bad:
            unreadable[column.key] += num_bad
    return pl.DataFrame(found)


def _raw(
    file: LogFile | JsonLinesFile | Frame, owner: str, id_column: str, columns: Sequence[Column]
) -> pl.DataFrame:
    """The columns that are read, as the file has them."""
    names = list(dict.fromkeys([id_column, *(column.source for column in columns)]))
    if isinstance(file, LogFile) and not file.has_rows():
        return pl.DataFrame(schema=dict.fromkeys(names, pl.String))
    found = file.column_names()
    missing = [name for name in names if name not in found]
    if isinstance(file, JsonLinesFile):
        table, bad = file.table(names, [id_column], stop_at_bad=True)
        if bad:
            raise InputError(f"{file.place_of_record(bad[0])}: the row {bad[0].problem}.")
        # The first line may lack a key that others have.
        missing = [name for name in missing if table[name].null_count() == len(table)]
    if missing:
        raise _missing_column(str(file.path), missing[0], found, owner, id_column, columns)
    if isinstance(file, JsonLinesFile):
        return table
    try:
        return file.table(names)
    except pl.exceptions.PolarsError as error:
        if isinstance(file, LogFile):
            for record in file.unreadable():
                raise InputError(f"{file.place_of_record(record)}: the row {record.problem}.") from error
        raise InputError(f"{file.path} cannot be read: {error}.") from error


def _missing_column(
    path: str, name: str, found: Sequence[str], owner: str, id_column: str, columns: Sequence[Column]
) -> InputError:
    names = ", ".join(map(repr, found)) or "none"
    if name == id_column:
        remedy = f"Name the column of the {owner}s' ids with {owner}_table_id."
    else:
        keys = " and ".join(column.key for column in columns if column.source == name)
        remedy = f"The schema wants it for {keys}: name the file's column there, with `column`."
    return InputError(f"{path} has no column {name!r}. Columns found: {names}. {remedy}")

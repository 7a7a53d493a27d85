"""Readable names of items, from a table of two columns."""

from pathlib import Path

import polars as pl

from causerec_tf.data.logs.log_files import LogFile, open_log_file
from causerec_tf.errors import InputError


def read_item_names(path: Path) -> dict[str, str]:
    """Reads a csv or tsv file (gzip too) whose first two columns are item id and name.

    A header does no harm: it names an item that no log has. Of two rows of one item the first
    counts.

    Raises:
      InputError: the file cannot be read, or has fewer than two columns.
    """
    file = open_log_file(path)
    if not isinstance(file, LogFile) or file.file_format == "parquet":
        raise InputError(f"{path} is {file.file_format}; item names are read from csv or tsv.")
    if not file.has_rows():
        raise InputError(f"{path} is empty; wanted two columns: item id and name.")
    try:
        table = pl.read_csv(
            file.raw,
            has_header=False,
            infer_schema=False,
            truncate_ragged_lines=True,
            separator="," if file.file_format == "csv" else "\t",
            quote_char='"' if file.file_format == "csv" else None,
        )
    except pl.exceptions.PolarsError as error:
        raise InputError(f"{path} cannot be read as {file.file_format}: {error}.") from error
    if table.width < 2:
        raise InputError(f"{path} has one column; wanted two: item id and name.")
    named = table.select(table.columns[:2]).drop_nulls().reverse()
    return dict(named.iter_rows())

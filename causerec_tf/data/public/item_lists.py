"""Yelp2018, Gowalla and others as LightGCN and NGCF publish them: a line `user item item ...`.

`train.txt` and `test.txt` hold the two parts of each user's sequence, in this order; they have no
times. All ids are integers.
"""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import polars as pl

from causerec_tf.data import times
from causerec_tf.data.interactions import Log, find_files
from causerec_tf.data.log_records import READ_ERRORS, check_text, open_unpacked, without_marks
from causerec_tf.errors import InputError

_BAD_LINE = "a line that cannot be read"


def read_item_lists(patterns: Sequence[str], *, on_bad_row: str) -> Log:
    """Reads files of item lists; the lines of one user follow each other in the order of the files.

    Args:
      patterns: globs; `train.txt` before `test.txt`.
      on_bad_row: `error`, or `skip`: leave a line with a bad id out, and count it.

    Returns:
      The log; the time of an event is its position in the user's sequence, from 0. A line is a row.
      A user without items has no events.

    Raises:
      InputError: a file or a line cannot be used; the message says where and why.
    """
    paths = find_files(patterns)
    frames: list[pl.DataFrame] = []
    rows_read = num_bad = 0
    for path in paths:
        rows, rows_in_file, bad_in_file = _read_file(path, skip_bad=on_bad_row == "skip")
        frames.append(rows)
        rows_read += rows_in_file
        num_bad += bad_in_file
    events = pl.concat(frames, rechunk=True)
    if not len(events):
        raise InputError(
            f"{', '.join(map(str, paths))}: {rows_read} lines, none of them with a user and an item; a log"
            " needs at least one."
        )
    position = pl.int_range(pl.len(), dtype=pl.Int64).over("user").alias("time")
    events = events.with_columns(position).with_columns(pl.col("user", "item").cast(pl.String))
    skipped = {_BAD_LINE: num_bad} if num_bad else {}
    return Log(events, times.AS_GIVEN, rows_read, skipped, tuple(path.name for path in paths))


def _read_file(path: Path, skip_bad: bool) -> tuple[pl.DataFrame, int, int]:
    """The pairs of user and item, the number of lines that are not blank, and of bad lines."""
    try:
        with open_unpacked(path) as file:
            raw = file.read()
    except READ_ERRORS as error:
        raise InputError(f"{path} cannot be read: {error}.") from error
    check_text(path, raw)
    # What is not UTF-8 is no integer either, and is found below.
    lines = without_marks(raw).decode("utf-8", "replace").split("\n")
    fields_of_lines = [line.split() for line in lines]
    fields = pl.Series(list(chain.from_iterable(fields_of_lines)), dtype=pl.String)
    line_lengths = pl.Series([len(fields) for fields in fields_of_lines], dtype=pl.Int64)
    table = pl.DataFrame(
        {
            "line": pl.int_range(len(lines), eager=True).repeat_by(line_lengths).explode().drop_nulls(),
            "text": fields,
        }
    ).with_columns(
        pl.col("text").cast(pl.Int64, strict=False).alias("id"),
        pl.int_range(pl.len()).over("line").alias("column"),
    )
    bad = table.filter(pl.col("id").is_null())
    if len(bad) and not skip_bad:
        line, text, column = bad.select("line", "text", "column").row(0)
        raise InputError(
            f"{path}, line {line + 1}: column {column + 1} holds {text!r}; wanted integers separated by"
            " spaces, a user and then its items. Mend it, or leave such lines out with --on_bad_row=skip."
        )
    bad_lines = bad["line"].unique()
    good = table.filter(~pl.col("line").is_in(bad_lines.implode()))
    users = good.with_columns(pl.col("id").first().over("line").alias("user"))
    events = users.filter(pl.col("column") > 0).select("user", pl.col("id").alias("item"))
    return events, int((line_lengths > 0).sum()), len(bad_lines)

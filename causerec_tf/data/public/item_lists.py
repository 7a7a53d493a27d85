"""Yelp2018, Gowalla and others as LightGCN and NGCF publish them: a line `user item item ...`.

`train.txt` and `test.txt` hold the two parts of each user's sequence, in this order; they have no
times. All ids are integers.
"""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from causerec_tf.data.logs import times
from causerec_tf.data.logs.interactions import TEST_COLUMN, Log, find_files, with_test_files
from causerec_tf.data.logs.log_records import read_text_lines
from causerec_tf.errors import InputError

_BAD_LINE = "a line that cannot be read"


def read_item_lists(patterns: Sequence[str], *, on_bad_row: str, test_patterns: Sequence[str] = ()) -> Log:
    """Reads files of item lists; the lines of one user follow each other in the order of the files.

    The time of an event is its position in the user's sequence, from 0. A line is a row. A user without items
    has no events. With `on_bad_row="skip"` a line with a bad id is left out and counted. The lists of
    `test_patterns` are test lists.

    Raises:
      InputError: a file or a line cannot be used; the message says where and why.
    """
    lists = find_files(patterns)
    paths = with_test_files(lists, find_files(test_patterns))
    frames: list[pl.DataFrame] = []
    rows_read = num_bad = 0
    for number, path in enumerate(paths):
        rows, rows_in_file, bad_in_file = _read_file(path, skip_bad=on_bad_row == "skip")
        if test_patterns:
            rows = rows.with_columns(pl.lit(number >= len(lists)).alias(TEST_COLUMN))
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
    names = tuple(path.name for path in paths)
    listed, tested = names[: len(lists)], names[len(lists) :]
    return Log(events, times.AS_GIVEN, rows_read, skipped, listed, tested)


def _read_file(path: Path, skip_bad: bool) -> tuple[pl.DataFrame, int, int]:
    """The pairs of user and item, the number of lines that are not blank, and of bad lines."""
    # What is not UTF-8 is no integer either, and is found below.
    lines = pl.DataFrame({"text": read_text_lines(path, errors="replace")}, schema={"text": pl.String})
    rows = lines.select(
        pl.int_range(1, pl.len() + 1).alias("line"), pl.col("text").str.extract_all(r"\S+").alias("fields")
    ).filter(pl.col("fields").list.len() > 0)
    as_integer = pl.element().cast(pl.Int64, strict=False)
    rows = rows.with_columns(pl.col("fields").list.eval(as_integer).alias("ids"))
    is_bad = pl.col("ids").list.eval(pl.element().is_null()).list.any()
    bad = rows.filter(is_bad)
    if len(bad) and not skip_bad:
        line, fields, ids = bad.row(0)
        column = ids.index(None)
        raise InputError(
            f"{path}, line {line}: column {column + 1} holds {fields[column]!r}; wanted integers separated by"
            " spaces, a user and then its items. Mend it, or leave such lines out with --on_bad_row=skip."
        )
    user, items = pl.col("ids").list.first(), pl.col("ids").list.slice(1)
    events = rows.filter(~is_bad).select(user.alias("user"), items.alias("item")).explode("item").drop_nulls()
    return events, len(rows), len(bad)

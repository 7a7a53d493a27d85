"""A log -> a history for each user, as retrieval reads them. No TensorFlow here."""

from collections.abc import Callable
from pathlib import Path

import polars as pl

from causerec_tf.data.logs.log_records import read_text_lines
from causerec_tf.errors import InputError
from causerec_tf.files import file_written_beside

_WRITE: dict[str, Callable[[pl.DataFrame, Path], object]] = {
    ".jsonl": lambda histories, path: histories.write_ndjson(path, check_extension=False),
    ".parquet": lambda histories, path: histories.write_parquet(path),
}


def build_histories(
    events: pl.DataFrame, *, max_history: int | None, users: pl.Series | None = None
) -> pl.DataFrame:
    """Puts the events of each user in order: that of the sequences of a dataset.

    Args:
      events: columns `user` (text), `item` (text) and `time` (int64), in the order of the log.
      max_history: so many items of a history, the last; None: all.
      users: text [any number], the users whose histories are wanted; one without events gets an empty
        history. None: all users who have events.

    Returns:
      Columns `user_id` (text) and `history` (list of text, oldest item first; of one time, in the order of
      the log), the users in the order of the bytes of their ids.
    """
    if users is not None:
        events = events.filter(pl.col("user").is_in(users.implode()))  # so that no others are ordered
    # The row by itself breaks ties: no engine of Polars then may order them otherwise.
    history = pl.col("item").sort_by("time", "row")
    if max_history is not None:
        history = history.tail(max_history)
    histories = events.with_row_index("row").group_by("user").agg(history.alias("history"))
    if users is not None:
        wanted = users.unique().alias("user").to_frame()
        nothing = pl.lit([], dtype=pl.List(pl.String))
        histories = wanted.join(histories, on="user", how="left").with_columns(
            pl.col("history").fill_null(nothing)
        )
    return histories.rename({"user": "user_id"}).sort("user_id")


def check_histories_file(path: Path) -> None:
    """Raises `InputError` where a file's extension is none that histories are written to."""
    if path.suffix not in _WRITE:
        raise InputError(f"{path} ends in {path.suffix!r}; histories are written to {' or '.join(_WRITE)}.")


def write_histories(histories: pl.DataFrame, path: Path) -> None:
    """Writes what `build_histories` gave, whole or not at all, in the format of the path's extension."""
    check_histories_file(path)
    with file_written_beside(path) as beside:
        _WRITE[path.suffix](histories, beside)


def read_user_ids(path: Path) -> pl.Series:
    """Reads the ids of users from a text file (gzip too), one a line; blank lines are none."""
    ids = [line for line in read_text_lines(path) if line]
    if not ids:
        raise InputError(f"{path} is empty; wanted the id of a user a line.")
    return pl.Series("user", ids, dtype=pl.String)

"""MovieLens as TensorFlow Datasets keeps it: `movielens/1m-ratings` and its siblings."""

from pathlib import Path

import numpy as np
import polars as pl

from causerec_tf.data.logs import times
from causerec_tf.data.logs.interactions import Log
from causerec_tf.errors import InputError

_FEATURES = ("user_id", "movie_id", "timestamp", "movie_title")
_RATINGS_PER_BATCH = 65_536


def read_movielens(name: str, data_dir: str | Path | None = None) -> tuple[Log, dict[str, str]]:
    """Reads the ratings of a MovieLens dataset; fetches it first where it has not been prepared yet.

    Args:
      name: name and configuration, such as `movielens/1m-ratings`.
      data_dir: where TensorFlow Datasets keeps its datasets; None: where it does by default.

    Returns:
      The log, its times in seconds, its rows in the order in which TensorFlow Datasets keeps them
      (which is not that of MovieLens); and movie id -> title.
    """
    import tensorflow_datasets as tfds  # takes a second, and only this needs it

    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except ValueError as error:
        raise InputError(
            f"TensorFlow Datasets has no {name!r}; wanted one such as movielens/1m-ratings."
            f" It says: {str(error).splitlines()[0]}"
        ) from error
    missing = [feature for feature in _FEATURES if feature not in (builder.info.features or {})]
    if missing:
        raise InputError(
            f"{name} has no feature {missing[0]!r}; wanted ratings, such as movielens/1m-ratings, with"
            f" {', '.join(_FEATURES)}."
        )
    try:
        builder.download_and_prepare()  # does nothing when it has been prepared
    except Exception as error:  # of many kinds, by what of the network or the disk failed
        raise InputError(
            f"{name} is not in {builder.data_dir} and could not be fetched"
            f" ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}). Prepare it where"
            f" there is a network (`tfds build {name}`), and name the directory with --tfds_dir."
        ) from error
    ratings = builder.as_dataset(
        split="train",
        batch_size=_RATINGS_PER_BATCH,
        decoders=tfds.decode.PartialDecoding(dict.fromkeys(_FEATURES, True)),
        # One file after the other, so that ties in time have one order.
        read_config=tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False),
    )
    frames: list[pl.DataFrame] = []
    titles: dict[str, str] = {}
    for batch in tfds.as_numpy(ratings):
        table = pl.DataFrame(
            {
                "user": _text(batch["user_id"]),
                "item": _text(batch["movie_id"]),
                "time": batch["timestamp"].astype(np.int64),
                "title": _text(batch["movie_title"]),
            }
        )
        titles.update(table.select("item", "title").unique().iter_rows())
        frames.append(table.drop("title"))
    if not frames:
        raise InputError(f"{name} in {builder.data_dir} has no ratings. Prepare it again.")
    events = pl.concat(frames, rechunk=True)
    return Log(events, times.AS_GIVEN, len(events), {}, (name,)), titles


def _text(column: np.ndarray) -> pl.Series:
    return pl.Series(column.tolist(), dtype=pl.Binary).cast(pl.String)

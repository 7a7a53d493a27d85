"""What is known beside the histories of evaluation users, when their lists are asked for. No TensorFlow."""

from collections.abc import Mapping

import numpy as np

from causerec_tf.data.user_sequences import UserSequences

Context = Mapping[str, np.ndarray]


def context_of(
    sequences: UserSequences,
    users: np.ndarray,
    num_history: np.ndarray,
    first_target: np.ndarray,
    length: int,
) -> Context:
    """The columns of a schema beside some users' histories; empty without a schema.

    The request is that of the user's first target, whose columns and time are known when the list is asked
    for. Where histories end at a moment it is that moment, and nothing is known of the request.

    Args:
      sequences: of the split.
      users: int64 [U], places of the users in it.
      num_history: int64 [U], the number of events of each history.
      first_target: int64 [U], the place of the first target among all events.
      length: L, how many of the last events of a history are read.

    Returns:
      By key `user/<name>` int32 or float32 [U, *column.shape]; `event/<name>` [U, L], beside the items of the
      history, missing where it is padded; `request/<name>` [U]; and, where columns are computed of times,
      `time` int64 [U, L], 0 where it is padded, and `request_time` int64 [U], both in seconds.
    """
    starts = sequences.row_splits[users]
    places, is_there = last_places(starts, num_history, length)
    found = {}
    for key, values in sequences.columns.items():
        missing = np.nan if values.dtype == np.float32 else 0
        owner = key.split("/")[0]
        if owner == "user":
            found[key] = values[users]
        elif owner == "event":
            found[key] = _at(values, places, is_there, missing)
        elif sequences.asked_at is None:
            found[key] = values[first_target]
        else:
            found[key] = np.full(len(users), missing, values.dtype)
    if sequences.seconds is not None:
        found["time"] = _at(sequences.seconds, places, is_there, 0)
        asked = sequences.asked_at
        found["request_time"] = (
            sequences.seconds[first_target] if asked is None else np.full(len(users), asked, np.int64)
        )
    return found


def last_places(starts: np.ndarray, counts: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the last of each row's entries are, int64 [rows, length], and which are there, bool.

    Args:
      starts: int64 [rows], where the rows begin.
      counts: int64 [rows], the number of entries of each.
      length: so many entries of a row, oldest first; what is padding comes behind them.
    """
    steps = np.arange(length)
    kept = np.minimum(counts, length)
    return (starts + counts - kept)[:, np.newaxis] + steps, steps < kept[:, np.newaxis]


def only_rows(context: Context, rows: slice | np.ndarray) -> Context:
    """The context of some of the users."""
    return {key: values[rows] for key, values in context.items()}


def _at(values: np.ndarray, places: np.ndarray, is_there: np.ndarray, missing: float) -> np.ndarray:
    found = np.full(places.shape, missing, values.dtype)
    found[is_there] = values[places[is_there]]
    return found

"""What encodes a column, taken over from an earlier run whose dataset had other values of it.

Rows of a vocabulary are matched by value, as rows of the item table are by item id.
"""

import numpy as np

from causerec_tf.data.sequences import read_lines
from causerec_tf.schema import FIRST_VALUE, FittedColumn


def carried(
    earlier: FittedColumn, column: FittedColumn, weights: list[np.ndarray], initial: list[np.ndarray]
) -> list[np.ndarray]:
    """The weights that a column starts with.

    Args:
      earlier: the column as it was fitted then.
      column: as it is fitted now.
      weights: of what encoded it then.
      initial: of what encodes it now, before training.

    Returns:
      Those of then; `initial` for new values, and for all where the column is of another kind or size.
    """
    kind = column.column.kind
    if earlier.column.kind != kind or [one.shape[-1] for one in weights] != [
        one.shape[-1] for one in initial
    ]:
        return initial
    if kind in ("categorical", "multi"):
        rows = _rows_of_values(earlier, column)
        is_known = rows >= 0
        table = initial[0].copy()
        table[is_known] = weights[0][rows[is_known]]
        return [table]
    if [one.shape for one in weights] != [one.shape for one in initial]:
        return initial
    if kind == "numeric":
        # A number z deviations from the mean now was a z + b from it then. All vectors move by b w alike.
        direction, missing = weights
        scale = column.std / earlier.std
        moved = (column.mean - earlier.mean) / earlier.std
        return [direction * scale, missing - moved * direction]
    return weights


def _rows_of_values(earlier: FittedColumn, column: FittedColumn) -> np.ndarray:
    """The row in the table of then of each row of now, int64; -1 of a value that is new."""
    assert earlier.vocabulary is not None and column.vocabulary is not None
    row_of = {value: row for row, value in enumerate(read_lines(earlier.vocabulary), start=FIRST_VALUE)}
    values = [row_of.get(value, -1) for value in read_lines(column.vocabulary)]
    return np.array([*range(FIRST_VALUE), *values])

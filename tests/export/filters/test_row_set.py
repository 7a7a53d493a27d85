"""Sets of rows in both forms, beside sets of Python."""

import numpy as np
import pytest

from export.filters.row_set import RowSet

NUM_ROWS = 5_000


@pytest.mark.parametrize("size", [0, 3, 1_024, 1_025, 4_000])  # about the length from which a mask is made
def test_a_list_and_a_mask_say_the_same(size):
    rng = np.random.default_rng(size)
    rows = rng.permutation(NUM_ROWS)[:size]
    mask = np.zeros(NUM_ROWS, bool)
    mask[rows] = True
    asked = np.append(rng.integers(0, NUM_ROWS, 300), [-1, NUM_ROWS - 1]).reshape(2, -1)
    other = set(range(0, NUM_ROWS, 3))
    for one in (RowSet(NUM_ROWS, listed=rows), RowSet(NUM_ROWS, mask=mask)):
        assert one.count == size and set(one.rows.tolist()) == set(rows.tolist())
        assert one.contains(asked).tolist() == [[row in set(rows.tolist()) for row in part] for part in asked]
        both = one.where(RowSet(NUM_ROWS, listed=np.array(sorted(other))))
        assert set(both.rows.tolist()) == set(rows.tolist()) & other
        assert set(one.among(np.array([0, 1, 2])).rows.tolist()) == set(rows.tolist()) & {0, 1, 2}

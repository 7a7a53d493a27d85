"""Ragged lists against lists of lists."""

import numpy as np
import pytest

from causerec_tf.data import ragged

ROWS = [[], [7, 8, 9], [5], [], [1, 2], []]
LISTS = ragged.ItemLists(np.array([7, 8, 9, 5, 1, 2], np.int32), np.array([0, 0, 3, 4, 4, 6, 6]))


def test_splits_rows_and_positions():
    lengths = np.array([len(row) for row in ROWS])
    splits = ragged.row_splits(lengths)
    assert splits.tolist() == [0, 0, 3, 4, 4, 6, 6]
    wanted = [(number, place) for number, row in enumerate(ROWS) for place in range(len(row))]
    for rows, positions in (ragged.rows_and_positions(lengths), LISTS.rows_and_positions()):
        assert list(zip(rows.tolist(), positions.tolist(), strict=True)) == wanted
        assert splits.dtype == rows.dtype == positions.dtype == np.int64


@pytest.mark.parametrize("dtype", [np.int32, np.uint32, np.int64])
def test_no_row_and_other_integers(dtype):
    nothing, lengths = np.zeros(0, dtype), np.array([2, 1], dtype)
    assert ragged.row_splits(nothing).tolist() == [0]
    assert ragged.row_splits(lengths).tolist() == [0, 2, 3]
    assert [one.tolist() for one in ragged.rows_and_positions(nothing)] == [[], []]
    assert [one.tolist() for one in ragged.rows_and_positions(lengths)] == [[0, 0, 1], [0, 1, 0]]


def test_a_list_is_had_by_its_user():
    assert len(LISTS) == 6
    assert [row.tolist() for row in LISTS] == [LISTS[user].tolist() for user in range(6)] == ROWS
    assert LISTS[np.int64(1)].tolist() == LISTS[-5].tolist() == [7, 8, 9]
    for user in (6, -7):
        with pytest.raises(IndexError):
            LISTS[user]


@pytest.mark.parametrize(("start", "stop"), [(0, 6), (1, 3), (2, 5), (3, 3)])
def test_a_part_is_that_slice(start, stop):
    assert [row.tolist() for row in LISTS.part(start, stop)] == ROWS[start:stop]


@pytest.mark.parametrize("users", [[], [4, 0, 4], [5, 1, 2, 3]])
def test_lists_are_taken_in_the_order_asked_for(users):
    assert [row.tolist() for row in LISTS.take(np.array(users, int))] == [ROWS[user] for user in users]

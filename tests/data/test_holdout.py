"""Evaluation users against pure Python."""

import random

import numpy as np
import pytest

from causerec_tf.data.holdout import evaluation_users
from causerec_tf.data.sequences import UserSequences
from causerec_tf.errors import InputError
from tests import reference_data


def make(rows):
    lengths = [len(row) for row in rows]
    items = [item for row in rows for item in row]
    return UserSequences(
        user_ids=np.array([f"u{number}" for number in range(len(rows))], dtype=object),
        items=np.array(items, np.int32),
        timestamps=np.zeros(len(items), np.int64),
        row_splits=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
    )


@pytest.mark.parametrize("max_history", [1, 3, 40])
def test_equals_the_slow_twin(max_history):
    draw = random.Random(max_history)
    rows = [[draw.randint(1, 12) for _ in range(draw.randint(1, 30))] for _ in range(200)]
    users = evaluation_users(make(rows), max_history)
    wanted = [
        (f"u{number}", *reference_data.holdout(row, max_history))
        for number, row in enumerate(rows)
        if len(row) >= 2
    ]
    assert len(users) == len(wanted) == len(users.seen) == len(users.targets)
    assert users.history.shape == (len(wanted), max_history)
    assert users.history.dtype == users.seen.items.dtype == users.targets.items.dtype == np.int32
    for place, (user_id, history, seen, targets) in enumerate(wanted):
        assert users.user_ids[place] == user_id
        assert users.history[place].tolist() == history
        for lists, row in ((users.seen, seen), (users.targets, targets)):
            assert lists[place].tolist() == row
    assert users.seen.row_splits[-1] == len(users.seen.items)
    assert users.targets.row_splits[-1] == len(users.targets.items)


@pytest.mark.parametrize(("length", "cut"), [(2, 1), (3, 2), (4, 3), (5, 4), (10, 8), (35, 28)])
def test_the_cut(length, cut):
    users = evaluation_users(make([list(range(1, length + 1))]), 50)
    assert users.seen.items.tolist() == list(range(1, cut + 1))
    assert users.targets.items.tolist() == list(range(cut + 1, length + 1))


def test_repeated_targets_count_once_and_a_seen_item_may_be_a_target():
    users = evaluation_users(make([[7, 7, 3, 4, 5, 6, 8, 9, 9, 2, 7, 5, 5, 7]]), 4)
    assert users.seen.items.tolist() == [7, 7, 3, 4, 5, 6, 8, 9, 9, 2, 7]
    assert users.history.tolist() == [[9, 9, 2, 7]]
    assert users.targets.items.tolist() == [5, 7]


def test_no_user_to_evaluate():
    for rows in ([], [[1], [2]]):
        users = evaluation_users(make(rows), 3)
        assert len(users) == 0
        assert users.history.shape == (0, 3)
        assert users.targets.row_splits.tolist() == [0]
    with pytest.raises(InputError, match="max_history is 0"):
        evaluation_users(make([[1, 2]]), 0)


def test_targets_that_were_seen_and_users_with_no_other_leave_together():
    rows = [[1, 2, 3, 4, 2, 5], [6, 7, 6], [1, 1, 2, 3, 9, 8, 4, 4, 3, 8, 7, 9], [5], [2, 3]]
    users = evaluation_users(make(rows), 3).with_unseen_targets()
    assert users.user_ids.tolist() == [
        "u0",
        "u2",
        "u4",
    ]  # u1 saw its one target, u3 has none
    assert [one.tolist() for one in users.targets] == [[5], [7], [3]]
    assert [one.tolist() for one in users.seen] == [[1, 2, 3, 4], [1, 1, 2, 3, 9, 8, 4, 4, 3], [2]]
    assert users.history.tolist() == [[2, 3, 4], [4, 4, 3], [2, 0, 0]]


def test_all_targets_may_have_been_seen():
    assert len(evaluation_users(make([[6, 7, 6], [4, 4]]), 3).with_unseen_targets()) == 0


def test_some_targets_alone_and_the_users_who_have_one():
    rows = [[1, 2, 3, 4, 2, 5], [6, 7, 6], [1, 1, 2, 3, 9, 8, 4, 4, 3, 8, 7, 9], [5], [2, 3]]
    users = evaluation_users(make(rows), 3)
    assert [one.tolist() for one in users.targets] == [[2, 5], [6], [8, 7, 9], [3]]
    assert users.are_targets_unseen().tolist() == [False, True, False, False, True, False, True]
    some, places = users.only_targets(np.array([0, 1, 0, 1, 0, 1, 0], bool))
    assert places.tolist() == [0, 2]
    assert some.user_ids.tolist() == ["u0", "u2"] and some.history.tolist() == [[2, 3, 4], [4, 4, 3]]
    assert [one.tolist() for one in some.targets] == [[5], [8, 9]]
    assert [one.tolist() for one in some.seen] == [[1, 2, 3, 4], [1, 1, 2, 3, 9, 8, 4, 4, 3]]

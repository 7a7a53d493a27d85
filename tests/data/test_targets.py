"""Targets of one's own against pure Python: whose they are, what is left out and counted."""

import numpy as np
import polars as pl
import pytest

from causerec_tf.data import targets
from causerec_tf.errors import InputError
from tests.worlds import write_events

ITEMS = ["a", "b", "c", "d"]
USERS = np.array(["u", "v", "w", "u", "x"], dtype=object)
HISTORIES = targets.known_items([["a"], ["b", "no item", "a", "b"], ["d"], ["c", "a"], []], ITEMS)


def frame(*rows):
    return pl.DataFrame(rows, schema={"user": pl.String, "item": pl.String}, orient="row")


def test_unknown_items_of_a_history_are_passed_over():
    assert [row.tolist() for row in HISTORIES] == [[1], [2, 1, 2], [4], [3, 1], []]


def test_users_and_targets_that_are_known_are_measured_and_the_others_counted():
    rows = frame(
        *[("u", "d"), ("v", "c"), ("u", "no item"), ("u", "b"), ("stranger", "a"), ("u", "d"), ("v", "a")],
        *[("x", "a"), ("w", "none"), ("stranger", "b")],
    )
    found = targets.own_targets(rows, USERS, HISTORIES, ITEMS, max_history=2)
    assert found.users.user_ids.tolist() == ["v", "u"]
    assert [row.tolist() for row in found.users.seen] == [[2, 1, 2], [3, 1]]  # of several the last counts
    assert found.users.history.tolist() == [[1, 2], [3, 1]]
    assert [row.tolist() for row in found.users.targets] == [[3, 1], [4, 2]]
    assert found.users.targets.items.dtype == found.users.seen.items.dtype == np.int32
    assert (found.without_history, found.unknown_items) == (2, 2)  # stranger and x; of u and w


@pytest.mark.parametrize("rows", [[("stranger", "a")], [("u", "no item")]])
def test_nothing_to_measure_is_told(rows):
    with pytest.raises(InputError, match="nothing to measure: of 1 users with targets"):
        targets.own_targets(frame(*rows), USERS, HISTORIES, ITEMS, max_history=2)


def test_histories_of_a_dataset_are_all_its_events(tmp_path):
    events = pl.DataFrame(
        {
            "user": [f"u{number % 40}" for number in range(200)],
            "item": [f"i{number % 7}" for number in range(200)],
            "time": list(range(200)),
        }
    )
    dataset = write_events(events, tmp_path / "world")
    ids = dataset.item_ids()
    user_ids, histories = targets.whole_histories(dataset)
    found = {user: [ids[item - 1] for item in row] for user, row in zip(user_ids, histories, strict=True)}
    assert found == {f"u{user}": [f"i{number % 7}" for number in range(user, 200, 40)] for user in range(40)}

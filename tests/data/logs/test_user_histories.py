"""Histories of a log against pure Python."""

import gzip
import random

import polars as pl
import pytest

from causerec_tf.data.logs import user_histories
from causerec_tf.errors import InputError
from tests import reference_data


def wanted(rows):
    """[(user, items)], the users by the bytes of their ids."""
    by_user = reference_data.sequences(rows)
    return [
        (user, [item for item, _ in by_user[user]])
        for user in sorted(by_user, key=lambda user: user.encode("utf-8"))
    ]


@pytest.mark.parametrize("max_history", [None, 1, 3, 1000])
@pytest.mark.parametrize("seed", range(3))
def test_histories_equal_the_slow_twin(seed, max_history):
    rows = reference_data.odd_rows(random.Random(seed))
    made = user_histories.build_histories(reference_data.frame(rows), max_history=max_history)
    assert made.columns == ["user_id", "history"]
    assert made.rows() == [(user, items[-(max_history or 0) :]) for user, items in wanted(rows)]


def test_ties_keep_the_order_of_the_log_however_many_there_are():
    rows = [(f"u{number % 3}", f"i{number}", number % 2) for number in range(60_000)]
    made = user_histories.build_histories(reference_data.frame(rows), max_history=None)
    assert made.rows() == wanted(rows)


def test_only_wanted_users_one_without_events_among_them():
    rows = [("b", "x", 2), ("a", "y", 1), ("b", "z", 1), ("c", "x", 1)]
    users = pl.Series(["nobody", "b", "a", "b"])
    made = user_histories.build_histories(reference_data.frame(rows), max_history=5, users=users)
    assert made.rows() == [("a", ["y"]), ("b", ["z", "x"]), ("nobody", [])]


def test_ids_of_users_are_read_line_by_line(tmp_path):
    path = tmp_path / "users.txt.gz"
    path.write_bytes(gzip.compress("\ufeffu 1\r\n\n\u2028x\n7".encode()))
    assert user_histories.read_user_ids(path).to_list() == ["u 1", "\u2028x", "7"]
    for content, message in ((b"\n\n", "is empty; wanted the id"), (b"\xff", "is not UTF-8")):
        path.write_bytes(content)
        with pytest.raises(InputError, match=message):
            user_histories.read_user_ids(path)
    with pytest.raises(InputError, match="cannot be read"):
        user_histories.read_user_ids(tmp_path / "none.txt")


def test_an_error_while_writing_leaves_what_was_there(tmp_path):
    path = tmp_path / "h.parquet"
    path.write_text("before")
    with pytest.raises(AttributeError):
        user_histories.write_histories(None, path)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("h.parquet", "before")]

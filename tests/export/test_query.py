"""Queries beside bare histories."""

import numpy as np
import pytest

import export
from export.query import CheckedQuery, Query, checked_queries
from export.store.bundle_errors import BundleError


def test_bare_histories_and_queries_may_be_mixed():
    got = checked_queries([["a", 1], Query(np.array([2, 3]), 5, exclude_seen=False), Query([])], k=[7, 8, 9])
    assert got == [
        CheckedQuery(["a", "1"], 7),
        CheckedQuery(["2", "3"], 5, exclude_seen=False),
        CheckedQuery([], 9),
    ]
    assert checked_queries([["a"], ["b"]], 3, [True, False]) == [
        CheckedQuery(["a"], 3),
        CheckedQuery(["b"], 3, exclude_seen=False),
    ]
    assert checked_queries([]) == []
    assert export.Query is Query


@pytest.mark.parametrize(
    ("queries", "k", "exclude_seen", "message"),
    [
        ([["a"]], None, None, "query 0 has no k"),
        ([Query(["a"], 4), Query(["a"])], None, None, "query 1 has no k"),
        ([Query(["a"], 0)], 5, None, "k is 0; it must be at least 1"),
        ([["a"]], [1, 2], None, "2 values of k for 1 histories"),
        ([["a"], ["b"]], 1, [True], "1 values of exclude_seen for 2 histories"),
        ([["a"], Query(["b"], 1)], 1, True, "query 1 is a Query and says itself"),
        ([Query("abc", 1)], None, None, "history 0 is 'abc'"),
        ([["a"], Query([1.5], 1)], 1, None, r"history 1 has the item 1\.5"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_words(queries, k, exclude_seen, message):
    with pytest.raises(BundleError, match=message):
        checked_queries(queries, k, exclude_seen)

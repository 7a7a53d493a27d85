"""What a query may give beside ids, and what is an error of it."""

from datetime import UTC, datetime

import numpy as np
import pytest

from export.query import Query, checked_queries
from export.store.bundle_errors import BundleError, QueryError
from export.tower_columns import TowerColumns

COLUMNS = TowerColumns.described(
    {
        "columns": [
            {"name": "country", "owner": "user", "kind": "categorical", "values": ["nl"]},
            {"name": "tags", "owner": "user", "kind": "multi", "length": 2, "separator": "|"},
            {"name": "age", "owner": "user", "kind": "numeric"},
            {"name": "about", "owner": "user", "kind": "text", "length": 9},
            {"name": "taste", "owner": "user", "kind": "embedding", "size": 2},
            {"name": "device", "owner": "request", "kind": "categorical"},
            {"name": "rating", "owner": "event", "kind": "numeric"},
            {"name": "time", "owner": "event", "kind": "time"},
            {"name": "time", "owner": "request", "kind": "time"},
        ]
    },
    "tower.json:",
)


def given(query):
    return checked_queries([query], 3, columns=COLUMNS)[0].given


@pytest.mark.parametrize(
    ("user", "wanted"),
    [
        (None, {}),
        ({}, {}),
        ({"country": "", "tags": [], "age": None, "about": "", "taste": None}, {}),
        ({"country": "nl"}, {"user_country": "nl"}),
        ({"country": 7}, {"user_country": "7"}),
        ({"country": True}, {"user_country": "true"}),
        ({"country": 7.0}, {"user_country": "7"}),
        ({"tags": ["b", "b", "", "a", "c"]}, {"user_tags": ["b", "a"]}),
        ({"tags": "b | b|a|c"}, {"user_tags": ["b", "a"]}),
        ({"tags": [1, None, 2]}, {"user_tags": ["1", "2"]}),
        ({"age": 3}, {"user_age": 3.0}),
        ({"age": " 3.5"}, {"user_age": 3.5}),
        ({"age": float("nan")}, {}),
        ({"about": "One two"}, {"user_about": "One two"}),
        ({"taste": [1, 2.5]}, {"user_taste": [1.0, 2.5]}),
        ({"taste": "[1, 2.5]"}, {"user_taste": [1.0, 2.5]}),
        ({"taste": np.array([1.0, 2.0])}, {"user_taste": [1.0, 2.0]}),
    ],
)
def test_values_become_what_is_sent(user, wanted):
    assert given(Query(["a"], user=user)) == wanted


@pytest.mark.parametrize(
    ("time", "wanted"),
    [(12, 12), (12.9, 12), ("12", 12), ("1970-01-02", 86_400), ("1970-01-01T01:00:00+01:00", 0)],
)
def test_times_are_seconds(time, wanted):
    assert given(Query(["a"], time=time)) == {"request_time": wanted}
    assert given(Query([{"id": "a", "time": time}])) == {"event_time": [wanted]}
    assert given(Query([], time=datetime(1970, 1, 2, tzinfo=UTC))) == {"request_time": 86_400}


def test_of_events_there_is_a_value_for_each_item():
    history = ["a", {"id": 5, "rating": 2}, {"id": "c", "time": 9, "rating": None}]
    [checked] = checked_queries([Query(history)], 3, columns=COLUMNS)
    assert checked.history == ["a", "5", "c"]
    assert checked.given == {"event_rating": [None, 2.0, None], "event_time": [None, None, 9]}
    assert Query(history).item_ids == checked.history


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (
            Query([], user={"coutry": 1}),
            r"user has 'coutry', which the tower does not read; wanted: 'country', ",
        ),
        (Query([], context={"country": 1}), r"context has 'country', .* wanted: 'device'"),
        (Query([], user=["nl"]), r"user is \['nl'\]; wanted an object of names and values"),
        (Query([], user={"country": ["nl"]}), r"user\.country: got \['nl'\]; it is categorical, wanted text"),
        (Query([], user={"age": "old"}), r"user\.age: got 'old'; it is numeric, wanted a finite number"),
        (Query([], user={"age": 1e39}), r"user\.age: got 1e\+39"),
        (Query([], user={"age": True}), r"user\.age: got True"),
        (Query([], user={"tags": 5}), r"user\.tags: got 5; it is multi, wanted a list"),
        (Query([], user={"about": ["x"]}), r"user\.about: got \['x'\]; it is text"),
        (Query([], user={"taste": [1.0]}), r"user\.taste: got \[1\.0\]; it is embedding, wanted 2 finite"),
        (Query([], user={"taste": [1.0, float("nan")]}), r"user\.taste"),
        (Query([], time="noon"), r"time: got 'noon'; wanted whole seconds since 1970"),
        (Query([], time=float("inf")), r"time: got inf"),
        (Query([{"id": "a", "rating": "x"}]), r"history\.rating: got 'x'"),
        (Query([{"id": "a", "time": "x"}]), r"history\.0\.time: got 'x'"),
        (Query([{"id": "a", "device": "x"}]), r"history has 'device', .* wanted: 'id', 'time', 'rating'"),
        (Query([{"rating": 1}]), r"history 0 has the row \{'rating': 1\}; wanted its 'id'"),
        (Query([], diversity=0.5), r"asks for diversity or category_cap"),
    ],
)
def test_what_the_tower_does_not_read_is_an_error_of_the_query(query, message):
    with pytest.raises(QueryError, match=message):
        given(query)


def test_a_tower_of_ids_alone_reads_no_values_but_lets_times_pass():
    [checked] = checked_queries([Query([{"id": "a", "time": 4}], 3, time=5)])
    assert (checked.history, checked.given) == (["a"], {})
    with pytest.raises(QueryError, match=r"user has 'age', which the tower does not read; wanted: none"):
        checked_queries([Query(["a"], 3, user={"age": 1})])
    with pytest.raises(QueryError, match=r"time: got 'x'"):
        checked_queries([Query(["a"], 3, time="x")])


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("age", "columns is 'age'; wanted an object"),
        ({"name": "a b", "owner": "user", "kind": "numeric"}, "name is 'a b'; wanted a name"),
        ({"name": "a", "owner": "item", "kind": "numeric"}, "owner is 'item'"),
        ({"name": "a", "owner": "user", "kind": "multi"}, "user/a has no length; publish again"),
    ],
)
def test_a_description_that_cannot_be_is_refused(column, message):
    with pytest.raises(BundleError, match=message):
        TowerColumns.described({"columns": [column]}, "tower.json:")

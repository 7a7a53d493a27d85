"""Raw values in a graph beside a plain twin, one value at a time, and beside what a dataset stores."""

import math
import re

import numpy as np
import pytest
import tensorflow as tf

from causerec_tf.errors import InputError
from causerec_tf.raw_values import ContextReader, RawColumn
from causerec_tf.schema import FittedColumn, schema_of

VALUES = ["red", "blau", "日本", "a\tb", " x ", "-3", "0", "é"]


def fitted(tmp_path, kind, owner="user", values=VALUES, **entries):
    [column] = schema_of([{"name": "it", "owner": owner, "kind": kind} | entries]).columns
    vocabulary = None
    if kind in ("categorical", "multi"):
        vocabulary = tmp_path / f"{owner}.it.txt"
        vocabulary.write_bytes("".join(f"{value}\n" for value in values).encode())
    return FittedColumn(column, len(values) if vocabulary else 0, vocabulary)


def code(value):
    """The twin: 0 missing, 1 unknown, then the vocabulary."""
    return 0 if value == "" else VALUES.index(value) + 2 if value in VALUES else 1


def read(fitted_column, raw):
    """As a graph, since what is served is one."""
    column = RawColumn(fitted_column)
    return [value.numpy() for value in tf.function(column)(raw)]


def test_a_category_is_its_place_in_the_vocabulary(tmp_path):
    raw = [*VALUES, "", "never seen", "x", "RED", "red "]
    stored, known, unknown = read(fitted(tmp_path, "categorical"), tf.constant(raw))
    assert stored.tolist() == [code(one) for one in raw]
    assert stored.dtype == np.int32
    assert known.tolist() == [int(code(one) >= 2) for one in raw]
    assert unknown.tolist() == [int(code(one) == 1) for one in raw]


@pytest.mark.parametrize(("missing", "stored"), [("日本", 4), ("elsewhere", 1)])
def test_a_missing_category_is_what_the_schema_puts_there(tmp_path, missing, stored):
    column = fitted(tmp_path, "categorical", missing=missing)
    got, known, unknown = read(column, tf.constant(["", "red"]))
    assert got.tolist() == [stored, 2]
    assert (known.tolist(), unknown.tolist()) == ([0, 1], [0, 0])
    assert RawColumn(column).nothing(tf.constant([2])).numpy().tolist() == [stored] * 2


def test_a_vocabulary_without_values_knows_none(tmp_path):
    stored, _, unknown = read(fitted(tmp_path, "categorical", values=[]), tf.constant(["", "red"]))
    assert (stored.tolist(), unknown.tolist()) == ([0, 1], [0, 1])


def multi(values, length):
    first = list(dict.fromkeys(value for value in values if value))[:length]
    codes = list(dict.fromkeys(map(code, first)))
    return codes + [0] * (length - len(codes)), len([one for one in first if code(one) == 1])


ROWS = [
    ["red", "", "é", "red"],
    [],
    ["no", "nor this", "0", "red"],
    ["é", "é", "é", "0", "-3", "blau"],
    ["", ""],
    ["no", "no"],
]


def test_several_values_are_distinct_and_the_first(tmp_path):
    column = fitted(tmp_path, "multi", length=3)
    for raw in (tf.ragged.constant(ROWS, dtype=tf.string), tf.ragged.constant(ROWS).to_tensor("")):
        stored, known, unknown = read(column, raw)
        wanted = [multi(row, 3) for row in ROWS]
        assert stored.tolist() == [codes for codes, _ in wanted]
        assert unknown.tolist() == [count for _, count in wanted]
        assert known.tolist() == [2, 0, 1, 3, 0, 0]
    assert RawColumn(column).nothing(tf.constant([2])).numpy().tolist() == [[0] * 3] * 2


def test_words_are_hashed_in_small_letters_distinct_and_the_first(tmp_path):
    texts = ["Red RED, blue-7", "", "Ünïcode 日本、東京!", "?!", "one two three four five"]
    stored, known, unknown = read(fitted(tmp_path, "text", size=50, length=4), tf.constant(texts))
    for row, text in zip(stored.tolist(), texts, strict=True):
        words = re.findall(r"[^\W_]+", text.lower())
        hashed = [int(tf.strings.to_hash_bucket_fast(word, 50)) + 1 for word in words]
        first = list(dict.fromkeys(hashed))[:4]
        assert row == first + [0] * (4 - len(first))
    assert (known.tolist(), unknown.tolist()) == ([1, 0, 1, 0, 1], [0, 0, 0, 1, 0])


def test_numbers_and_vectors_are_finite_or_missing(tmp_path):
    raw = tf.constant([1.5, np.nan, np.inf, 0.0])
    stored, known, unknown = read(fitted(tmp_path, "numeric"), raw)
    np.testing.assert_array_equal(stored, np.array([1.5, np.nan, np.nan, 0.0], np.float32))
    assert (known.tolist(), unknown.tolist()) == ([1, 0, 0, 1], [0, 0, 1, 0])
    stored, known, _ = read(fitted(tmp_path, "numeric", missing=-2.5), raw)
    assert stored.tolist() == [1.5, -2.5, -2.5, 0.0]
    assert known.tolist() == [1, 0, 0, 1]
    raw = tf.constant([[1.0, 2.0], [0.0, 0.0], [np.nan, 1.0]])
    stored, known, unknown = read(fitted(tmp_path, "embedding", size=2), raw)
    assert stored.tolist() == [[1.0, 2.0], [0.0, 0.0], [0.0, 0.0]]
    assert (known.tolist(), unknown.tolist()) == ([1, 0, 0], [0, 0, 1])


@pytest.fixture(name="reader")
def fixture_reader(tmp_path):
    return ContextReader(
        [
            fitted(tmp_path, "categorical", "user", missing="red"),
            fitted(tmp_path, "numeric", "request"),
            fitted(tmp_path, "categorical", "event", missing="é"),
            fitted(tmp_path, "multi", "item"),
            FittedColumn(schema_of([{"name": "age", "owner": "event", "kind": "age"}]).columns[0]),
        ]
    )


MASK = tf.constant([[True, True, False], [False] * 3])


def test_a_request_is_read_by_key_and_nothing_stands_beside_padding(reader):
    raw = {
        "event/it": tf.constant([["red", "", "no"], ["no"] * 3]),
        "event/time": tf.constant([[5, 6, 7], [8, 9, 10]], tf.int64),
        "user/it": tf.constant(["no", "blau"]),
        "request/it": tf.constant([2.5, np.nan]),
        "request/time": tf.constant([11, 0], tf.int64),
    }
    stored, known, unknown = tf.function(reader)(raw, MASK)
    assert {key: value.numpy().tolist() for key, value in stored.items() if key != "request/it"} == {
        "event/it": [[2, 9, 0], [0, 0, 0]],
        "user/it": [1, 3],
        "time": [[5, 6, 0], [0, 0, 0]],
        "request_time": [11, 0],
    }
    assert stored["request/it"][0] == 2.5
    assert math.isnan(stored["request/it"][1])
    # Values of events, and times, say nothing of a user without items.
    assert (known.numpy().tolist(), unknown.numpy().tolist()) == ([1, 1], [1, 0])


def test_what_is_not_given_is_missing(reader):
    stored, known, unknown = tf.function(reader)({}, MASK)
    explicit, _, _ = reader(
        {
            "event/it": tf.fill([2, 3], ""),
            "event/time": tf.zeros([2, 3], tf.int64),
            "user/it": tf.constant(["", ""]),
            "request/it": tf.constant([np.nan] * 2),
            "request/time": tf.zeros([2], tf.int64),
        },
        MASK,
    )
    assert stored.keys() == explicit.keys()
    for key, value in explicit.items():
        np.testing.assert_array_equal(stored[key].numpy(), value.numpy(), strict=True)
    assert known.numpy().tolist() == unknown.numpy().tolist() == [0, 0]


def test_the_description_is_all_that_a_client_needs(reader, tmp_path):
    assert reader.columns == [
        {"name": "it", "owner": "user", "kind": "categorical", "size": 100_000, "values": VALUES},
        {"name": "it", "owner": "request", "kind": "numeric"},
        {"name": "it", "owner": "event", "kind": "categorical", "size": 100_000, "values": VALUES},
        {"name": "time", "owner": "event", "kind": "time"},
        {"name": "time", "owner": "request", "kind": "time"},
    ]
    assert reader
    assert not ContextReader([fitted(tmp_path, "numeric", "item")])


def test_what_cannot_be_read_is_refused_in_words(tmp_path):
    [named_time] = schema_of([{"name": "time", "owner": "request", "kind": "numeric"}]).columns
    with pytest.raises(InputError, match=r"request/time, a name that requests have for something else"):
        ContextReader([FittedColumn(named_time)])
    column = fitted(tmp_path, "categorical")
    column.vocabulary.write_text("red\n")
    with pytest.raises(InputError, match=r"has 1 values, and the dataset says 8; prepare again"):
        RawColumn(column)
    column.vocabulary.unlink()
    with pytest.raises(InputError, match=r"user\.it\.txt cannot be read .*; prepare again"):
        RawColumn(column)

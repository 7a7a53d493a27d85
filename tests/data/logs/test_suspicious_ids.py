"""Ids that look marred, counted by hand."""

import polars as pl
import pytest

from causerec_tf.data.logs import suspicious_ids
from causerec_tf.data.logs.suspicious_ids import Suspicion, suspicions_of


def found(users, items=None):
    items = ["i"] * len(users) if items is None else items
    return suspicions_of(pl.DataFrame({"user": users, "item": items}))


def test_words_for_a_missing_value_are_counted():
    words = ["\\N", "NULL", "null", "nan", "NaN", "None", "N/A", "NA", " "]
    assert found([*words, "NULL", "u1", "nancy", "n", "Nil Admirari"]) == [
        Suspicion("user", "missing", 9, 10, [" "])
    ]
    assert found(["u"] * 3, ["\\N", "a", "\\N"]) == [Suspicion("item", "missing", 1, 2, ["\\N"])]


def test_ids_that_are_alike_but_for_blanks_or_a_decimal_are_counted():
    users = ["1", "1.0", "2.0", "3 ", "3", "3", "4\u00a0", "4.00", "v1.0", "v1", "-7.0", "-7", "\ufeff8", "8"]
    assert found(users) == [Suspicion("user", "spelling", 6, 6, ["-7.0", "-7"])]
    # What is spelt in one way only has no twin.
    assert found(["1.0", "2.0", "3 "]) == []


def test_numbers_in_scientific_notation_are_counted():
    items = ["8.90123E+12", "8.90123E+12", "1E+10", "12e4", "E+5", "8901230000000"]
    assert found(["u"] * 6, items) == [Suspicion("item", "scientific", 2, 3, ["1E+10"])]


def test_the_parts_of_a_log_add_up_to_the_whole():
    parts = [
        Suspicion("item", "missing", 1, 5, ["null"]),
        Suspicion("user", "spelling", 2, 3, ["b ", "b"]),
        Suspicion("item", "missing", 2, 2, ["None"]),
    ]
    assert suspicious_ids.add_up(parts) == [parts[1], Suspicion("item", "missing", 3, 7, ["None"])]
    assert suspicious_ids.as_recorded([]) == {}


@pytest.mark.parametrize(
    ("one", "wanted"),
    [
        (
            Suspicion("user", "missing", 1, 1, ["NULL"]),
            "1 user id looks like a missing value, such as 'NULL' (1 row). Kept as written.",
        ),
        (
            Suspicion("item", "spelling", 2, 3_000, ["124 ", "124"]),
            "2 item ids look like another but for blanks or '.0', such as '124 ' beside '124' (3,000 rows)."
            " Kept as written.",
        ),
    ],
)
def test_for_people_to_read(one, wanted):
    assert suspicious_ids.describe(one) == wanted

"""The time column against moments worked out by the standard library."""

from datetime import UTC, date, datetime, timedelta, timezone

import polars as pl
import pytest

from causerec_tf.data.logs import times


def micros(*moment, zone=UTC):
    elapsed = datetime(*moment, tzinfo=zone) - datetime(1970, 1, 1, tzinfo=UTC)
    return elapsed // timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("1970-01-01", 0),
        ("2024-02-29", micros(2024, 2, 29)),
        ("2023-02-29", None),
        ("2024-13-01", None),
        ("1969-12-31T23:59:59Z", -1_000_000),
        ("2020-05-06 07:08", micros(2020, 5, 6, 7, 8)),
        ("2020-05-06T07:08:09", micros(2020, 5, 6, 7, 8, 9)),
        ("2020-05-06T07:08:09.123456Z", micros(2020, 5, 6, 7, 8, 9, 123456)),
        ("2020-05-06T07:08:09,5Z", micros(2020, 5, 6, 7, 8, 9, 500000)),
        ("2020-05-06T07:08:09.1234567Z", micros(2020, 5, 6, 7, 8, 9, 123456)),
        (
            "2020-05-06T07:08:09+05:30",
            micros(2020, 5, 6, 7, 8, 9, zone=timezone(timedelta(hours=5, minutes=30))),
        ),
        (
            "2020-05-06T07:08:09-0800",
            micros(2020, 5, 6, 7, 8, 9, zone=timezone(timedelta(hours=-8))),
        ),
        ("2020-05-06 07:08:09 UTC", micros(2020, 5, 6, 7, 8, 9)),
        ("2020-05-06 07:08:09.25 GMT", micros(2020, 5, 6, 7, 8, 9, 250000)),
        ("2020-05-06 07:08:09 +0000", micros(2020, 5, 6, 7, 8, 9)),
        ("2020-05-06 07:08 +02", micros(2020, 5, 6, 5, 8)),
        ("2020-05-06 07:08:09 Z", micros(2020, 5, 6, 7, 8, 9)),
        ("2020-05-06 07:08:09 PST", None),
        ("2020-05-06 07:08:09 ", micros(2020, 5, 6, 7, 8, 9)),
        ("2020-05-06T24:00:00", None),
        ("2020-05-06T07:60:00", None),
        ("2020-05-06T07:08:09 and more", None),
        ("6 May 2020", None),
    ],
)
def test_iso_8601(text, wanted):
    column = pl.Series(["2000-01-01", text])
    values, notation = times.parse_times(column)
    assert notation == times.MOMENT
    assert values.to_list() == [micros(2000, 1, 1), wanted]
    assert values.dtype == pl.Int64


def test_integers_stay_as_they_are_in_text_and_in_numbers():
    numbers = [5, -7, 0, 881250949, 2**63 - 1]
    for column in (pl.Series(numbers), pl.Series(list(map(str, numbers)))):
        values, notation = times.parse_times(column)
        assert (values.to_list(), notation) == (numbers, times.INTEGER)
    assert times.parse_times(pl.Series([" 5 ", "+6", "x", "", None]))[0].to_list() == [
        5,
        6,
        None,
        None,
        None,
    ]


def test_one_decimal_makes_the_column_seconds():
    values, notation = times.parse_times(pl.Series(["1.5", "2", "-0.25", "1e3", "nan", "inf", "x"]))
    assert notation == times.DECIMAL
    assert values.to_list() == [1_500_000, 2_000_000, -250_000, 1_000_000_000, None, None, None]
    assert times.parse_times(pl.Series([0.5, None, float("nan")]))[0].to_list() == [
        500_000,
        None,
        None,
    ]


def test_microseconds_of_present_times_survive_as_decimals():
    values, _ = times.parse_times(pl.Series(["1700000000.123457", "1700000000.000001"]))
    assert values.to_list() == [1_700_000_000_123_457, 1_700_000_000_000_001]


def test_the_first_readable_value_decides_between_numbers_and_dates():
    values, notation = times.parse_times(pl.Series(["?", "7", "2020-01-01"]))
    assert (values.to_list(), notation) == ([None, 7, None], times.INTEGER)
    values, notation = times.parse_times(pl.Series(["?", "1970-01-02", "7"]))
    assert (values.to_list(), notation) == ([None, 86_400_000_000, None], times.MOMENT)


def test_dates_and_datetimes_of_parquet():
    assert times.parse_times(pl.Series([date(1970, 1, 2), None]))[0].to_list() == [
        86_400_000_000,
        None,
    ]
    moment = datetime(2020, 5, 6, 7, 8, 9)
    wanted = micros(2020, 5, 6, 7, 8, 9)
    for unit in ("ms", "us", "ns"):
        column = pl.Series([moment]).cast(pl.Datetime(unit))
        assert times.parse_times(column)[0].to_list() == [wanted]
    zoned = pl.Series([moment]).dt.replace_time_zone("Asia/Kolkata")
    assert times.parse_times(zoned)[0].to_list() == [wanted - 19_800_000_000]


def test_files_of_numbers_and_files_of_dates_do_not_mix():
    unit = times.combine_notations({"a": times.INTEGER, "b": times.INTEGER})
    assert unit == times.AS_GIVEN
    unit = times.combine_notations({"a": times.INTEGER, "b": times.DECIMAL})
    assert unit == times.MICROSECONDS
    with pytest.raises(ValueError, match="a holds times as numbers, b as dates"):
        times.combine_notations({"a": times.INTEGER, "b": times.MOMENT})

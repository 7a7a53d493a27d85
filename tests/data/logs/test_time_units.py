"""Units of times by their magnitude, on moments that the standard library works out."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from causerec_tf.data.logs import interactions, time_units, times
from causerec_tf.data.logs.log_settings import LogSettings
from causerec_tf.errors import InputError

HEADER = "user_id,item_id,timestamp\n"
SECOND = int(datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC).timestamp())
MAX_INT64 = 2**63 - 1


def check(*moments):
    column, notation = times.parse_times(pl.Series(list(moments)))
    time_units.check_one_unit([time_units.count_units(column, notation, "a.csv")])


@pytest.mark.parametrize(
    ("finer", "factor"), [("milliseconds", 10**3), ("microseconds", 10**6), ("nanoseconds", 10**9)]
)
def test_one_time_of_another_unit_is_named(finer, factor):
    seconds = [SECOND + step for step in range(1000)]
    message = (
        r"the log mixes units of time:"
        rf" 1,000 look like seconds \(the first is {SECOND} in a\.csv, 2023-11-14\),"
        rf" 1 look like {finer} \(the first is {SECOND * factor} in a\.csv, 2023-11-14\)\."
        r" Their order cannot be known\. Bring all times to one unit"
    )
    with pytest.raises(InputError, match=message):
        check(*seconds, SECOND * factor)
    check(*seconds)
    check(*(factor * second for second in seconds))


def test_units_mix_whatever_they_are_and_whatever_stands_for_an_unknown_time():
    for first, second in ((10**3, 10**6), (10**3, 10**9), (10**6, 10**9)):
        with pytest.raises(InputError, match="mixes units"):
            check(SECOND * first, SECOND * second)
    with pytest.raises(InputError, match="mixes units"):
        check(0, 0, 0, -1, -1, -(10**12), SECOND, SECOND * 1000)
    with pytest.raises(InputError, match=r"2 look like seconds .* 2 look like milliseconds"):
        check(MAX_INT64, SECOND, SECOND, SECOND * 1000, SECOND * 1000)


def test_decimals_are_told_by_what_is_written():
    with pytest.raises(
        InputError, match=rf"first is {SECOND}\.25 in a\.csv.* first is {SECOND}000 in a\.csv"
    ):
        check(f"{SECOND}.25", f"{SECOND}000.0")
    check(f"{SECOND}.25", "0.5", "17.5", "1700")
    check(f"{SECOND}000.25", f"{SECOND}001.0")


@pytest.mark.parametrize(
    "moments",
    [
        pytest.param(range(2000), id="a counter"),
        pytest.param([10**9 + step for step in range(50)], id="a large counter"),
        pytest.param([int(1.3**step) for step in range(165)], id="ordinals of any size"),
        pytest.param([0] * 50 + [SECOND * 1000], id="unknown times are 0"),
        pytest.param([-1] * 50 + [SECOND], id="unknown times are -1"),
        pytest.param([SECOND, 9_999_999_999, MAX_INT64], id="never"),
        pytest.param([day * 86_400 for day in range(0, 20_000, 50)], id="seconds since 1970"),
        pytest.param([day * 86_400_000 for day in range(20_000)], id="milliseconds since 1970"),
        pytest.param([day * 86_400_000_000 for day in range(20_000)], id="microseconds since 1970"),
        # A clock that was not set begins in 1970; the device may have been up for hours or for days.
        pytest.param([SECOND * 1000] * 9 + [hour * 3_600_000 for hour in range(1, 400)], id="an unset clock"),
        pytest.param([20240506, 20240507, 20240506070809, 202405060708], id="dates as numbers"),
        pytest.param(["2024-05-06", "1970-01-08", "2024-05-06T07:08:09"], id="dates"),
    ],
)
def test_what_is_no_mixture_passes(moments):
    check(*moments)


def test_files_of_several_units_are_named(tmp_path):
    (tmp_path / "a.csv").write_text(HEADER + f"u,x,0\nu,x,{SECOND}\n")
    (tmp_path / "b.csv").write_text(HEADER + f"u,y,{SECOND}500\n" * 3)
    message = rf"1 look like seconds .* in .*a\.csv, .* 3 look like milliseconds .* {SECOND}500 in .*b\.csv, "
    with pytest.raises(InputError, match=message):
        interactions.read_log([str(tmp_path / "*.csv")], LogSettings())
    # A file of whole numbers beside decimals is taken for seconds, milliseconds too.
    (tmp_path / "a.csv").write_text(HEADER + f"u,x,{SECOND}.5\n")
    with pytest.raises(InputError, match=message):
        interactions.read_log([str(tmp_path / "*.csv")], LogSettings())


@pytest.mark.parametrize(
    ("first", "last", "unit", "wanted"),
    [
        (1, 5, times.AS_GIVEN, "1 to 5, as given"),
        (20240506, 20240507, times.AS_GIVEN, "20240506 to 20240507, as given"),
        (
            SECOND - 60,
            SECOND,
            times.AS_GIVEN,
            "1699999940 to 1700000000, which as seconds is 2023-11-14 22:12:20 to 2023-11-14 22:13:20 UTC",
        ),
        (
            0,
            SECOND * 1000 + 999,
            times.AS_GIVEN,
            "0 to 1700000000999, which as milliseconds is 1970-01-01 00:00:00 to 2023-11-14 22:13:20 UTC",
        ),
        (-500_000, SECOND * 10**6, times.MICROSECONDS, "1969-12-31 23:59:59 to 2023-11-14 22:13:20 UTC"),
        (
            SECOND * 10**6,
            SECOND * 10**9,
            times.MICROSECONDS,
            "2023-11-14 22:13:20 to a date outside of the years 1 to 9999 UTC",
        ),
    ],
)
def test_the_first_and_the_last_time_are_dates_where_they_can_be(first, last, unit, wanted):
    assert time_units.describe_span(first, last, unit) == wanted


@pytest.mark.parametrize(
    ("last", "unit", "wanted"),
    [
        (SECOND, times.AS_GIVEN, "seconds"),
        (SECOND * 10**3, times.AS_GIVEN, "milliseconds"),
        (SECOND * 10**6, times.AS_GIVEN, "microseconds"),
        (SECOND * 10**9, times.AS_GIVEN, "nanoseconds"),
        (5, times.MICROSECONDS, "microseconds"),
        (20240506, times.AS_GIVEN, None),
        (SECOND, times.ORDER, None),
    ],
)
def test_the_unit_of_times_and_the_length_of_its_day(last, unit, wanted):
    assert time_units.unit_of(last, unit) == wanted
    if wanted:
        later = datetime.fromtimestamp(SECOND, UTC) + timedelta(days=1)
        factor = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}[wanted]
        assert time_units.per_day(wanted) == (int(later.timestamp()) - SECOND) * factor

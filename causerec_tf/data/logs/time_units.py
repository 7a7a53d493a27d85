"""The unit of times that are numbers, told by their magnitude: whether a log mixes units, and its dates.

Between 1990 and 2100 a time in seconds, milliseconds, microseconds or nanoseconds since 1970 is a date in
that unit alone: the four ranges lie a factor of more than a hundred apart. What lies in none of them
(counters, positions, `20240506`) is of no unit that could be known.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import polars as pl

from causerec_tf.data.logs import times
from causerec_tf.errors import InputError

_MICROSECONDS_A_SECOND = 1_000_000
_PER_SECOND = {
    "seconds": 1,
    "milliseconds": 1_000,
    "microseconds": _MICROSECONDS_A_SECOND,
    "nanoseconds": 1_000_000_000,
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Seconds since 1970 of the first day of 1990 and of 2100.
_EARLIEST, _LATEST = 631_152_000, 4_102_444_800


@dataclass(frozen=True)
class UnitCounts:
    """In which units the times of a log, or of a part of one, are dates.

    Attributes:
      dates: unit -> number of times that are dates from 1990 to 2100 in it; units without any are not there.
      first: unit -> the first such time and where it stands, for a message.
      others: number of positive times that are a date in no unit. Zero and what is below are counted nowhere:
        they often stand for a time that is not known.
    """

    dates: dict[str, int]
    first: dict[str, str]
    others: int


def count_units(moments: pl.Series, notation: str, place: str) -> UnitCounts:
    """Counts the times of a file, or of a part of one, by the unit in which they are dates.

    Args:
      moments: int64 [rows], as `times.parse_times` gives them, without nulls.
      notation: of the file; dates that are written as such, and positions, have no unit to tell.
      place: of the file, for a message.
    """
    if notation in (times.MOMENT, times.POSITION):
        return UnitCounts({}, {}, 0)
    # Decimals have been taken for seconds, and brought to microseconds.
    scale = 1 if notation == times.INTEGER else _MICROSECONDS_A_SECOND
    dates, first = {}, {}
    for unit, per_second in _PER_SECOND.items():
        earliest, behind = (bound * per_second * scale for bound in (_EARLIEST, _LATEST))
        if behind >= 1 << 63:
            break
        is_date = moments.is_between(earliest, behind, closed="left")
        if is_date.any():
            moment = moments[int(is_date.arg_true()[0])]
            written = str(moment) if scale == 1 else f"{moment / scale:.6f}".rstrip("0").rstrip(".")
            date = _date(moment, per_second * scale).partition(" ")[0]
            dates[unit], first[unit] = int(is_date.sum()), f"{written} in {place}, {date}"
    return UnitCounts(dates, first, int((moments > 0).sum()) - sum(dates.values()))


def check_one_unit(parts: Iterable[UnitCounts]) -> None:
    """Refuses a log whose times are of several units, since that wrecks their order.

    Numbers that count something else, and clocks that were not set, may look like dates of two units here and
    there. Then as many look like a date in no unit, and the log passes.

    Raises:
      InputError: the units are mixed.
    """
    dates: Counter[str] = Counter()
    first: dict[str, str] = {}
    others = 0
    for part in parts:
        dates.update(part.dates)
        first = part.first | first
        others += part.others
    if len(dates) < 2 or others >= min(dates.values()):
        return
    found = ", ".join(
        f"{dates[unit]:,} look like {unit} (the first is {first[unit]})"
        for unit in _PER_SECOND
        if unit in dates
    )
    raise InputError(
        f"the log mixes units of time: {found}. Their order cannot be known. Bring all times to one unit."
    )


def describe_span(first: int, last: int, time_unit: str) -> str:
    """The first and the last time of a log for people to read, as dates in UTC where they can be any.

    Numbers of no stated unit are read in the unit in which the last is a date.
    """
    if time_unit == times.ORDER:
        return f"{first} to {last}, {time_unit}"
    unit = unit_of(last, time_unit)
    if unit is None:
        return f"{first} to {last}, as given"
    dates = f"{_date(first, _PER_SECOND[unit])} to {_date(last, _PER_SECOND[unit])} UTC"
    return dates if time_unit == times.MICROSECONDS else f"{first} to {last}, which as {unit} is {dates}"


def describe_time(moment: int, last: int, time_unit: str) -> str:
    """A time of the log for people to read, with its date in UTC where it can be one; see `describe_span`."""
    unit = unit_of(last, time_unit)
    return str(moment) if unit is None else f"{moment}, {_date(moment, _PER_SECOND[unit])}"


def unit_of(last: int, time_unit: str) -> str | None:
    """The unit of a log's times; of numbers of no stated unit that in which the last is a date, if any is."""
    if time_unit == times.MICROSECONDS:
        return "microseconds"
    dated = (unit for unit, per_second in _PER_SECOND.items() if _is_date(last, per_second))
    return None if time_unit == times.ORDER else next(dated, None)


def per_second(last: int, time_unit: str) -> int:
    """How many of a log's units a second has, by its last time; 1 where its times are no dates."""
    unit = unit_of(last, time_unit)
    return 1 if unit is None else _PER_SECOND[unit]


def per_day(unit: str) -> int:
    """The length of a day in a unit that `unit_of` gives."""
    return 86_400 * _PER_SECOND[unit]


def moment_of(date: str, last: int, time_unit: str, name: str) -> int:
    """A date or date and time of day, ISO-8601, as a time of the log.

    Args:
      date: as text; without a zone it is UTC.
      last: the latest time of the log; numbers are taken to be of the unit in which it is a date.
      time_unit: see `interactions.Log`.
      name: of the setting, for a message.

    Raises:
      InputError: the log's times are no dates.
    """
    unit = unit_of(last, time_unit)
    if unit is None:
        raise InputError(
            f"{name}={date} is a date, but the times of the log are none: they end with {last}, {time_unit}."
            " Give a number in their unit, or a share such as q.9."
        )
    micros = int(times.parse_times(pl.Series([date]), times.MOMENT)[0].item())
    # Rounded up: what is earlier by a part of the unit is no event of the date.
    return -(-micros * _PER_SECOND[unit] // _MICROSECONDS_A_SECOND)


def _is_date(moment: int, per_second: int) -> bool:
    return _EARLIEST * per_second <= moment < _LATEST * per_second


def _date(moment: int, per_second: int) -> str:
    """Date and time of day, to the second."""
    try:
        moment_in_utc = _EPOCH + timedelta(seconds=moment // per_second)
    except OverflowError:
        return "a date outside of the years 1 to 9999"
    return moment_in_utc.replace(tzinfo=None).isoformat(" ")

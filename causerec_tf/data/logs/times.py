"""The time column of a log: any readable notation -> int64 that orders events.

Integers stay what they are, whatever their unit: only their order matters. Everything else is
brought to integer microseconds since 1970-01-01 UTC, so that two notations of one moment are one
number. What has lost its last digits on the way into the log is no time: it would order events wrongly.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

AS_GIVEN = "as given"
MICROSECONDS = "microseconds since 1970-01-01 UTC"
ORDER = "position in the log"

# POSITION: of a log whose order is that of its rows.
INTEGER, DECIMAL, MOMENT, POSITION = "integer", "decimal", "moment", "position"

# Beyond 2^62 / 10^6 seconds (146,000 years) a decimal would not survive as int64 microseconds.
_LARGEST_SECONDS = 4.0e12

_ISO_8601 = (
    r"^(?<date>\d{4}-\d{2}-\d{2})"
    r"(?:[T ](?<hour>[01]\d|2[0-3]):(?<minute>[0-5]\d)"
    r"(?::(?<second>[0-5]\d)(?:[.,](?<fraction>\d{1,9}))?)?"
    r"(?<zone> ?(?:Z|UTC|GMT|(?<sign>[+-])(?<zone_hour>[01]\d|2[0-3]):?(?<zone_minute>[0-5]\d)?))?)?$"
)

# A spreadsheet writes a number of ten digits or more so when it shows fewer: 1.71498E+12.
_SCIENTIFIC = r"^[+-]?\d+(?:\.(?<decimals>\d*))?[eE]\+?(?<exponent>\d{1,3})$"
_LEAST_EXPONENT_CUT = 9
# Up to this the floating-point types hold every integer.
_EXACT: dict[type[pl.DataType], int] = {pl.Float16: 1 << 11, pl.Float32: 1 << 24}


@dataclass(frozen=True)
class Clues:
    """What a column, or a part of one, says about the notation of its file.

    `first` is `moment` or `number`, by the first value that looks like either; None: no value does.
    """

    first: str | None
    has_decimals: bool


def clues_of(column: pl.Series) -> Clues:
    """Looks a column, or a part of one, through."""
    if column.dtype.is_temporal():
        return Clues(MOMENT, False)
    if column.dtype.is_integer():
        return Clues("number", False)
    if column.dtype.is_numeric():
        return Clues("number", True)
    text = column.cast(pl.String, strict=False).str.strip_chars()
    integers = text.cast(pl.Int64, strict=False)
    if integers.null_count() == 0:
        return Clues("number" if len(text) else None, False)
    decimals = _from_decimals(text.filter(integers.is_null()))
    return Clues(_first_kind(text, integers), decimals.null_count() < len(decimals))


def notation_of(clues: Iterable[Clues]) -> str:
    """The notation of a file, by its parts: that of the first readable value, all numbers as one."""
    parts = list(clues)
    if next((part.first for part in parts if part.first), None) == MOMENT:
        return MOMENT
    return DECIMAL if any(part.has_decimals for part in parts) else INTEGER


def parse_times(
    column: pl.Series, notation: str | None = None, time_format: str | None = None
) -> tuple[pl.Series, str]:
    """Reads one file's time column.

    Text may hold integers, decimal seconds or ISO-8601 dates and times (without a zone: UTC). One
    file has one notation: that of its first readable value, where integers and decimals count as
    one.

    Args:
      column: text, integers, floats, dates or datetimes, [rows].
      notation: that of the file, where the column is but a part of it; None: the column tells.
      time_format: how text writes dates and times, see `check_format`; None: as above.

    Returns:
      int64 [rows], null where the value cannot be read, and the notation: `integer`, `decimal` or
      `moment`. Of an integer column the values are as they stand, of the others microseconds.
    """
    if time_format is not None:
        return _from_format(column.cast(pl.String).str.strip_chars(), time_format), MOMENT
    notation = notation or notation_of([clues_of(column)])
    if column.dtype.is_temporal():
        return _from_temporal(column), notation
    if column.dtype.is_numeric():
        if notation == INTEGER:
            return column.cast(pl.Int64, strict=False), notation
        return _from_seconds(column.cast(pl.Float64, strict=False)), notation
    text = column.cast(pl.String, strict=False).str.strip_chars()
    if notation == INTEGER:
        return text.cast(pl.Int64, strict=False), notation
    if notation == MOMENT:
        return _from_iso_8601(text), notation
    return _from_decimals(text), notation


def check_format(time_format: str) -> None:
    """Checks a format of times: that of C's strptime, as `polars.Expr.str.to_datetime` takes it.

    Raises:
      ValueError: it is empty, or no time can be read by it.
    """
    if not time_format:
        raise ValueError("is empty; wanted one such as %d/%m/%Y %H:%M:%S")
    if "%Z" in time_format:
        raise ValueError(
            "has %Z, but the name of a zone does not tell its offset. Write a name that always stands there"
            " as it is, such as EST, if its times may count as UTC; for offsets write %z"
        )
    try:
        _from_format(pl.Series([""]), time_format)
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"cannot be used: {str(error).splitlines()[0]}") from error


def too_coarse(column: pl.Series) -> float | None:
    """The first time that the column's type need not hold exactly: different ones may have become one."""
    exact = _EXACT.get(type(column.dtype))
    if exact is None:
        return None
    seconds = column.cast(pl.Float64)
    coarse = (seconds.abs() > exact) & _from_seconds(seconds).is_not_null()
    return float(seconds.filter(coarse)[0]) if coarse.any() else None


def is_cut(text: str) -> bool:
    """Whether a number in scientific notation has fewer digits than its magnitude: `1.71498E+12`."""
    return bool(_is_cut(pl.Series([text.strip()])).item())


def combine_notations(kinds: dict[str, str]) -> str:
    """The unit of a log, of its files' notations by name: `AS_GIVEN`, `MICROSECONDS` or `ORDER`.

    Raises:
      ValueError: some files hold numbers and others dates; the message names one of each.
    """
    moments = [name for name, kind in kinds.items() if kind == MOMENT]
    numbers = [name for name, kind in kinds.items() if kind != MOMENT]
    if moments and numbers:
        raise ValueError(
            f"{numbers[0]} holds times as numbers, {moments[0]} as dates: their order cannot be"
            " known. Bring all files to one notation."
        )
    if POSITION in kinds.values():
        return ORDER
    return AS_GIVEN if all(kind == INTEGER for kind in kinds.values()) else MICROSECONDS


def seconds_to_microseconds(seconds: pl.Series) -> pl.Series:
    """Brings whole seconds to the unit of other files' decimals, int64 [rows].

    Raises:
      ValueError: a value is too large to be seconds.
    """
    largest = seconds.abs().max()
    if isinstance(largest, int) and largest > _LARGEST_SECONDS:
        raise ValueError(
            f"holds the time {largest}, which cannot be seconds, while another file has decimal seconds."
            " Bring all files to one notation."
        )
    return seconds * 1_000_000


def _first_kind(text: pl.Series, integers: pl.Series) -> str | None:
    """Whether the first readable value is a number or a date; of a column that is not all integers."""
    is_moment = text.str.contains(r"^\d{4}-\d{2}-\d{2}").fill_null(False)
    is_number = integers.is_not_null() | text.cast(pl.Float64, strict=False).is_finite().fill_null(False)
    first = (is_moment | is_number).arg_max()
    if first is None or not (is_moment[first] or is_number[first]):
        return None
    return "number" if is_number[first] else MOMENT


def _from_seconds(seconds: pl.Series) -> pl.Series:
    usable = seconds.is_finite() & (seconds.abs() <= _LARGEST_SECONDS)
    frame = pl.DataFrame({"seconds": seconds, "usable": usable})
    micros = (pl.col("seconds") * 1e6).round()
    return frame.select(pl.when(pl.col("usable")).then(micros).cast(pl.Int64)).to_series()


def _from_decimals(text: pl.Series) -> pl.Series:
    """Decimal seconds, text without blanks around; those that are cut are not readable."""
    seconds = _from_seconds(text.cast(pl.Float64, strict=False))
    if not text.str.contains_any(["e", "E"]).any():
        return seconds
    return (
        pl.DataFrame({"text": text, "seconds": seconds, "is_cut": _is_cut(text)})
        .select(pl.when(~pl.col("is_cut")).then("seconds"))
        .to_series()
    )


def _is_cut(text: pl.Series) -> pl.Series:
    part = text.str.extract_groups(_SCIENTIFIC).struct
    exponent = part.field("exponent").cast(pl.Int64)
    kept = part.field("decimals").fill_null("").str.len_chars()
    return ((exponent >= _LEAST_EXPONENT_CUT) & (exponent > kept)).fill_null(False)


def _from_format(text: pl.Series, time_format: str) -> pl.Series:
    return _from_temporal(text.str.to_datetime(time_format, time_unit="us", strict=False))


def _from_temporal(column: pl.Series) -> pl.Series:
    return column.cast(pl.Datetime("us", getattr(column.dtype, "time_zone", None))).cast(pl.Int64)


def _from_iso_8601(text: pl.Series) -> pl.Series:
    part = pl.col("part").struct

    def number(name: str) -> pl.Expr:
        return part.field(name).cast(pl.Int64, strict=False).fill_null(0)

    days = part.field("date").str.to_date("%Y-%m-%d", strict=False).cast(pl.Int32).cast(pl.Int64)
    seconds = days * 86_400 + number("hour") * 3_600 + number("minute") * 60 + number("second")
    offset = number("zone_hour") * 3_600 + number("zone_minute") * 60
    # Finer than a microsecond is cut, not rounded: rounding could order two events the wrong way.
    fraction = part.field("fraction").str.pad_end(6, "0").str.slice(0, 6)
    micros = fraction.cast(pl.Int64, strict=False).fill_null(0)
    east = pl.when(part.field("sign") == "-").then(-1).otherwise(1)
    frame = pl.DataFrame({"text": text})
    parts = frame.select(pl.col("text").str.extract_groups(_ISO_8601).alias("part"))
    return parts.select(((seconds - east * offset) * 1_000_000 + micros).cast(pl.Int64)).to_series()

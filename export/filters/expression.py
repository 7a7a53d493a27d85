"""The language of filters: JSON is read once into a checked expression.

    {"category": ["a", "b"], "price": {"lt": 20}, "any": [{"new": true}, {"not": {"brand": "x"}}]}

An object holds where all that stands in it holds. A column is compared with one value, with a list (any of
them), or with an object of operators; `all` and `any` take lists of objects, `not` takes one.
"""

import json
import math
import reprlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from export.store.bundle_errors import FilterError

# What a filter may cost: a comparison is at most one pass over a column.
MOST_COMPARISONS = 32
MOST_VALUES = 1_000
MOST_DEPTH = 8
WORDS = ("all", "any", "not")  # no column has such a name
_BOUNDS = ("lt", "le", "gt", "ge")
_OPERATORS = ("in", "all", *_BOUNDS, "missing")

Value = str | int | float | bool


@dataclass(frozen=True)
class Among:
    """The column has one of some values; of several values in a row, one of them is."""

    column: str
    values: tuple[Value, ...]


@dataclass(frozen=True)
class HasAll:
    """The column of several values has all of these."""

    column: str
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Between:
    """The column's number or time lies between two bounds, each of which may be None."""

    column: str
    low: str | int | float | None = None
    high: str | int | float | None = None
    low_counts: bool = True
    high_counts: bool = True


@dataclass(frozen=True)
class IsMissing:
    """The item has no value in the column."""

    column: str


@dataclass(frozen=True)
class AllOf:
    """Every part holds."""

    parts: tuple["Expression", ...]


@dataclass(frozen=True)
class AnyOf:
    """At least one part holds."""

    parts: tuple["Expression", ...]


@dataclass(frozen=True)
class Not:
    """The part does not hold: also where that is so because a value is missing."""

    part: "Expression"


Comparison = Among | HasAll | Between | IsMissing
Expression = Comparison | AllOf | AnyOf | Not


def parse_filter(value: Any) -> Expression | None:
    """Reads a filter, as `json.loads` gives it; None, or an empty object, is none.

    Raises:
      FilterError: it is not of the language, or larger than it may be; the message names the place.
    """
    if value is None or value == {}:
        return None
    return _Reader().read(value, "filter", 1)


def read_filter(text: str) -> Expression | None:
    """Reads a filter as text, as `parse_filter` does."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FilterError(f"The filter {text!r:.100} is not JSON ({error}).") from error
    return parse_filter(value)


class _Reader:
    """Reads one filter and counts what it costs."""

    def __init__(self) -> None:
        self._comparisons = self._values = 0

    def read(self, value: Any, place: str, depth: int) -> Expression:
        if depth > MOST_DEPTH:
            raise FilterError(f"{_short(place)}: filters are at most {MOST_DEPTH} deep.")
        if not isinstance(value, dict) or not value:
            raise _wrong(place, value, 'an object such as {"category": ["a", "b"]}')
        parts: list[Expression] = []
        for name, one in value.items():
            if not isinstance(name, str):
                raise _wrong(place, name, "a column's name as a string")
            parts += self._read_entry(name, one, f"{place}.{name}", depth)
        return parts[0] if len(parts) == 1 else AllOf(tuple(parts))

    def _read_entry(self, name: str, value: Any, place: str, depth: int) -> list[Expression]:
        if name == "not":
            return [Not(self.read(value, place, depth + 1))]
        if name in ("all", "any"):
            if not isinstance(value, list) or not value:
                raise _wrong(place, value, "a list of objects, at least one")
            parts = tuple(self.read(one, f"{place}[{n}]", depth + 1) for n, one in enumerate(value))
            return [AllOf(parts) if name == "all" else AnyOf(parts)]
        if not isinstance(value, dict):
            values = value if isinstance(value, list) else [value]
            return [self._compared(Among(name, self._checked(values, place)))]
        unknown = [key for key in value if key not in _OPERATORS]
        if unknown or not value:
            got = value if not unknown else unknown[0]
            raise _wrong(place, got, f"one of the operators {', '.join(_OPERATORS)}")
        return list(self._read_operators(name, value, place))

    def _read_operators(self, name: str, value: dict[str, Any], place: str) -> list[Expression]:
        parts: list[Expression] = []
        kinds: tuple[tuple[str, Callable[..., Comparison]], ...] = (("in", Among), ("all", HasAll))
        for operator, kind in kinds:
            if operator in value:
                values = value[operator]
                if not isinstance(values, list):
                    raise _wrong(f"{place}.{operator}", values, "a list of values")
                parts.append(self._compared(kind(name, self._checked(values, f"{place}.{operator}"))))
        bounds = {key: self._checked([value[key]], f"{place}.{key}")[0] for key in _BOUNDS if key in value}
        for one, other in (("lt", "le"), ("gt", "ge")):
            if one in bounds and other in bounds:
                raise FilterError(f"{_short(place)}: has {one} and {other}; give one of them.")
        if bounds:
            between = Between(
                name,
                low=bounds.get("gt", bounds.get("ge")),
                high=bounds.get("lt", bounds.get("le")),
                low_counts="gt" not in bounds,
                high_counts="lt" not in bounds,
            )
            parts.append(self._compared(between))
        if "missing" in value:
            if not isinstance(value["missing"], bool):
                raise _wrong(f"{place}.missing", value["missing"], "true or false")
            is_missing = self._compared(IsMissing(name))
            parts.append(is_missing if value["missing"] else Not(is_missing))
        return parts

    def _compared(self, comparison: Comparison) -> Comparison:
        self._comparisons += 1
        if self._comparisons > MOST_COMPARISONS:
            raise FilterError(
                f"The filter has more than the {MOST_COMPARISONS} comparisons that it may have."
            )
        return comparison

    def _checked(self, values: list[Any], place: str) -> tuple[Value, ...]:
        self._values += len(values)
        if self._values > MOST_VALUES:
            raise FilterError(
                f"The filter has more than the {MOST_VALUES:,} values that it may have; a list of ids goes"
                " into allow or deny."
            )
        if set(map(type, values)) == {str}:  # the usual ones, of which there may be many
            return tuple(values)
        for value in values:
            is_value = isinstance(value, str | int | float)
            if not is_value or (isinstance(value, float) and not math.isfinite(value)):
                raise _wrong(place, value, "a string, a finite number, true or false")
        return tuple(values)


def _wrong(place: str, got: Any, wanted: str) -> FilterError:
    return FilterError(f"{_short(place)}: got {reprlib.repr(got)}; wanted {wanted}.")


def _short(place: str) -> str:
    return place if len(place) <= 200 else f"{place[:100]}...{place[-90:]}"

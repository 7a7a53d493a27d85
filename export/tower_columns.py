"""What a tower reads beside item ids: its columns, and the values of a query, checked.

Nothing here is of TensorFlow: the tower's own graph has the vocabularies.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from export.filters.number_column import seconds_of
from export.store.bundle_errors import BundleError, QueryError
from export.store.descriptions import check, one_of, whole
from export.store.layout import newest, read_tower

TIME = "time"
ID = "id"
_LARGEST = float(np.finfo(np.float32).max)
_KINDS = ("categorical", "multi", "text", "numeric", "embedding", TIME)
_NAME = ("a name", lambda one: isinstance(one, str) and one.isidentifier() and one.isascii())
_REQUIRED = {"name": _NAME, "owner": one_of("user", "event", "request"), "kind": one_of(*_KINDS)}
_OPTIONAL = {
    "size": whole(1, (1 << 31) - 1),
    "length": whole(1, 1 << 16),
    "separator": ("text", lambda one: isinstance(one, str)),
    "values": ("a list of texts", lambda one: isinstance(one, list) and all(isinstance(v, str) for v in one)),
}
# What is asked as `context` are the columns of the request.
ASKED_AS = {"user": "user", "request": "context"}
_WANTED = {
    "categorical": "text, a number, true or false",
    "multi": "a list of texts or numbers, or text",
    "text": "text",
    "numeric": "a finite number that float32 can hold",
    TIME: "whole seconds since 1970, or a time such as 2026-01-31T12:00:00Z",
}

# By the name of an input what is given; of events a list, one for each item of the history; None: missing.
Given = Mapping[str, Any]


@dataclass(frozen=True)
class TowerColumn:
    """A column that a tower reads.

    Attributes:
      name: as users know it.
      owner: "user", "request" or "event".
      kind: "categorical", "multi", "text", "numeric", "embedding" or "time".
      size: embedding: the length of a vector.
      length: multi: so many values are read, the first distinct ones.
      separator: multi: what stands between values where they are text.
      values: some of the vocabulary, the most frequent.
    """

    name: str
    owner: str
    kind: str
    size: int = 0
    length: int = 0
    separator: str = ""
    values: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """What it is called in an example."""
        return f"{self.owner}/{self.name}"

    @property
    def input(self) -> str:
        """What it is called as a tensor."""
        return f"{self.owner}_{self.name}"

    @property
    def width(self) -> int | None:
        """How many values a value has; None: it is one."""
        return {"multi": self.length, "embedding": self.size}.get(self.kind)

    def checked(self, value: Any) -> Any:
        """A value as it is sent: text, a list of texts, a float, a list of floats, or whole seconds.

        Text stands for a number, a vector or a time, too, as in CSV. None: it is missing.

        Raises:
          QueryError: the value is of another type, or out of range.
        """
        if value is None or (isinstance(value, str) and not value):
            return None
        try:
            return _CHECKS[self.kind](self, value)
        except (TypeError, ValueError, OverflowError):
            wanted = _WANTED.get(self.kind) or f"{self.size} finite numbers"
            place = ASKED_AS.get(self.owner, "history")
            raise QueryError(
                f"{place}.{self.name}: got {value!r:.100}; it is {self.kind}, wanted {wanted}."
            ) from None


@dataclass(frozen=True)
class TowerColumns:
    """All columns that a tower reads; none: it reads item ids alone."""

    columns: tuple[TowerColumn, ...] = ()

    @classmethod
    def described(cls, description: Mapping[str, Any], place: str) -> "TowerColumns":
        """The columns in a tower's description, at a place for the message; raises BundleError."""
        columns = []
        for one in description.get("columns", []):
            check(one, f"{place} columns", _REQUIRED, _OPTIONAL)
            values = {name: one[name] for name in (*_REQUIRED, *_OPTIONAL) if name in one}
            column = TowerColumn(**values | {"values": tuple(values.get("values", ()))})
            if column.kind in ("multi", "embedding") and not column.width:
                raise BundleError(f"{place} columns: {column.key} has no length; publish again.")
            columns.append(column)
        return cls(tuple(columns))

    @classmethod
    def newest(cls, bundle: Path | str) -> "TowerColumns":
        """The columns of the newest version of a bundle; raises BundleError where there is none."""
        return newest(Path(bundle), lambda tower: cls.described(read_tower(tower), f"{tower}:"))

    def __bool__(self) -> bool:
        """Whether there is a column."""
        return bool(self.columns)

    def of(self, owner: str) -> dict[str, TowerColumn]:
        """The columns of an owner by name."""
        return {column.name: column for column in self.columns if column.owner == owner}

    def given(
        self,
        user: Mapping[str, Any] | None,
        context: Mapping[str, Any] | None,
        time: Any,
        events: Sequence[Mapping[str, Any] | None],
    ) -> Given:
        """Checks what a query says beside ids.

        Args:
          user: name -> value of the user's columns.
          context: name -> value of the request's.
          time: of the request; None: missing.
          events: of each item of the history what is known of it beside its id; None: nothing.

        Returns:
          What is there by input; empty where nothing is.

        Raises:
          QueryError: a name is unknown, or a value of the wrong type.
        """
        given: dict[str, Any] = {}
        for owner, values in (("user", user), ("request", context)):
            for column, value in self._named(owner, values, ()):
                given[column.input] = value
        if (moment := _checked_time(time, TIME)) is not None and TIME in self.of("request"):
            given[f"request_{TIME}"] = moment
        for place, event in enumerate(events):
            if event is None:
                continue
            found = [
                *self._named("event", event, (ID, TIME)),
                *self._time_of_event(event.get(TIME), place),
            ]
            for column, value in found:
                given.setdefault(column.input, [None] * len(events))[place] = value
        return given

    def _named(self, owner: str, values: Any, others: Sequence[str]) -> list[tuple[TowerColumn, Any]]:
        if values is None:
            return []
        asked = ASKED_AS.get(owner, "history")
        if not isinstance(values, Mapping):
            raise QueryError(f"{asked} is {values!r:.100}; wanted an object of names and values.")
        columns = {name: one for name, one in self.of(owner).items() if one.kind != TIME}
        for name in values:
            if name not in columns and name not in others:
                has = ", ".join(map(repr, [*others, *columns])) or "none"
                raise QueryError(f"{asked} has {name!r:.100}, which the tower does not read; wanted: {has}.")
        checked = ((column, column.checked(values.get(name))) for name, column in columns.items())
        return [(column, value) for column, value in checked if value is not None]

    def _time_of_event(self, value: Any, place: int) -> list[tuple[TowerColumn, Any]]:
        moment = _checked_time(value, f"history.{place}.{TIME}")
        column = self.of("event").get(TIME)
        return [] if column is None or moment is None else [(column, moment)]


NO_COLUMNS = TowerColumns()
NOTHING: Given = {}


def _checked_time(value: Any, place: str) -> int | None:
    """Whole seconds; also where no tower reads them, so that a mistake is one everywhere."""
    if value is None or (isinstance(value, str) and not value):
        return None
    try:
        return _seconds(value)
    except (TypeError, ValueError, OverflowError):
        raise QueryError(f"{place}: got {value!r:.100}; wanted {_WANTED[TIME]}.") from None


def _seconds(value: Any) -> int:
    if isinstance(value, datetime):
        value = value.isoformat()
    if isinstance(value, str) and not value.lstrip("-").isdigit():
        value = seconds_of(value)
    if isinstance(value, bool):
        raise TypeError
    seconds = math.floor(value if not isinstance(value, str) else int(value))
    if not abs(seconds) < 1 << 62:
        raise ValueError
    return seconds


def _text(value: Any) -> str | None:
    if isinstance(value, bool | np.bool_):
        return str(bool(value)).lower()
    if isinstance(value, float | np.floating):  # pandas keeps whole numbers so, where some are missing
        if math.isnan(value):
            return None
        return str(int(value)) if value == int(value) else repr(float(value))
    if isinstance(value, str | int | np.integer):
        return str(value)
    raise TypeError


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float | np.integer | np.floating):
        raise TypeError
    number = float(value)
    if math.isnan(number):
        return None
    if abs(number) > _LARGEST:
        raise ValueError
    return number


def _values(column: TowerColumn, value: Any) -> list[str] | None:
    if isinstance(value, str):
        value = [one.strip() for one in value.split(column.separator)] if column.separator else [value]
    if not isinstance(value, Sequence | np.ndarray):
        raise TypeError
    texts = [_text(one) for one in value if one is not None]
    return list(dict.fromkeys(filter(None, texts)))[: column.length] or None


def _vector(column: TowerColumn, value: Any) -> list[float] | None:
    if isinstance(value, str):
        value = json.loads(value)
    if not isinstance(value, Sequence | np.ndarray) or len(value) != column.size:
        raise ValueError
    numbers = [_number(one) for one in value]
    if None in numbers:
        raise ValueError
    return numbers  # type: ignore[return-value]


def _free_text(_column: TowerColumn, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


_CHECKS = {
    "categorical": lambda _column, value: _text(value),
    "numeric": lambda _column, value: _number(value),
    "multi": _values,
    "embedding": _vector,
    "text": _free_text,
    TIME: lambda _column, value: _seconds(value),
}

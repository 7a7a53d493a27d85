"""Descriptions in JSON are read only if they say what they may say.

A check takes a value and its place in the file, and gives the value or raises BundleError.
"""

import json
import reprlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from export.store import checksums
from export.store.bundle_errors import BundleError

_MOST_BYTES = 1 << 20

Check = Callable[[Any, str], Any]


def read_description(directory: Path, name: str, check: Check) -> dict[str, Any]:
    """Reads a description of a published directory.

    Args:
      directory: that was published.
      name: of the file, relative to it.
      check: what the description must be.

    Raises:
      BundleError: it cannot be read, has changed, or says what it may not say; the message names the place,
        what was got and what was wanted.
    """
    data = checksums.read(directory, name, _MOST_BYTES)
    try:
        return check(json.loads(data), f"{directory / name}:")
    except (ValueError, RecursionError) as error:
        if isinstance(error, BundleError):
            raise
        raise BundleError(f"{directory / name} cannot be read ({error}); publish again.") from error


def whole(low: int, high: int) -> Check:
    """A whole number within bounds."""
    return _holds(
        f"a whole number from {low:,} to {high:,}", lambda value: type(value) is int and low <= value <= high
    )


def number(low: float, high: float) -> Check:
    """A number within bounds."""
    return _holds(
        f"a number from {low:,} to {high:,}",
        lambda value: type(value) in (int, float) and low <= value <= high,
    )


def text(most: int, is_right: Callable[[str], bool] = lambda _: True, wanted: str = "a text") -> Check:
    """A string of at most so many characters."""
    return _holds(
        f"{wanted} of at most {most} characters",
        lambda value: isinstance(value, str) and len(value) <= most and is_right(value),
    )


def one_of(*values: str | int) -> Check:
    """One of some values."""
    return _holds(
        " or ".join(map(repr, values)), lambda value: type(value) is type(values[0]) and value in values
    )


def or_null(check: Check) -> Check:
    """What another check takes, or null."""
    return lambda value, place: None if value is None else check(value, place)


def list_of(check: Check, most: int) -> Check:
    """A list of at most so many values."""
    is_list = _holds(
        f"a list of at most {most:,}", lambda value: isinstance(value, list) and len(value) <= most
    )

    def checked(value: Any, place: str) -> list:
        return [check(one, f"{place}[{i}]") for i, one in enumerate(is_list(value, place))]

    return checked


def mapping(key: Check, check: Check) -> Check:
    """An object with any keys."""

    def checked(value: Any, place: str) -> dict[str, Any]:
        entries = _is_object(value, place).items()
        return {key(name, f"{place} key"): check(one, f"{place} {name!r:.50}") for name, one in entries}

    return checked


def record(required: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    """An object with these keys; what else is in it is left out."""
    optional = optional or {}

    def checked(value: Any, place: str) -> dict[str, Any]:
        _is_object(value, place)
        missing = [name for name in required if name not in value]
        if missing:
            raise BundleError(f"{place} {missing[0]!r} is missing; publish again.")
        checks = {**required, **optional}
        return {name: checks[name](one, f"{place} {name}") for name, one in value.items() if name in checks}

    return checked


def _holds(wanted: str, is_right: Callable[[Any], bool]) -> Check:
    def checked(value: Any, place: str) -> Any:
        if not is_right(value):
            raise BundleError(f"{place} is {reprlib.repr(value)}; wanted {wanted}. Publish again.")
        return value

    return checked


_is_object = _holds("an object", lambda value: isinstance(value, dict))

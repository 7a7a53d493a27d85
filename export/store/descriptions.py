"""Descriptions in JSON are read only if they say what they may say.

A check is what a value must be, in words, and whether one is that.
"""

import json
import reprlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from export.store import checksums
from export.store.bundle_errors import BundleError

_MOST_BYTES = 1 << 20

Check = tuple[str, Callable[[Any], bool]]


def whole(low: int, high: int) -> Check:
    """A whole number within bounds."""
    return f"a whole number from {low:,} to {high:,}", lambda one: type(one) is int and low <= one <= high


def share(one: Any) -> bool:
    """Whether a value is a number from 0 to 1."""
    return type(one) in (int, float) and 0 <= one <= 1


def one_of(*values: str | int) -> Check:
    """One of some values."""
    return " or ".join(map(repr, values)), lambda one: type(one) is type(values[0]) and one in values


POSITIVE = whole(1, (1 << 31) - 1)
FINGERPRINT = (
    "letters and digits, at most 64",
    lambda one: isinstance(one, str) and len(one) <= 64 and one.isalnum() and one.isascii(),
)


def read_description(
    directory: Path, name: str, required: Mapping[str, Check], optional: Mapping[str, Check] | None = None
) -> dict[str, Any]:
    """Reads a file of a published directory; keys without a check may say anything.

    Raises:
      BundleError: it cannot be read, has changed, or says what it may not say; the message names the place,
        what was got and what was wanted.
    """
    data = checksums.read(directory, name, _MOST_BYTES)
    try:
        description = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{directory / name} cannot be read ({error}); publish again.") from error
    check(description, f"{directory / name}:", required, optional or {})
    return description


def check(value: Any, place: str, required: Mapping[str, Check], optional: Mapping[str, Check]) -> None:
    """Raises BundleError unless a value, at a place for the message, is an object that passes the checks."""
    if not isinstance(value, dict):
        raise BundleError(f"{place} is {reprlib.repr(value)}; wanted an object. Publish again.")
    for name, (wanted, is_right) in {**required, **optional}.items():
        if name not in value:
            if name in required:
                raise BundleError(f"{place} {name!r} is missing; publish again.")
        elif not is_right(value[name]):
            got = reprlib.repr(value[name])
            raise BundleError(f"{place} {name} is {got}; wanted {wanted}. Publish again.")

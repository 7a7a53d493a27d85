"""What is asked for -> a protocol: which settings act with which, and where `time` cuts. No TensorFlow."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

import numpy as np
import polars as pl

from causerec_tf.data.logs import times
from causerec_tf.data.logs.time_units import describe_span, moment_of
from causerec_tf.data.splits.filters import Filters
from causerec_tf.data.splits.protocols import (
    NAMES,
    TEST_TARGETS,
    USERS,
    Everything,
    Given,
    HeldOutUsers,
    LeaveOneOut,
    Protocol,
    TimeCut,
)
from causerec_tf.errors import InputError

_SHARE = re.compile(r"q(\d*\.\d+)")
_DEFAULT_VALIDATION = "q.9"
_UNCUT: dict[str, type[Protocol]] = {one.name: one for one in (HeldOutUsers, LeaveOneOut, Given, Everything)}


@dataclass(frozen=True)
class TimesOfLog:
    """What of the times of a log decides where it is cut.

    Attributes:
      ends: of a time t or None, the earliest and the latest time of the events before t, or of all.
      at_rank: of a share q, above 0 and below 1, and of t, the time of event number ceil(q n) in the order of
        time, n being the number of the events before t, or of all.
      unit: see `interactions.Log`.
    """

    ends: Callable[[int | None], tuple[int, int]]
    at_rank: Callable[[Fraction, int | None], int]
    unit: str


def times_of(moments: np.ndarray, unit: str) -> TimesOfLog:
    """Of the times of all events, int64 [events]."""

    def counted(before: int | None) -> np.ndarray:
        return moments if before is None else moments[moments < before]

    def ends(before: int | None) -> tuple[int, int]:
        return int(counted(before).min()), int(counted(before).max())

    def at_rank(share: Fraction, before: int | None) -> int:
        rank = rank_of(share, len(counted(before)))
        return int(np.partition(counted(before), rank - 1)[rank - 1])

    return TimesOfLog(ends, at_rank, unit)


def rank_of(share: Fraction, num_events: int) -> int:
    """ceil(q n), from 1."""
    return -(-share.numerator * num_events // share.denominator)


@dataclass(frozen=True)
class ProtocolSettings:
    """What is asked for. A setting that is None was not given.

    Attributes:
      name: one of `protocols.NAMES`.
      validation_from: of `time`: where validation begins: a date, a number in the unit of the log, or a share
        such as `q.9` of the events before `test_from`. Events of the date or number are validated on; those
        of the time at which the share is reached are not. None: `q.9`.
      test_from: where test begins, of all events.
      test_target: of `time`: one of `protocols.TEST_TARGETS`; None: `all`.
    """

    name: str = USERS
    validation_from: str | None = None
    test_from: str | None = None
    test_target: str | None = None

    def check(self, filters: Filters, split_seed: int, *, has_test_lists: bool) -> None:
        """Checks what goes together.

        Args:
          filters: of the preparation.
          split_seed: of the preparation.
          has_test_lists: whether published test lists are given.

        Raises:
          InputError: a setting cannot be, is missing, or has no effect with the protocol.
        """
        if self.name not in NAMES:
            raise InputError(f"protocol={self.name}: wanted one of {', '.join(NAMES)}.")
        for name, value, acts_with in (
            ("validation_from", self.validation_from, TimeCut.name),
            ("test_from", self.test_from, TimeCut.name),
            ("test_target", self.test_target, TimeCut.name),
            ("given_test", "..." if has_test_lists else None, Given.name),
            ("split_seed", split_seed or None, USERS),
            ("training_share", None if filters.training_share == 1 else filters.training_share, USERS),
        ):
            if value is not None and self.name != acts_with:
                raise InputError(
                    f"{name}={value} has no effect with protocol={self.name}: it acts with"
                    f" protocol={acts_with}. Leave it out, or take that."
                )
        if self.name == TimeCut.name and self.test_from is None:
            raise InputError(
                "protocol=time needs test_from: a date, a number in the unit of the log's times, or a share"
                " such as q.9."
            )
        if self.name == Given.name and not has_test_lists:
            raise InputError("protocol=given needs given_test: the published test lists.")
        if self.test_target not in (None, *TEST_TARGETS):
            raise InputError(f"test_target={self.test_target}: wanted one of {', '.join(TEST_TARGETS)}.")
        for name in ("validation_from", "test_from"):
            _kind_of(name, getattr(self, name) or _DEFAULT_VALIDATION)

    def resolve(self, log: Callable[[], TimesOfLog]) -> Protocol:
        """The protocol, once it has passed `check`.

        Args:
          log: gives the times of the events that the filters left; called where they decide.

        Raises:
          InputError: a cut leaves nothing on one of its sides.
        """
        if self.name != TimeCut.name:
            return _UNCUT[self.name]()
        assert self.test_from is not None
        found, asked = log(), self.validation_from or _DEFAULT_VALIDATION
        test_from = _cut("test_from", self.test_from, found, None)
        validation_from = _cut("validation_from", asked, found, test_from)
        return TimeCut(
            validation_from, test_from, self.test_target or TEST_TARGETS[0], (asked, self.test_from)
        )


def _kind_of(name: str, text: str) -> Fraction | Decimal | str:
    """A share, a number, or a date as its text."""
    if share := _SHARE.fullmatch(text):
        if not 0 < Fraction(share[1]) < 1:
            raise InputError(f"{name}={text}: wanted a share above q0 and below q1, such as q.9.")
        return Fraction(share[1])
    if re.fullmatch(r"-?\d+(\.\d+)?", text):
        return Decimal(text)
    if times.parse_times(pl.Series([text]), times.MOMENT)[0].null_count():
        raise InputError(
            f"{name}={text}: wanted a date such as 2024-05-31 or 2024-05-31T18:00, a number in the unit of"
            " the log's times, or a share such as q.9."
        )
    return text


def _cut(name: str, text: str, log: TimesOfLog, end: int | None) -> int:
    """The first time behind a cut of the events before `end`, or of all."""
    kind = _kind_of(name, text)
    first, last = log.ends(end)
    if isinstance(kind, Fraction):
        cut = log.at_rank(kind, end) + 1  # events of that time lie before the cut
    elif isinstance(kind, Decimal):
        # Decimals and dates became microseconds; a number then means seconds, as decimals do.
        scaled = kind * 1_000_000 if log.unit == times.MICROSECONDS else kind
        cut = int(scaled.to_integral_value("ROUND_CEILING"))
    else:
        cut = moment_of(text, last, log.unit, name)
    if first < cut <= last:
        return cut
    where = "before it" if cut <= first else "from it on"
    among = "" if end is None else " and before test_from"
    raise InputError(
        f"{name}={text} leaves no event {where}{among}: the times of the log run from"
        f" {describe_span(first, last, log.unit)}. Wanted a cut between them."
    )

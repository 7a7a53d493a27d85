"""Protocols: who is trained on, who is measured on, what is history and what target. No TensorFlow.

Whatever the protocol, a record holds the first events of one user, and a user has at most one record in each
split. So a protocol says how long the records of each user are, and how many of their events are history.
`protocol_settings` makes a protocol of what is asked for.

Shapes: U users.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from causerec_tf.data.splits.user_split import SPLITS

USERS = "users"
EVERYTHING = "none"
# What a model is trained on: the records of training, or every event before the targets of the test split.
TRAIN_ON = ("train", "before_test")
TEST_TARGETS = ("all", "last")


@dataclass(frozen=True)
class UserEvents:
    """What a protocol looks at: users and the times of their events, all in order.

    Attributes:
      times: int64 [events], ascending within a user.
      row_splits: int64 [U + 1]; user `u` owns the events from `row_splits[u]` on, up to but without
        `row_splits[u + 1]`.
      place: int64 [U], position in `SPLITS` that the user's id decides.
      num_test: int64 [U], how many of the last events are of published test lists.
    """

    times: np.ndarray
    row_splits: np.ndarray
    place: np.ndarray
    num_test: np.ndarray

    @property
    def counts(self) -> np.ndarray:
        """The number of events of each user, int64 [U]."""
        return np.diff(self.row_splits)

    def before(self, moment: int) -> np.ndarray:
        """The number of events of each user before a time, int64 [U]."""
        so_far = np.concatenate([[0], np.cumsum(self.times < moment)])
        return so_far[self.row_splits[1:]] - so_far[self.row_splits[:-1]]


@dataclass(frozen=True)
class SplitRecords:
    """The records of a split.

    Attributes:
      users: int64 [records], whose they are, ascending.
      lengths: int64 [records], how many events each holds: the first of its user.
      num_history: int64 [records], how many of those are history; the targets are the rest. None: the reader
        cuts, as `holdout` does for the protocol `users`.
      num_before_test: int64 [records], how many of those are trained on where a model is trained on all that
        lies before the targets of the test split; each user has them in one record, the others have 0. None:
        nothing is trained on so.
    """

    users: np.ndarray
    lengths: np.ndarray
    num_history: np.ndarray | None = None
    num_before_test: np.ndarray | None = None


class Protocol:
    """What every protocol says; `name` is as `--protocol` has it."""

    name: ClassVar[str]

    def description(self) -> dict[str, Any]:
        """What `dataset.json` says of it, and records."""
        return {"name": self.name}

    def records(self, users: UserEvents) -> dict[str, SplitRecords]:
        """The records of each of `SPLITS`."""
        raise NotImplementedError


@dataclass(frozen=True)
class HeldOutUsers(Protocol):
    """`users`: a user is of one split, by the id; see `user_split`. The paper's protocol.

    The reader takes the first 80 % of an evaluation user's events for history; see `holdout`.
    """

    name: ClassVar[str] = USERS

    def records(self, users: UserEvents) -> dict[str, SplitRecords]:
        """Whole sequences, each in the split of its user."""
        found = {}
        for place, split in enumerate(SPLITS):
            members = np.flatnonzero(users.place == place)
            found[split] = SplitRecords(members, users.counts[members])
        return found


@dataclass(frozen=True)
class LeaveOneOut(Protocol):
    """`leave_one_out`: of n >= 3 events the last is the target of test, the one before that of validation.

    Training has the first n - 2. A user with fewer than three events is in training only.
    """

    name: ClassVar[str] = "leave_one_out"

    def records(self, users: UserEvents) -> dict[str, SplitRecords]:
        """Of n >= 3 events records of n - 2, n - 1 and n."""
        counts = users.counts
        held_out = np.where(counts >= 3, 1, 0)
        return _records(
            train=counts - 2 * held_out,
            validation=(held_out * (counts - 1), counts - 2),
            test=(held_out * counts, counts - 1),
            before_test=counts - held_out,
        )


@dataclass(frozen=True)
class TimeCut(Protocol):
    """`time`: what happens from a moment on is tested, what happens before it is known.

    Training has the events before `validation_from`; validation lies between it and `test_from`. With
    `test_target="all"` the history is what comes before the cut and the targets are all events after it. With
    "last" the target is a user's last event, if it lies after the cut, and the history all before that.

    Attributes:
      validation_from: the first time that is validated on.
      test_from: the first time that is tested on.
      test_target: one of `TEST_TARGETS`.
      asked: what was asked for, for people: `validation_from` and `test_from` as text.
    """

    validation_from: int
    test_from: int
    test_target: str
    asked: tuple[str, str]
    name: ClassVar[str] = "time"

    def description(self) -> dict[str, Any]:
        """The cuts as asked for and as they are."""
        return {
            "name": self.name,
            "test_target": self.test_target,
            "validation_from": self.validation_from,
            "test_from": self.test_from,
            "validation_from_asked": self.asked[0],
            "test_from_asked": self.asked[1],
        }

    def records(self, users: UserEvents) -> dict[str, SplitRecords]:
        """For validation and test a record of each user with an event between the cuts or after them."""
        train, before_test, counts = (
            users.before(self.validation_from),
            users.before(self.test_from),
            users.counts,
        )
        validation_history, test_history = train, before_test
        if self.test_target == "last":
            validation_history, test_history = before_test - 1, counts - 1
        return _records(
            train=train,
            validation=(np.where(before_test > train, before_test, 0), validation_history),
            test=(np.where(counts > before_test, counts, 0), test_history),
            before_test=before_test,
        )


@dataclass(frozen=True)
class Given(Protocol):
    """`given`: published training and test lists, one after the other.

    Test has the training list as history and the test list as targets. Of a training list of n >= 3 events,
    training has the first `int(0.9 n)`, and validation the others as targets; of a shorter one it has all.
    """

    name: ClassVar[str] = "given"

    def records(self, users: UserEvents) -> dict[str, SplitRecords]:
        """For validation a record of each user with three training events or more."""
        listed = users.counts - users.num_test
        is_cut = listed >= 3
        # In integers: 0.9 * n in floating point falls below the whole number for some n.
        train = np.where(is_cut, 9 * listed // 10, listed)
        return _records(
            train=train,
            validation=(np.where(is_cut, listed, 0), train),
            test=(np.where(users.num_test > 0, users.counts, 0), listed),
            before_test=listed,
        )


@dataclass(frozen=True)
class Everything(Protocol):
    """`none`: everything is trained on, for the model that is shipped; nothing is measured."""

    name: ClassVar[str] = EVERYTHING

    def records(self, users: UserEvents) -> dict[str, SplitRecords]:
        """Whole sequences, all in training."""
        nothing = np.zeros_like(users.counts)
        return _records(
            train=users.counts,
            validation=(nothing, nothing),
            test=(nothing, nothing),
            before_test=users.counts,
        )


NAMES = tuple(one.name for one in (HeldOutUsers, LeaveOneOut, TimeCut, Given, Everything))

_ALL_AFTER = ("the items of a user before the cut", "the distinct items after it")
_WORDS = {
    USERS: ("first int(0.8 n) items of an evaluation user", "the distinct items after them"),
    "leave_one_out": ("all items of a user but the last; for validation but the last two", "the next item"),
    "time_all": _ALL_AFTER,
    "time_last": ("all items of a user before the last, which lies after the cut", "the last item"),
    "given": ("the published training list of a user", "the distinct items of the test list"),
    EVERYTHING: ("none", "none"),
}


def label(description: Mapping[str, Any]) -> str:
    """A protocol's name with what makes it another one, such as `time_last`, by its `description`."""
    name = description["name"]
    return f"{name}_{description['test_target']}" if name == TimeCut.name else name


def words(description: Mapping[str, Any]) -> dict[str, str]:
    """What records say of a protocol's history and targets, by its `description`."""
    return dict(zip(("history", "targets"), _WORDS[label(description)], strict=True))


def _records(
    *,
    train: np.ndarray,
    validation: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    before_test: np.ndarray,
) -> dict[str, SplitRecords]:
    """Records by their lengths, 0 for none.

    Args:
      train: int64 [U], lengths; all of their events are history.
      validation: lengths and the number of events that are history, int64 [U] each.
      test: the same.
      before_test: int64 [U], how many events lie before the targets of the test split.
    """
    by_split = {"train": (train, train), "validation": validation, "test": test}
    left = before_test.copy()
    found = {}
    for split in reversed(SPLITS):  # the later record of a user is the longer one
        lengths, num_history = by_split[split]
        users = np.flatnonzero(lengths > 0)
        found[split] = SplitRecords(users, lengths[users], num_history[users], left[users])
        left[users] = 0
    return {split: found[split] for split in SPLITS}

"""Protocols: who is trained on, who is measured on, what is history and what target. No TensorFlow.

Whatever the protocol, a record holds the first events of one user, and a user has at most one record in each
split. So a protocol says how long the records of each user are, and how many of their events are history.

Shapes: U users.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from causerec_tf.data.user_split import SPLITS

USERS = "users"
# What a model is trained on: the records of training, or every event before the targets of the test split.
TRAIN_ON = ("train", "before_test")


@dataclass(frozen=True)
class UserEvents:
    """What a protocol looks at: users and the times of their events, all in order.

    Attributes:
      times: int64 [events], ascending within a user.
      row_splits: int64 [U + 1]; user `u` owns the events from `row_splits[u]` on, up to but without
        `row_splits[u + 1]`.
      place: int64 [U], position in `SPLITS` that the user's id decides.
    """

    times: np.ndarray
    row_splits: np.ndarray
    place: np.ndarray

    @property
    def counts(self) -> np.ndarray:
        """The number of events of each user, int64 [U]."""
        return np.diff(self.row_splits)


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
    """What every protocol says.

    Attributes:
      name: as `--protocol` has it.
      history: of whom it is asked what comes next, and what of it is history, in words.
      targets: what must be found, in words.
    """

    name: ClassVar[str]
    history: ClassVar[str]
    targets: ClassVar[str]

    @property
    def label(self) -> str:
        """The name with what makes it another protocol, such as `time_last`."""
        return self.name

    def description(self) -> dict[str, Any]:
        """What `dataset.json` says of it."""
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
    history: ClassVar[str] = "first int(0.8 n) items of an evaluation user"
    targets: ClassVar[str] = "the distinct items after them"

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

    Training has the first n - 2. A user with fewer than three events is trained on alone.
    """

    name: ClassVar[str] = "leave_one_out"
    history: ClassVar[str] = "all items of a user but the last of test and, for validation, the one before it"
    targets: ClassVar[str] = "the item after them"

    def records(self, users: UserEvents) -> dict[str, SplitRecords]:
        """For n >= 3 events records of n - 2, n - 1 and n events."""
        counts = users.counts
        held_out = np.where(counts >= 3, 1, 0)
        return _records(
            train=counts - 2 * held_out,
            validation=(held_out * (counts - 1), counts - 2),
            test=(held_out * counts, counts - 1),
            before_test=counts - held_out,
        )


PROTOCOLS: tuple[type[Protocol], ...] = (HeldOutUsers, LeaveOneOut)
NAMES = tuple(protocol.name for protocol in PROTOCOLS)


def named(name: str) -> Protocol:
    """The protocol of one of `NAMES`."""
    return PROTOCOLS[NAMES.index(name)]()


def evaluation_words(description: Mapping[str, Any]) -> dict[str, str]:
    """What records say of the history and the targets, by what `dataset.json` says of the protocol."""
    protocol = PROTOCOLS[NAMES.index(description["name"])]
    return {"history": protocol.history, "targets": protocol.targets}


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
    for split in reversed(SPLITS):  # the latest record of a user is the longest
        lengths, num_history = by_split[split]
        users = np.flatnonzero(lengths > 0)
        found[split] = SplitRecords(users, lengths[users], num_history[users], left[users])
        left[users] = 0
    return {split: found[split] for split in SPLITS}

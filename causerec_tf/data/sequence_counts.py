"""What `dataset.json` counts, of whole sequences or of parts that are added up. No TensorFlow here."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from causerec_tf.data.interactions import SplitSequences
from causerec_tf.data.user_split import SPLITS


@dataclass(frozen=True)
class Tally:
    """Counts of some users.

    Attributes:
      users: how many.
      interactions: their events.
      repeats: events that have user, item and time of an earlier one.
      windows: pairs of a history and its target.
      evaluation_users: users with events enough for a history and a target.
      first_time: of their events, as the dataset has it, like `last_time`; None without users.
    """

    users: int = 0
    interactions: int = 0
    repeats: int = 0
    windows: int = 0
    evaluation_users: int = 0
    first_time: int | None = None
    last_time: int | None = None


_COUNTS = ("users", "interactions", "repeats", "windows", "evaluation_users")


def tally_by_split(sequences: SplitSequences) -> dict[str, Tally]:
    """Counts the users of each split."""
    lengths = np.diff(sequences.row_splits)
    repeats = _repeats(sequences)
    first, last = sequences.times[sequences.row_splits[:-1]], sequences.times[sequences.row_splits[1:] - 1]
    tallies = {}
    for index, split in enumerate(SPLITS):
        members = sequences.split == index
        users = int(members.sum())
        tallies[split] = Tally(
            users=users,
            interactions=int(lengths[members].sum()),
            repeats=int(repeats[members].sum()),
            windows=int((lengths[members] - 1).sum()),
            evaluation_users=int((lengths[members] >= 2).sum()),
            first_time=int(first[members].min()) if users else None,
            last_time=int(last[members].max()) if users else None,
        )
    return tallies


def add_up(tallies: Iterable[Tally]) -> Tally:
    """The counts of all together, of different users each."""
    parts = list(tallies)
    with_users = [part for part in parts if part.users]
    return Tally(
        **{name: sum(getattr(part, name) for part in parts) for name in _COUNTS},
        first_time=min((part.first_time for part in with_users), default=None),  # type: ignore[type-var]
        last_time=max((part.last_time for part in with_users), default=None),  # type: ignore[type-var]
    )


def describe_counts(tallies: Mapping[str, Tally], num_items: Mapping[str, int]) -> dict[str, Any]:
    """What `dataset.json` says of the tallies of each of `SPLITS`, and of the items that occur in each."""

    def of(name: str, splits: Iterable[str] = SPLITS) -> dict[str, int]:
        return {split: getattr(tallies[split], name) for split in splits}

    together = add_up(tallies.values())
    return {
        "counts": {
            "users": of("users"),
            "interactions": of("interactions"),
            "repeats": of("repeats"),
            "items": dict(num_items),
            "training_windows": tallies["train"].windows,
            "evaluation_users": of("evaluation_users", SPLITS[1:]),
        },
        "first_time": together.first_time,
        "last_time": together.last_time,
    }


def _repeats(sequences: SplitSequences) -> np.ndarray:
    """How many events of each user have item and time of an earlier one, int64 [users]."""
    users = np.repeat(np.arange(len(sequences.user_ids)), np.diff(sequences.row_splits))
    # Events of one user and time lie side by side; most stand alone, and need not be compared.
    tied = (users[1:] == users[:-1]) & (sequences.times[1:] == sequences.times[:-1])
    is_tied = np.append(tied, False) | np.insert(tied, 0, False)
    events = pl.DataFrame(
        {"user": users[is_tied], "time": sequences.times[is_tied], "item": sequences.items[is_tied]}
    )
    is_repeat = ~events.select(pl.struct(pl.all()).is_first_distinct()).to_series().to_numpy()
    return np.bincount(users[is_tied][is_repeat], minlength=len(sequences.user_ids))

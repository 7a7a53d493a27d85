"""Which events of a log go into a dataset."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import polars as pl

from causerec_tf.data.splits.text_codes import text_codes
from causerec_tf.data.splits.user_split import is_shared
from causerec_tf.errors import InputError


@dataclass(frozen=True)
class Filters:
    """Which events of a log go into a dataset, in the order in which it is settled.

    Attributes:
      min_user_count: least number of events of a user; see `core_filter`.
      min_item_count: least number of events of an item.
      max_user_count: so many events of a user, the last; None: all. See `keep_last`.
      training_share: this share of the training users; see `share_training_users`.
    """

    min_user_count: int = 1
    min_item_count: int = 1
    max_user_count: int | None = None
    training_share: float = 1.0

    def check(self) -> None:
        """Raises an InputError where a number makes no sense."""
        for name in ("min_user_count", "min_item_count"):
            if getattr(self, name) < 1:
                raise InputError(
                    f"{name} is {getattr(self, name)}; it must be at least 1, which filters nothing."
                )
        if self.max_user_count is not None and self.max_user_count < 1:
            raise InputError(f"max_user_count is {self.max_user_count}; it must be at least 1.")
        if not 0 < self.training_share <= 1:
            raise InputError(f"training_share is {self.training_share}; it must be above 0 and at most 1.")

    def description(self) -> dict[str, float]:
        """What `dataset.json` says of them."""
        used: dict[str, float] = {
            "min_user_count": self.min_user_count,
            "min_item_count": self.min_item_count,
        }
        if self.max_user_count is not None:
            used["max_user_count"] = self.max_user_count
        if self.training_share < 1:
            used["training_share"] = self.training_share
        return used


def apply_filters(events: pl.DataFrame, filters: Filters, split_seed: int) -> pl.DataFrame:
    """The events, with columns `user`, `item` and `time`, that the filters keep, in the order of the log.

    Raises:
      InputError: nothing is left, or a number makes no sense.
    """
    filters.check()
    events = core_filter(events, min_user_count=filters.min_user_count, min_item_count=filters.min_item_count)
    if filters.max_user_count is not None:
        events = keep_last(events, filters.max_user_count)
    return share_training_users(events, filters.training_share, split_seed)


def core_filter(events: pl.DataFrame, *, min_user_count: int = 1, min_item_count: int = 1) -> pl.DataFrame:
    """Drops rare users and items until every one that is left has enough events left; repeats count.

    Raises:
      InputError: nothing is left.
    """
    if min_user_count == 1 and min_item_count == 1:
        return events
    users, items = text_codes(events["user"])[1], text_codes(events["item"])[1]
    kept = np.arange(len(events), dtype=np.uint32)
    while True:
        enough = (np.bincount(users[kept])[users[kept]] >= min_user_count) & (
            np.bincount(items[kept])[items[kept]] >= min_item_count
        )
        if enough.all():
            return events[kept]
        kept = kept[enough]
        if not len(kept):
            raise nothing_left(len(events), min_user_count, min_item_count)


def nothing_left(num_events: int, min_user_count: int, min_item_count: int) -> InputError:
    """The error of filters that leave no event."""
    return InputError(
        f"no user is left of {num_events} interactions after the filters"
        f" min_user_count={min_user_count}, min_item_count={min_item_count}. Lower them."
    )


def keep_last(events: pl.DataFrame, max_user_count: int) -> pl.DataFrame:
    """Keeps so many of each user's events, the last in time; of one time, the last of the log."""
    users = text_codes(events["user"])[1]
    columns = [events["time"].to_numpy(), users]
    if "is_test" in events.columns:  # published test lists come behind the training lists
        columns.insert(1, events["is_test"].to_numpy())
    order = np.lexsort(columns)
    ends = np.cumsum(np.bincount(users))[users[order]]
    kept = order[ends - np.arange(len(order)) <= max_user_count]
    return events[np.sort(kept)]


def share_training_users(events: pl.DataFrame, share: float, split_seed: int) -> pl.DataFrame:
    """Drops training users so that about this share of them is left; the other splits stay whole.

    A user stays by its id and the seed alone, so that a smaller share is a subset of a larger one. The share,
    above 0 and at most 1, is taken as the decimal number that it is written as.

    Raises:
      InputError: the share leaves no user.
    """
    kept = drop_unshared_users(events, share, split_seed)
    if not len(kept):
        raise no_shared_user(share)
    return kept


def drop_unshared_users(events: pl.DataFrame, share: float, split_seed: int) -> pl.DataFrame:
    """`share_training_users` of some of the users, of whom none may be left."""
    if share == 1:
        return events
    exact = Fraction(repr(float(share)))
    users = events["user"].unique()
    kept = [user for user in users if is_shared(user, split_seed, exact)]
    return events.filter(pl.col("user").is_in(kept))


def no_shared_user(share: float) -> InputError:
    """The error of a share that leaves no user."""
    return InputError(f"no user is left with training_share={share}. Raise it.")

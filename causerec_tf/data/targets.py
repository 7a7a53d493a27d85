"""Targets of one's own: whom to measure on what, beside histories from a dataset or from elsewhere."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from causerec_tf.data.holdout import EvaluationUsers, last_items
from causerec_tf.data.ragged import ItemLists, row_splits
from causerec_tf.data.sequences import SPLITS, Dataset
from causerec_tf.errors import InputError


@dataclass(frozen=True)
class OwnTargets:
    """Users to measure.

    Attributes:
      users: those with a history and a target.
      without_history: how many users of the targets have no history, and are left out.
      unknown_items: how many targets of the others are no items of the dataset, and are left out.
    """

    users: EvaluationUsers
    without_history: int
    unknown_items: int


def whole_histories(dataset: Dataset) -> tuple[np.ndarray, ItemLists]:
    """All events of all users of a dataset, whatever split they are in: object (str) [U], and their items."""
    splits = [dataset.read(split) for split in SPLITS]
    lengths = np.concatenate([np.diff(one.row_splits) for one in splits])
    items = np.concatenate([one.items for one in splits])
    return np.concatenate([one.user_ids for one in splits]), ItemLists(items, row_splits(lengths))


def known_items(histories: list[list[str]], item_ids: list[str]) -> ItemLists:
    """Histories of item ids, oldest first, as items of a dataset; what it does not have is left out."""
    index = {item_id: number for number, item_id in enumerate(item_ids, start=1)}
    known = [[index[item] for item in history if item in index] for history in histories]
    items = np.array([item for history in known for item in history], np.int32)
    return ItemLists(items, row_splits(np.array([len(history) for history in known], np.int64)))


def own_targets(
    targets: pl.DataFrame, user_ids: np.ndarray, histories: ItemLists, item_ids: list[str], max_history: int
) -> OwnTargets:
    """Puts targets and histories together.

    Args:
      targets: columns `user` and `item` (text), one target a row.
      user_ids: object (str) [U], whose the histories are; of several of one user the last counts.
      histories: of these users, oldest item first.
      item_ids: of the dataset; item 1 is the first.
      max_history: number of items of a history that the tower reads.

    Raises:
      InputError: nothing is left to measure.
    """
    has_history = np.diff(histories.row_splits) > 0
    rows = pl.DataFrame({"user": user_ids[has_history].tolist(), "row": np.flatnonzero(has_history)})
    rows = rows.unique("user", keep="last")
    items = pl.DataFrame({"item": item_ids, "index": np.arange(1, len(item_ids) + 1, dtype=np.int32)})
    found = targets.select("user", "item").join(rows, on="user", how="left", maintain_order="left")
    without_history = found.filter(pl.col("row").is_null())["user"].n_unique()
    found = found.drop_nulls("row").join(items, on="item", how="left", maintain_order="left")
    known = found.drop_nulls("index").unique(["row", "index"], keep="first", maintain_order=True)
    if known.is_empty():
        num_users = targets["user"].n_unique()
        raise InputError(
            f"nothing to measure: of {num_users:,} users with targets {without_history:,} have no history,"
            f" and all {len(found):,} targets of the others are no items of the dataset. Wanted ids as they"
            " are spelt in its log."
        )
    known = known.sort("row", maintain_order=True)
    places, counts = np.unique(known["row"].to_numpy(), return_counts=True)
    seen = histories.take(places)
    users = EvaluationUsers(
        user_ids=user_ids[places],
        history=last_items(seen, max_history),
        seen=seen,
        targets=ItemLists(known["index"].to_numpy(), row_splits(counts)),
    )
    return OwnTargets(users, without_history, found["index"].null_count())

"""Which items are cold, which events go with them, and what content alone recommends."""

import numpy as np
import polars as pl

K = 50
ITEMS_A_STRATUM = 10


def draw_cold(by_popularity: list[str], seed: int) -> set[str]:
    """One of every ten items of neighbouring popularity."""
    rng = np.random.default_rng(seed)
    starts = range(0, len(by_popularity), ITEMS_A_STRATUM)
    strata = (by_popularity[start : start + ITEMS_A_STRATUM] for start in starts)
    return {stratum[rng.integers(len(stratum))] for stratum in strata if len(stratum) == ITEMS_A_STRATUM}


def without_cold(log: pl.DataFrame, cold: set[str], measured_on: str) -> pl.DataFrame:
    """The log without the events of cold items, but for those of the users that are measured."""
    from causerec_tf.data.splits.user_split import SPLITS, place_users

    users = log["user"].unique(maintain_order=True)
    splits, _ = place_users(users.to_list(), 0, 1)
    measured = users.filter(pl.Series(splits == SPLITS.index(measured_on)))
    return log.filter(~pl.col("item").is_in(sorted(cold)) | pl.col("user").is_in(measured.to_list()))


def rare_half(counts: np.ndarray) -> np.ndarray:
    """Which trained items are among the half with the fewest events, bool [V + 1]."""
    trained = np.flatnonzero(counts) + 1  # by falling frequency
    is_rare = np.zeros(len(counts) + 1, bool)
    is_rare[trained[len(trained) // 2 :]] = True
    return is_rare


def content_lists(dataset, users) -> np.ndarray:
    """The 50 items whose values are nearest to the mean of the history's, int32 [users, 50]."""
    values = dataset.item_features()["attributes"]
    (column,) = dataset.fitted_columns("item")
    has = np.zeros([len(values), column.num_values + 2], np.float32)
    np.put_along_axis(has, values, 1.0, axis=1)
    has[:, :2] = 0  # missing, unknown
    has /= np.maximum(np.linalg.norm(has, axis=1, keepdims=True), 1e-9)
    # Many items have the same values; by their numbers the popular ones would come first.
    ties = np.random.default_rng(0).random(len(has) - 1, np.float32) * 1e-5
    lists = []
    for start in range(0, len(users), 256):
        history_BL = users.history[start : start + 256]
        asked = has[history_BL].sum(axis=1)  # as long as the mean or longer: the order is the same
        scores = asked @ has[1:].T + ties
        lists.append(1 + np.argsort(-scores, axis=1, kind="stable")[:, :K])
    return np.concatenate(lists).astype(np.int32)

"""Figures of ranked items: how good a user's list is, and what all lists recommend. No model.

Recall, NDCG in its three definitions, hit rate and MRR have one value a user, so that systems can be compared
user by user. Coverage, novelty and popularity look at the lists alone. All of it is vectorised NumPy.
"""

import numpy as np

NAMES = ("recall", "ndcg", "ndcg_hits", "ndcg_target_order", "hr", "mrr")
CUTOFFS = (10, 20, 50)


def per_user(
    ranked: np.ndarray, targets: np.ndarray, row_splits: np.ndarray, k: int
) -> dict[str, np.ndarray]:
    """Each metric at k for each user.

    With `hits` the targets among the first k ranked items:

    - `recall`: hits / number of targets.
    - `hr`: 1 if there is any hit.
    - `mrr`: 1 / rank of the first hit, rank from 1; 0 if there is none.
    - `ndcg`: each hit counts 1 / log2(rank + 1), rank from 1; divided by the same sum for the best
      possible list, min(k, number of targets) hits at the top.
    - `ndcg_hits`: the same sum divided by that of as many hits at the top as were found.
    - `ndcg_target_order`: each hit counts 1 / log2(place + 1) of its place in the list of TARGETS;
      divided as `ndcg_hits`. Only to be laid beside tables that were made so.

    Args:
      ranked: int [users, at least k], items, best first; 0 is no item.
      targets: int [n], the users' targets one after another, distinct within a user, first is first.
      row_splits: int [users + 1], where each user's targets start.
      k: cut-off.

    Returns:
      name -> float64 [users].

    Raises:
      ValueError: fewer than k ranked items, or a user without targets.
    """
    num_users = len(row_splits) - 1
    counts = np.diff(row_splits)
    if ranked.shape[0] != num_users or ranked.shape[1] < k:
        raise ValueError(
            f"ranked has shape {ranked.shape}: wanted {num_users} users and at least {k} items each."
        )
    if (counts == 0).any():
        raise ValueError("a user has no targets: leave such users out.")
    top = ranked[:, :k].astype(np.int64)

    # One sorted list of (user, item) keys finds all hits at once, and each hit's place in the targets.
    users = np.repeat(np.arange(num_users), counts)
    stride = int(max(top.max(initial=0), targets.max(initial=0))) + 1
    target_keys = users * stride + targets
    order = np.argsort(target_keys, kind="stable")
    keys = np.arange(num_users)[:, None] * stride + top
    slots = np.minimum(np.searchsorted(target_keys[order], keys), len(order) - 1)
    found = order[slots]
    is_hit = (target_keys[found] == keys) & (top != 0)
    places = found - row_splits[:-1, None]

    hits = is_hit.sum(axis=1)
    ideal_gains = np.concatenate([[0.0], np.cumsum(_gain(np.arange(max(k, 1))))])
    by_rank = (is_hit * _gain(np.arange(k))).sum(axis=1)
    by_place = np.where(is_hit, _gain(places), 0.0).sum(axis=1)
    ideal_of_hits = np.where(hits > 0, ideal_gains[hits], 1.0)
    return {
        "recall": hits / counts,
        "ndcg": by_rank / ideal_gains[np.minimum(counts, k)],
        "ndcg_hits": by_rank / ideal_of_hits,
        "ndcg_target_order": by_place / ideal_of_hits,
        "hr": (hits > 0).astype(np.float64),
        "mrr": np.where(hits > 0, 1.0 / (1 + is_hit.argmax(axis=1)), 0.0),
    }


def of_lists(ranked: np.ndarray, counts: np.ndarray, k: int) -> dict[str, float]:
    """What the lists recommend, whether it is right or wrong.

    - `coverage`: the share of the catalogue that is in at least one list.
    - `popularity`: the mean over a list's items of their number of training events, the mean over users.
    - `novelty`: likewise of their self-information `-log2 p` in bits, p being the item's share of all
      training events (Zhou et al., PNAS 2010, take its share of the users). An item without an event counts
      as if it had one.

    Args:
      ranked: int [users, at least k], items 1..V, best first; 0 is no item.
      counts: int [V], how many training events each item has.
      k: cut-off.

    Returns:
      name -> value. A list without an item has popularity and novelty 0.
    """
    top = ranked[:, :k]
    events = np.concatenate([[0], counts])
    information = np.zeros(len(events))
    information[1:] = np.log2(max(counts.sum(), 1)) - np.log2(np.maximum(counts, 1))
    lengths = np.maximum((top != 0).sum(axis=1), 1)
    return {
        "coverage": np.count_nonzero(np.bincount(top.ravel(), minlength=len(events))[1:]) / len(counts),
        "popularity": float((events[top].sum(axis=1) / lengths).mean()),
        "novelty": float((information[top].sum(axis=1) / lengths).mean()),
    }


def overlap(lists: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The share of each list, int [U, k], that is in the other list too, float64 [U]; 0 for an empty list.

    Items are distinct within a list, and 0 is none.
    """
    stride = int(max(lists.max(initial=0), others.max(initial=0))) + 1
    rows = np.arange(len(lists))[:, np.newaxis] * stride
    is_item = lists != 0
    in_both = np.isin(rows + lists, rows + others) & is_item
    return in_both.sum(axis=1) / np.maximum(is_item.sum(axis=1), 1)


def _gain(place: np.ndarray) -> np.ndarray:
    """The discount of a hit at a place that counts from 0."""
    return 1.0 / np.log2(np.maximum(place, 0) + 2.0)

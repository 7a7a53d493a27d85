"""Chooses how a tree is searched: the fastest setting that reaches a recall."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from export.index.item_index import ItemIndex
from export.index.measuring import Truth, measured

_LEAST_GAIN = 0.002


def tune(
    tree: ItemIndex, item_vectors: np.ndarray, truth: Truth, target: float, give_up_above: float
) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """Searches a tree's settings: leaves to search, and candidates to score exactly.

    At its end the search scores everything in every leaf, so a tree of full vectors that may take any
    time does reach the target. One of rounded vectors need not: it ends where scoring half as many more
    candidates gains nothing.

    Args:
      tree: whose settings are set to the best.
      item_vectors: float32 [V, d], its exact vectors.
      truth: what is to be found.
      target: that the recall, less two standard errors, must reach.
      give_up_above: milliseconds a query.

    Returns:
      The best point, or None when none below that time reaches the target, and all that were measured.
    """
    description, settings = tree.description, tree.description["settings"]
    num_items, k = len(item_vectors), description["k"]
    curve: list[dict[str, Any]] = []

    def measure(reorder: int, leaves: int) -> dict[str, Any]:
        settings.update(leaves_to_search=leaves, reorder=reorder)
        point = measured(tree, item_vectors, truth)
        curve.append({"leaves_to_search": leaves, "reorder": reorder, **point})
        return curve[-1]

    best: dict[str, Any] | None = None
    reached = 0.0
    for reorder in _growing(2 * k, num_items, 1.5):
        point = _least_leaves(partial(measure, reorder), settings["num_leaves"], target)
        if point is None:
            highest = max(one["recall"] for one in curve if one["reorder"] == reorder)
            gains_nothing = description["memory"] != "full" and highest - reached < _LEAST_GAIN
            if curve[-1]["milliseconds"] > give_up_above or gains_nothing:
                break
            reached = highest
            continue
        if best is not None and point["milliseconds"] >= best["milliseconds"]:
            break  # scoring more candidates exactly no longer pays for the leaves it saves
        best = point
    if best is not None:
        settings.update(leaves_to_search=best["leaves_to_search"], reorder=best["reorder"])
    return best, curve


def _least_leaves(
    measure: Callable[[int], dict[str, Any]], num_leaves: int, target: float
) -> dict[str, Any] | None:
    """Finds about the fewest leaves that reach the target, or None where more would not help."""
    too_few, reached, stalled = 0, -1.0, 0
    for leaves in _growing(math.ceil(num_leaves / 200), num_leaves, 2):
        point = measure(leaves)
        if point["recall_low"] >= target:
            break
        # The second leaf of a query may hold what the first does; not so four and eight.
        stalled = stalled + 1 if point["recall"] - reached < _LEAST_GAIN else 0
        if stalled == 2:
            return None  # what is missing is lost by the reordering, not by the leaves
        too_few, reached = leaves, max(reached, point["recall"])
    else:
        return None
    for _ in range(2):
        between = round(math.sqrt(max(1, too_few) * leaves))
        if not too_few < between < leaves:
            break
        closer = measure(between)
        if closer["recall_low"] >= target:
            point, leaves = closer, between
        else:
            too_few = between
    return point


def _growing(first: int, last: int, factor: float) -> Iterator[int]:
    value = min(first, last)
    while value < last:
        yield value
        value = math.ceil(factor * value)
    yield last

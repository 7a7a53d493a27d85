"""Items of a user's own history in the answer, where the tower learned how likely users come back to them.

Such an item has a score from the tower in place of its inner product. So the index is asked for other items,
and these are put among its answer.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from export.index.catalogue import Catalogue
from export.index.filtered_search import EMPTY, Found, Wanted
from export.towers.answers import TowerAnswer

# What an answer says of how it was found, where own items alone are in it.
HISTORY = "history"


class ScoredRows(NamedTuple):
    """Rows int64 [N], distinct, and scores float32 [N] of items of a user's history, in no order."""

    rows: np.ndarray
    scores: np.ndarray


def own_items(
    catalogue: Catalogue, answer: TowerAnswer, numbers: Sequence[int], wanted: Sequence[Wanted]
) -> list[ScoredRows]:
    """Gives those items of each history that have a score from the tower and may be answered.

    Args:
      catalogue: of the version that answered.
      answer: to all histories.
      numbers: of those that are asked about.
      wanted: of each of them; what is excluded there, as seen items are, is not given.
    """
    if answer.history_items is None or answer.history_scores is None:
        nothing = ScoredRows(np.zeros(0, np.int64), np.zeros(0, np.float32))
        return [nothing] * len(numbers)
    given = []
    for number, one in zip(numbers, wanted, strict=True):
        items = answer.history_items[number]
        rows, scores = items[items > 0] - 1, answer.history_scores[number][items > 0]
        keep = catalogue.can_answer(rows) & ~np.isin(rows, one.excluded)
        if one.allowed is not None:
            keep &= one.allowed.contains(rows)
        given.append(ScoredRows(rows[keep], scores[keep]))
    return given


def without(wanted: Wanted, own: ScoredRows) -> Wanted:
    """What is asked of the index, which does not know the scores of own items."""
    if not len(own.rows):
        return wanted
    return dataclasses.replace(wanted, excluded=np.union1d(wanted.excluded, own.rows))


def among(found: Found, own: ScoredRows, k: int) -> Found:
    """The best k of what was found and of own items; of equals what was found first."""
    if not len(own.rows):
        return found
    rows, scores = np.concatenate([found.rows, own.rows]), np.concatenate([found.scores, own.scores])
    best = np.argsort(-scores, kind="stable")[:k]
    return Found(rows[best], scores[best], HISTORY if found.plan == EMPTY else found.plan)

"""What a tower and a retriever answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np


class TowerAnswer(NamedTuple):
    """A tower's answer to B histories.

    Attributes:
      user_vectors: float32 [B, d] or [B, K, d].
      num_known: int64 [B], how many items of each history were read.
      version: [B] of bytes: the fingerprint of the index that the vectors belong to.
    """

    user_vectors: np.ndarray
    num_known: np.ndarray
    version: np.ndarray


class Tower(Protocol):
    """Encodes histories of item ids, oldest first, of any length; where it does so is its own affair."""

    def __call__(self, histories: Sequence[Sequence[str]], timeout: float | None = None) -> TowerAnswer:
        """Answers within `timeout` seconds, or raises TowerTimeoutError."""


@dataclass(frozen=True)
class Recommendation:
    """The answer to one history.

    Attributes:
      items: item ids, best first; fewer than k where the catalogue has fewer, or too few unseen ones.
      scores: the dot product of each; 0.0 throughout for a fallback, which is not the model's.
      num_unknown: how many places of the history hold an item that the tower does not know.
      fallback: nothing of the history was known; the items are the most popular ones.
      version: the fingerprint of the tower and the index that answered.
      plan: how the items were found: "index"; with a filter "over_fetch", "partitions" or "exact", none of
        which loses any; "popular" for a fallback; "empty" where no item passes the filter.
    """

    items: list[str]
    scores: list[float]
    num_unknown: int
    fallback: bool
    version: str
    plan: str = "index"


@dataclass(frozen=True)
class SimilarItems:
    """The answer to one item.

    Attributes:
      item: its id.
      items: the ids of the nearest items, best first, without the item itself; fewer than k where there are
        fewer.
      scores: the cosine of the item's vector and of each.
      unknown: the version does not have the item, so there are none.
      version: the fingerprint of the index that answered.
    """

    item: str
    items: list[str]
    scores: list[float]
    unknown: bool
    version: str


@dataclass(frozen=True)
class Influence:
    """How much an answer rests on one past item, found by leaving the item out.

    `share` is that of the top k which is replaced then, in [0, 1]; `vector_change`, by which equal shares are
    ordered, the Euclidean distance by which the user's vectors move.
    """

    item: str
    share: float
    vector_change: float

"""What a tower and a retriever answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from export.tower_columns import Given


class TowerAnswer(NamedTuple):
    """A tower's answer to B histories.

    Attributes:
      user_vectors: float32 [B, d] or [B, K, d].
      num_known: int64 [B], how many items of each history were read.
      version: [B] of bytes: the fingerprint of the index that the vectors belong to.
      history_items: int64 [B, L], vocabulary indices of the distinct items that were read, 0 elsewhere; None
        of a tower that learned nothing about returns.
      history_scores: float32 [B, L], what these items have in place of their inner product with the vectors.
      num_known_values: int64 [B], how many of the user's and the request's values are known; None of a tower
        that reads none, or was asked by ids alone.
      num_unknown_values: int64 [B], how many of all values that were given are not known.
    """

    user_vectors: np.ndarray
    num_known: np.ndarray
    version: np.ndarray
    history_items: np.ndarray | None = None
    history_scores: np.ndarray | None = None
    num_known_values: np.ndarray | None = None
    num_unknown_values: np.ndarray | None = None

    @property
    def knows_values(self) -> np.ndarray:
        """Bool [B]: whether the vectors say something even where no item of the history is known."""
        if self.num_known_values is None:
            return np.zeros(len(self.version), bool)
        return self.num_known_values > 0

    def rows(self, numbers: Sequence[int] | np.ndarray) -> "TowerAnswer":
        """The answer to some of the histories."""
        columns: Any = (None if column is None else column[numbers] for column in self)
        return TowerAnswer(*columns)


ALWAYS_ANSWERED = ("user_vectors", "num_known", "version")


def joined(parts: Sequence[TowerAnswer]) -> TowerAnswer:
    """The answer to the histories of several, one after another; their vectors are of one shape."""
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in ALWAYS_ANSWERED}
    # Of two versions only one may know of returns, or they read histories of different lengths.
    widths = [part.history_items.shape[1] for part in parts if part.history_items is not None]
    if widths:
        items, scores = (
            np.zeros((len(columns["version"]), max(widths)), kind) for kind in ("int64", "float32")
        )
        start = 0
        for part in parts:
            rows = slice(start, start + len(part.version))
            if part.history_items is not None and part.history_scores is not None:
                items[rows, : part.history_items.shape[1]] = part.history_items
                scores[rows, : part.history_scores.shape[1]] = part.history_scores
            start = rows.stop
        columns |= {"history_items": items, "history_scores": scores}
    for name in ("num_known_values", "num_unknown_values"):
        counts = [getattr(part, name) for part in parts]
        if any(one is not None for one in counts):
            columns[name] = np.concatenate(
                [
                    np.zeros(len(part.version), np.int64) if one is None else one
                    for part, one in zip(parts, counts, strict=True)
                ]
            )
    return TowerAnswer(**columns)


class Tower(Protocol):
    """Encodes histories of item ids, oldest first, of any length; where it does so is its own affair.

    One that reads features, too, takes as a third argument what is given of each history.
    """

    def __call__(self, histories: Sequence[Sequence[str]], timeout: float | None = None) -> TowerAnswer:
        """Answers within `timeout` seconds, or raises TowerTimeoutError."""


class FeatureTower(Protocol):
    """A tower that reads features, too."""

    def __call__(
        self,
        histories: Sequence[Sequence[str]],
        timeout: float | None = None,
        given: Sequence[Given] | None = None,
    ) -> TowerAnswer:
        """Answers as `Tower` does; `given` is of each history what is known beside its ids."""


@dataclass(frozen=True)
class Recommendation:
    """The answer to one history.

    Attributes:
      items: item ids, best first; fewer than k where the catalogue has fewer, or too few unseen ones.
      scores: the dot product of each; 0.0 throughout for a fallback, which is not the model's.
      num_unknown: how many places of the history hold an item that the tower does not know.
      fallback: nothing of the history was known; the items are the most popular ones.
      version: the fingerprint of the tower and the index that answered.
      plan: how the items were found: "index"; with a filter "over_fetch", "scan", "partitions" or
        "exact"; "popular" for a fallback; "empty" where no item passes the filter; "history" where
        items of the history alone do.
      steps: what was done to the list after that, see `export.lists.list_maker`; None: nothing.
      num_unknown_values: how many of the given values of features training never saw; None: the tower reads
        none.
    """

    items: list[str]
    scores: list[float]
    num_unknown: int
    fallback: bool
    version: str
    plan: str = "index"
    steps: dict[str, Any] | None = None
    num_unknown_values: int | None = None


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

"""Chooses k of a user's candidates, one after the other, trading their scores for variety.

Shape legend: F candidates, d embedding size.
"""

from dataclasses import dataclass

import numpy as np

from export.store.bundle_errors import BundleError, QueryError


@dataclass(frozen=True)
class VarietyLimits:
    """What a request may ask for itself; by default nothing.

    Attributes:
      max_diversity: the largest `Variety.diversity` of a request; 0: it may name none.
      min_category_cap: the smallest `Variety.category_cap` of a request; 0: it may name none.

    Raises:
      BundleError: a value is out of bounds.
    """

    max_diversity: float = 0.0
    min_category_cap: int = 0

    def __post_init__(self):
        """Checks the bounds."""
        if not 0 <= self.max_diversity < float("inf"):
            raise BundleError(f"max_diversity is {self.max_diversity}; wanted a finite number, 0 or more.")
        if self.min_category_cap < 0:
            raise BundleError(f"min_category_cap is {self.min_category_cap}; wanted 0 or more.")

    def __bool__(self) -> bool:
        """Whether a request may ask for anything."""
        return bool(self.max_diversity or self.min_category_cap)

    def check(self, diversity: float | None, category_cap: int | None) -> None:
        """Raises QueryError where a request asks for more than it may."""
        if diversity is not None and not (self.max_diversity and 0 <= diversity <= self.max_diversity):
            most = f"0 to {self.max_diversity:g}" if self.max_diversity else "none here (--max_diversity)"
            raise QueryError(f"diversity is {diversity!r:.100}; wanted {most}.")
        if category_cap is not None and not (self.min_category_cap and category_cap >= self.min_category_cap):
            least = f"{self.min_category_cap} or more" if self.min_category_cap else "none here"
            raise QueryError(f"category_cap is {category_cap!r:.100}; wanted {least} (--min_category_cap).")


@dataclass(frozen=True)
class Variety:
    """How lists are varied; the defaults leave them as they were found.

    Attributes:
      diversity: what an item loses of its score for each better item of its category that is chosen already:
        ComiRec's controllable aggregation (Cen et al., KDD 2020).
      relevance: lambda of maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998), 0 to 1; 1: off.
        Each choice takes the largest lambda * score - (1 - lambda) * cosine to the nearest chosen item, with
        the scores of the candidates scaled to 0 to 1.
      category_cap: most items of one category; 0: any number. A list may get shorter than k by it.

    Raises:
      BundleError: a value is out of bounds, or `diversity` and `relevance` are both given.
    """

    diversity: float = 0.0
    relevance: float = 1.0
    category_cap: int = 0

    def __post_init__(self):
        """Checks the bounds."""
        if not 0 <= self.diversity < float("inf"):
            raise BundleError(f"diversity is {self.diversity}; wanted a finite number, 0 or more.")
        if not 0 <= self.relevance <= 1:
            raise BundleError(f"relevance is {self.relevance}; wanted a number from 0 to 1.")
        if self.category_cap < 0:
            raise BundleError(f"category_cap is {self.category_cap}; wanted a whole number, 0 or more.")
        if self.diversity and self.relevance < 1:
            raise BundleError("diversity and relevance below 1 are two ways to the same; give one of them.")

    @property
    def needs_categories(self) -> bool:
        """Whether the candidates' categories are asked for."""
        return bool(self.diversity or self.category_cap)

    @property
    def needs_vectors(self) -> bool:
        """Whether the candidates' vectors are asked for."""
        return self.relevance < 1

    def describe(self) -> dict[str, float]:
        """What acts, for the explanation of an answer; empty: nothing."""
        acting = {
            "diversity": (self.diversity, self.diversity > 0),
            "relevance": (self.relevance, self.relevance < 1),
            "category_cap": (self.category_cap, self.category_cap > 0),
        }
        return {name: value for name, (value, acts) in acting.items() if acts}


def chosen(
    scores: np.ndarray,
    k: int,
    variety: Variety,
    *,
    categories: np.ndarray | None = None,
    vectors: np.ndarray | None = None,
) -> np.ndarray:
    """Chooses up to k candidates; of several alike that with the higher score, then that which stands first.

    With `diversity` this is the greedy maximisation of ComiRec's published code. (Its value function counts
    pairs of different categories, `g(i, j) = [category(i) != category(j)]`; with a fixed number of chosen
    items, counting the pairs of the same category orders the candidates alike.)

    Args:
      scores: float [F].
      k: how many; all candidates, if they are fewer.
      variety: what is traded.
      categories: int [F], where `variety.needs_categories`.
      vectors: float [F, d], of any length, where `variety.needs_vectors`.

    Returns:
      int [at most k], places among the candidates, in the order in which they were chosen.
    """
    order = np.argsort(-np.asarray(scores), kind="stable")
    values = np.asarray(scores, np.float64)[order]
    nearest = np.full(len(order), -np.inf)  # the cosine to the nearest chosen item
    lost = np.zeros(len(order))
    if vectors is not None:
        units = vectors[order] / np.maximum(np.linalg.norm(vectors[order], axis=1, keepdims=True), 1e-12)
        values = variety.relevance * _scaled(values)
    if categories is not None:
        category = np.asarray(categories)[order]
    left = np.ones(len(order), bool)
    places: list[int] = []
    while len(places) < k and left.any():
        best = int(np.argmax(np.where(left, values - lost, -np.inf)))
        places.append(best)
        left[best] = False
        if vectors is not None:
            nearest = np.maximum(nearest, units @ units[best])
            lost = (1.0 - variety.relevance) * nearest
        if categories is not None:
            same = category == category[best]
            if vectors is None:
                lost = lost + variety.diversity * same
            if variety.category_cap and np.count_nonzero(same[places]) >= variety.category_cap:
                left &= ~same
    return order[np.array(places, np.int64)]


def _scaled(values: np.ndarray) -> np.ndarray:
    """Values from 0 to 1; 1 throughout where all are alike."""
    spread = np.ptp(values) if len(values) else 0.0
    return (values - values.min()) / spread if spread > 0 else np.ones(len(values))

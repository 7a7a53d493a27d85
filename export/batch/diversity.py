"""ComiRec's controllable aggregation: a retrieved list, reordered for the sake of diversity."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from export.store import text_files
from export.store.bundle_errors import BundleError
from export.towers.answers import Recommendation


def read_categories(path: Path) -> dict[str, str]:
    """Reads a csv or tsv file without a header (or with one: it names an item that no bundle has).

    Args:
      path: a line for each item: id, category; further columns are ignored. With tabs, without quoting,
        when it ends in .tsv or .tsv.gz; else csv.

    Returns:
      Item id -> category, of items that have one.

    Raises:
      BundleError: the file is missing, has a line that cannot be read, or no item with a category.
    """
    delimiter = "\t" if path.name.lower().removesuffix(".gz").endswith(".tsv") else ","
    categories = {}
    with text_files.opened(path) as (lines, _):
        for number, cells, problem in text_files.records(lines, delimiter):
            if problem is not None:
                raise BundleError(f"{path}, line {number}: {problem}.")
            item, category = (*cells, "", "")[:2]
            if item and category:
                categories[item] = category
    if not categories:
        raise BundleError(f"{path} has no item with a category; wanted two columns: item id and category.")
    return categories


def diversify(answer: Recommendation, categories: Mapping[str, str], k: int, weight: float) -> Recommendation:
    """Chooses k of an answer's items by `diversified`; an item without a category is in one of its own.

    Args:
      answer: with more items than k, so that there is something to choose from. A fallback is only cut.
      categories: item id -> category.
      k: how many are chosen.
      weight: lambda, see `diversified`.

    Returns:
      The answer with those items, in the order in which they were chosen.
    """
    chosen = np.arange(len(answer.items))[:k]
    if not answer.fallback:
        names = [categories.get(item, f"\0{place}") for place, item in enumerate(answer.items)]
        numbers = np.unique(names, return_inverse=True)[1]
        chosen = diversified(np.arange(len(names)), np.array(answer.scores), numbers, k, weight)
    return dataclasses.replace(
        answer,
        items=[answer.items[place] for place in chosen],
        scores=[answer.scores[place] for place in chosen],
    )


def diversified(
    items: np.ndarray, scores: np.ndarray, categories: np.ndarray, k: int, weight: float
) -> np.ndarray:
    """Chooses k of the candidates, one after the other, trading their scores for variety.

    The greedy maximisation of Cen et al. (ComiRec, KDD 2020) as their code has it: each choice takes the
    candidate with the largest

        score(i) - weight * (number of items of i's category that are chosen already),

    and of several alike the one with the higher score, then the one that stands first. (Their value function
    counts pairs of different categories, `g(i, j) = [category(i) != category(j)]`; with a fixed number
    of chosen items, counting the pairs of the same category orders the candidates alike.)

    Args:
      items: int [F], the candidates of one user, each once: the merged answers for all of his vectors.
      scores: float [F].
      categories: int [F], one of each candidate.
      k: how many are chosen; all candidates, if they are fewer.
      weight: lambda, in units of the scores, 0 or more, finite. 0 is the order of the scores.

    Returns:
      int [min(k, F)], items in the order in which they were chosen.

    Raises:
      ValueError: the arrays differ in length, an item stands twice, or the weight is negative or not finite.
    """
    if not len(items) == len(scores) == len(categories):
        raise ValueError(
            f"{len(items)} items, {len(scores)} scores, {len(categories)} categories: wanted one of each."
        )
    if len(np.unique(items)) != len(items):
        raise ValueError("an item stands twice among the candidates: wanted the merged answers of a user.")
    if not 0 <= weight < math.inf:  # infinite, it would choose an item twice
        raise ValueError(f"weight={weight}: wanted a finite number, 0 or more.")
    order = np.argsort(-np.asarray(scores), kind="stable")
    values = np.asarray(scores, np.float64)[order]
    category = np.asarray(categories)[order]
    chosen = np.zeros(min(k, len(items)), np.int64)
    for place in range(len(chosen)):
        best = int(np.argmax(values))  # the first of the largest: the one with the higher score
        chosen[place] = best
        values[category == category[best]] -= weight
        values[best] = -np.inf
    return np.asarray(items)[order[chosen]]

"""ComiRec's controllable aggregation: a retrieved list, reordered for the sake of diversity."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from export.store import text_files
from export.store.bundle_errors import BundleError
from export.towers.answers import Recommendation


def read_categories(path: Path) -> dict[str, str]:
    """Reads a csv or tsv file without a header (or with one: it names an item that no bundle has).

    A line for each item: id, category; further columns are ignored. With tabs, without quoting, when it ends
    in .tsv or .tsv.gz; else csv.

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

    Of a fallback the first k are taken. The items stand in the order in which they were chosen.
    """
    chosen = np.arange(len(answer.items))[:k]
    if not answer.fallback:
        names = [categories.get(item, f"\0{place}") for place, item in enumerate(answer.items)]
        numbers = np.unique(names, return_inverse=True)[1]
        chosen = diversified(np.array(answer.scores), numbers, k, weight)
    return dataclasses.replace(
        answer,
        items=[answer.items[place] for place in chosen],
        scores=[answer.scores[place] for place in chosen],
    )


def diversified(scores: np.ndarray, categories: np.ndarray, k: int, weight: float) -> np.ndarray:
    """Chooses k of a user's candidates, one after the other, trading their scores for variety.

    The greedy maximisation of Cen et al. (ComiRec, KDD 2020) as their code has it: each choice takes the
    candidate with the largest

        score(i) - weight * (number of items of i's category that are chosen already),

    and of several alike the one with the higher score, then the one that stands first. (Their value function
    counts pairs of different categories, `g(i, j) = [category(i) != category(j)]`; with a fixed number
    of chosen items, counting the pairs of the same category orders the candidates alike.)

    Args:
      scores: float [F].
      categories: int [F].
      k: how many are chosen; all candidates, if they are fewer.
      weight: lambda, in units of the scores, 0 or more, finite: infinite, it would choose an item twice.

    Returns:
      int [min(k, F)], places among the candidates, in the order in which they were chosen.
    """
    order = np.argsort(-np.asarray(scores), kind="stable")
    values = np.asarray(scores, np.float64)[order]
    category = np.asarray(categories)[order]
    chosen = np.zeros(min(k, len(order)), np.int64)
    for place in range(len(chosen)):
        best = int(np.argmax(values))  # the first of the largest: the one with the higher score
        chosen[place] = best
        values[category == category[best]] -= weight
        values[best] = -np.inf
    return order[chosen]

"""ComiRec's controllable aggregation: a retrieved list, reordered for the sake of diversity."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl

from export.store.bundle_errors import BundleError
from export.towers.answers import Recommendation


def read_categories(path: Path) -> dict[str, str]:
    """Reads a csv or tsv file without a header (or with one: it names an item that no bundle has).

    Args:
      path: a line an item: id, category; further columns are ignored. With tabs, without quoting, when
        it ends in .tsv or .tsv.gz; else csv.

    Returns:
      Item id -> category.

    Raises:
      BundleError: the file is missing, cannot be read, or has one column.
    """
    is_tsv = path.name.lower().removesuffix(".gz").endswith(".tsv")
    try:
        table = pl.read_csv(
            path,
            separator="\t" if is_tsv else ",",
            quote_char=None if is_tsv else '"',
            has_header=False,
            infer_schema=False,
            truncate_ragged_lines=True,
            glob=False,
        )
    except (OSError, pl.exceptions.PolarsError) as error:
        raise BundleError(f"{path} cannot be read as csv or tsv: {error}.") from error
    if table.width < 2:
        raise BundleError(f"{path} has one column; wanted two: item id and category.")
    return dict(table.select(table.columns[:2]).drop_nulls().iter_rows())


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

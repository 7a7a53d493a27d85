"""Makes the list that is answered of what a retriever finds: other scores, then variety, then exploration.

All are off by default, and then the retriever's answer is passed on. What was done is told in the answer's
`steps`. A fallback is neither scored again nor varied: its order is that of popularity.
"""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from export.lists.categories import read_categories
from export.lists.choosing import Variety, VarietyLimits, chosen
from export.lists.exploration import Exploration, mixed_in, seed_of
from export.lists.reranking import Reranker
from export.query import Query
from export.retriever import Retriever
from export.store.bundle_errors import BundleError, QueryError
from export.towers.answers import Recommendation

CANDIDATES = 5  # times k, so that there is something to choose from


class ListMaker:
    """A retriever whose lists are scored again, varied and mixed with what is seldom shown."""

    def __init__(
        self,
        retriever: Retriever,
        *,
        variety: Variety | None = None,
        categories: Mapping[str, str] | None = None,
        reranker: Reranker | None = None,
        exploration: Exploration | None = None,
        limits: VarietyLimits | None = None,
    ):
        """Composes the steps.

        Args:
          retriever: finds the candidates. Where its rules have a column of categories, lists are varied by
            that.
          variety: of queries that ask for none themselves; by default none.
          categories: item id -> category, where variety needs them and the rules have no column; an item
            without one is in one of its own.
          reranker: gives other scores; by default nobody does.
          exploration: by default none.
          limits: of what queries may ask; by default they may ask for no variety.

        Raises:
          BundleError: variety needs categories and there are none, or the other way round.
        """
        self.variety, self.exploration = variety or Variety(), exploration or Exploration()
        self.limits = limits or VarietyLimits()
        column = retriever.rules.category_column
        if column is not None and categories is not None:
            raise BundleError(
                "item_categories and category_column are two ways to the same; give one of them."
            )
        if (self.variety.needs_categories or bool(self.limits)) != (
            categories is not None or column is not None
        ):
            raise BundleError(
                "diversity or category_cap, and item_categories or category_column, need each other; give"
                " both."
            )
        if column is not None:
            retriever.rules.categories(retriever.catalogue, np.zeros(0, np.int64))
        self.retriever, self.reranker = retriever, reranker
        self._categories = categories

    @classmethod
    def by(cls, settings: Any, retriever: Retriever, limits: VarietyLimits | None = None) -> "ListMaker":
        """Composes what settings name: a service's options, or those of a job.

        They have `diversity`, `relevance`, `category_cap`, `item_categories`, `reranker`, `reranker_ms`,
        `explore` and `explore_from`.

        Raises:
          BundleError: they do not go together, or a file or a function is missing.
        """
        categories, reranker = settings.item_categories, None
        if settings.reranker is not None:
            reranker = Reranker.named(settings.reranker, settings.reranker_ms)
        return cls(
            retriever,
            variety=Variety(settings.diversity, settings.relevance, settings.category_cap),
            categories=None if categories is None else read_categories(Path(categories)),
            reranker=reranker,
            exploration=Exploration(settings.explore, settings.explore_from),
            limits=limits,
        )

    def is_active(self, query: Query) -> bool:
        """Whether any step does something to the list of a query."""
        return self._chooses(self.variety_of(query)) or self.exploration.share > 0

    def variety_of(self, query: Query) -> Variety:
        """What a query asks for, or what holds for all; raises QueryError where it may not ask for that."""
        asked = {
            name: value
            for name in ("diversity", "category_cap")
            if (value := getattr(query, name)) is not None
        }
        if not asked:
            return self.variety
        self.limits.check(query.diversity, query.category_cap)
        try:
            return dataclasses.replace(self.variety, **asked)
        except BundleError as error:
            raise QueryError(str(error)) from error

    def __call__(self, queries: Sequence[Query], timeout: float | None = None) -> list[Recommendation]:
        """Answers B queries, each with a k of its own; raises as `Retriever.recommend` does."""
        varieties = [self.variety_of(query) for query in queries]
        queries = [dataclasses.replace(one, diversity=None, category_cap=None) for one in queries]
        if not self.exploration.share and not any(map(self._chooses, varieties)):
            return self.retriever.recommend(queries, timeout=timeout)
        ends = None if timeout is None else time.monotonic() + timeout
        asked = [
            dataclasses.replace(one, k=(CANDIDATES if self._chooses(variety) else 1) * (one.k or 0))
            for one, variety in zip(queries, varieties, strict=True)
        ]
        answers = self.retriever.recommend(asked, timeout=timeout)
        steps: list[dict[str, Any]] = [{"candidates": len(one.items)} for one in answers]
        answers = self._reranked(queries, answers, steps, _left(ends))
        answers = [
            self._varied(answer, query.k or 0, variety, step)
            for query, answer, variety, step in zip(queries, answers, varieties, steps, strict=True)
        ]
        if self.exploration.share:
            answers = self._explored(queries, answers, steps, _left(ends))
        return [
            dataclasses.replace(answer, steps=step)
            if self._chooses(variety) or self.exploration.share
            else answer
            for answer, variety, step in zip(answers, varieties, steps, strict=True)
        ]

    def _chooses(self, variety: Variety) -> bool:
        return bool(variety.describe()) or self.reranker is not None

    def _reranked(
        self,
        queries: Sequence[Query],
        answers: list[Recommendation],
        steps: list[dict[str, Any]],
        seconds: float | None,
    ) -> list[Recommendation]:
        """All lists that are the model's, in the order of the re-ranker's scores, or as they were."""
        asked = [place for place, one in enumerate(answers) if one.items and not one.fallback]
        if self.reranker is None or not asked:
            return answers
        found = self.reranker(
            [queries[place].item_ids for place in asked],
            [answers[place].items for place in asked],
            [answers[place].scores for place in asked],
            seconds,
        )
        for number, place in enumerate(asked):
            steps[place]["reranker"] = found.outcome
            if found.error:
                steps[place]["reranker_error"] = found.error
            if found.scores is not None:
                scores = np.array(found.scores[number], np.float64)
                answers[place] = _only(answers[place], np.argsort(-scores, kind="stable"), scores)
        return answers

    def _varied(
        self, answer: Recommendation, k: int, variety: Variety, step: dict[str, Any]
    ) -> Recommendation:
        if answer.fallback or not answer.items or not variety.describe():
            return _only(answer, np.arange(len(answer.items))[:k])
        step |= variety.describe()
        categories = vectors = None
        catalogue = self.retriever.catalogue_of(answer.version)
        rows = catalogue.rows(answer.items)
        if variety.needs_categories and self._categories is not None:
            names = [self._categories.get(item, f"\0{place}") for place, item in enumerate(answer.items)]
            categories = np.unique(names, return_inverse=True)[1]
        elif variety.needs_categories:
            codes = self.retriever.rules.categories(catalogue, rows).astype(np.int64)
            categories = np.where(codes < 0, -1 - np.arange(len(codes)), codes)
        if variety.needs_vectors:
            vectors = catalogue.vectors_of(rows)
        places = chosen(np.array(answer.scores), k, variety, categories=categories, vectors=vectors)
        return _only(answer, places)

    def _explored(
        self,
        queries: Sequence[Query],
        answers: list[Recommendation],
        steps: list[dict[str, Any]],
        seconds: float | None,
    ) -> list[Recommendation]:
        """Lists with drawn items in them; the retriever, asked for these, minds the rules and scores them."""
        draws, asked = [], []
        for query, answer, step in zip(queries, answers, steps, strict=True):
            seed = query.seed if query.seed is not None else seed_of(query.item_ids)
            catalogue = self.retriever.catalogue_of(answer.version)
            count, ids, random = self.exploration.draw(catalogue, query.k or 0, seed)
            if query.allow is not None:
                ids = [item for item in ids if item in {str(one) for one in query.allow}]
            draws.append((count, ids, random))
            step |= {"explored": [], "explored_from": self.exploration.pool, "seed": seed}
            asked.append(dataclasses.replace(query, k=max(1, len(ids)), allow=ids))
        places = [place for place, (count, ids, _) in enumerate(draws) if count and ids]
        passing = self.retriever.recommend([asked[place] for place in places], timeout=seconds)
        for place, found in zip(places, passing, strict=True):
            answer, (count, ids, random) = answers[place], draws[place]
            if found.version != answer.version:  # a newer version has come between the two
                continue
            score_of = dict(zip(answer.items, answer.scores, strict=True))
            score_of |= dict(zip(found.items, found.scores, strict=True))
            held = set(found.items) - set(answer.items)
            drawn = [item for item in ids if item in held][:count]
            items = mixed_in(answer.items, drawn, queries[place].k or 0, random)
            steps[place]["explored"] = drawn
            answers[place] = dataclasses.replace(
                answer, items=items, scores=[score_of[item] for item in items]
            )
        return answers


def _only(answer: Recommendation, places: np.ndarray, scores: np.ndarray | None = None) -> Recommendation:
    """An answer with the items at some places, in their order, and with other scores where they are given."""
    all_scores = answer.scores if scores is None else scores.tolist()
    return dataclasses.replace(
        answer,
        items=[answer.items[place] for place in places],
        scores=[all_scores[place] for place in places],
    )


def _left(ends: float | None) -> float | None:
    """The seconds that are left; a little, where none are: whoever is asked then says that it is late."""
    return None if ends is None else max(1e-3, ends - time.monotonic())

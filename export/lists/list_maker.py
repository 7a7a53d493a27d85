"""Makes the list that is answered of what a retriever finds: other scores, then variety, then exploration.

All are off by default, and then the retriever's answer is passed on. What was done is told in the answer's
`steps`. A fallback is neither scored again nor varied: its order is that of popularity.
"""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from export.lists.choosing import Variety, chosen
from export.lists.exploration import Exploration, mixed_in, seed_of
from export.lists.reranking import Reranker
from export.query import Query
from export.retriever import Retriever
from export.store.bundle_errors import BundleError
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
    ):
        """Composes the steps.

        Args:
          retriever: finds the candidates.
          variety: by default none.
          categories: item id -> category, where the variety needs them; an item without one is in one of its
            own.
          reranker: gives other scores; by default nobody does.
          exploration: by default none.

        Raises:
          BundleError: the variety needs categories and there are none, or the other way round.
        """
        self.variety, self.exploration = variety or Variety(), exploration or Exploration()
        if self.variety.needs_categories != (categories is not None):
            raise BundleError("diversity or category_cap, and item_categories, need each other; give both.")
        self.retriever, self.reranker = retriever, reranker
        self._categories = categories
        self._chooses = bool(self.variety.describe()) or reranker is not None

    @property
    def is_active(self) -> bool:
        """Whether any step does something."""
        return self._chooses or self.exploration.share > 0

    def __call__(self, queries: Sequence[Query], timeout: float | None = None) -> list[Recommendation]:
        """Answers B queries, each with a k of its own; raises as `Retriever.recommend` does."""
        if not self.is_active:
            return self.retriever.recommend(queries, timeout=timeout)
        ends = None if timeout is None else time.monotonic() + timeout
        wider = CANDIDATES if self._chooses else 1
        asked = [dataclasses.replace(one, k=wider * (one.k or 0)) for one in queries]
        answers = self.retriever.recommend(asked, timeout=timeout)
        steps: list[dict[str, Any]] = [{"candidates": len(one.items)} for one in answers]
        answers = self._reranked(queries, answers, steps, _left(ends))
        answers = [
            self._varied(answer, query.k or 0, step)
            for query, answer, step in zip(queries, answers, steps, strict=True)
        ]
        if self.exploration.share:
            answers = self._explored(queries, answers, steps, _left(ends))
        return [dataclasses.replace(answer, steps=step) for answer, step in zip(answers, steps, strict=True)]

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
            [[str(item) for item in queries[place].history] for place in asked],
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

    def _varied(self, answer: Recommendation, k: int, step: dict[str, Any]) -> Recommendation:
        variety = self.variety
        if answer.fallback or not answer.items or not variety.describe():
            return _only(answer, np.arange(len(answer.items))[:k])
        step |= variety.describe()
        categories = vectors = None
        if self._categories is not None:
            names = [self._categories.get(item, f"\0{place}") for place, item in enumerate(answer.items)]
            categories = np.unique(names, return_inverse=True)[1]
        if variety.needs_vectors:
            catalogue = self.retriever.catalogue_of(answer.version)
            vectors = catalogue.vectors_of(catalogue.rows(answer.items))
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
            history = [str(item) for item in query.history]
            seed = query.seed if query.seed is not None else seed_of(history)
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

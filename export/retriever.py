"""From histories to recommendations: encode, search, drop what was seen, fall back.

Neither the training library nor Keras is imported here: the bundle is all that is needed.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from export.index.catalogue import Catalogue
from export.index.catalogue_cache import CatalogueCache
from export.index.engine import OpenEngine
from export.index.engines import engine_named
from export.index.filtered_search import Found, Wanted
from export.item_rules import ItemRules
from export.own_items import ScoredRows, among, own_items, without
from export.query import Event, Query, checked_queries
from export.store.bundle_errors import BundleError, TowerError, TowerTimeoutError
from export.tower_columns import NO_COLUMNS, Given, TowerColumns
from export.towers.answers import (
    FeatureTower,
    Influence,
    Recommendation,
    SimilarItems,
    Tower,
    TowerAnswer,
)
from export.towers.local import LocalTower
from export.towers.requests import at_places

_EXPLANATION_ATTEMPTS = 2
# Between two looks at the clock while an explanation is made.
_SEARCHED_TOGETHER = 16


class Retriever:
    """Answers histories of item ids with the items to recommend next.

    It searches the catalogue of the version that the tower's answer names, and asks the tower first:
    so it is right also while an old and a new tower answer by turns.
    """

    def __init__(
        self,
        tower: Tower | FeatureTower,
        catalogues: CatalogueCache,
        rules: ItemRules | None = None,
        columns: Callable[[], TowerColumns] = lambda: NO_COLUMNS,
    ):
        """Composes a tower, the catalogues of its bundle and the rules of what may be answered.

        It asks the tower for its version. Without rules no item has attributes, and all are available.
        `columns` gives what the tower reads beside ids.

        Raises:
          BundleError: the bundle does not have the version that the tower answers.
          TowerError: the tower does not answer.
        """
        self._tower = tower
        self._catalogues = catalogues
        self._columns = columns
        self.rules = rules or ItemRules()
        self._latest = catalogues.get(_versions(tower([[]]))[0])

    @classmethod
    def open(
        cls,
        bundle: Path | str,
        *,
        version: int | None = None,
        tower: Tower | FeatureTower | None = None,
        engine: str | OpenEngine = "auto",
        rules: ItemRules | None = None,
    ) -> "Retriever":
        """Opens a bundle, wherever it lies.

        Args:
          bundle: its directory.
          version: the number of the tower to use; the latest when None.
          tower: answers in place of the bundle's own tower, from another machine for instance; where the
            newest version reads features, it is a `FeatureTower`.
          engine: what searches the items: `auto`, `scann`, `numpy`, `hnswlib`, or what opens one's own; see
            `export.index.engine`.
          rules: of what may be answered; None: the bundle's attributes, and what its file says is out.

        Raises:
          BundleError: there is no such version, a file is missing or damaged, or the tower and the
            index do not belong together.
          TowerError: the tower that was given does not answer.
        """
        if tower is not None and version is not None:
            raise BundleError("Give the number of the bundle's own tower, or another tower: not both.")
        open_engine = engine_named(engine) if isinstance(engine, str) else engine
        catalogues = CatalogueCache(bundle, open_engine=open_engine)
        if tower is None:
            tower = local = LocalTower.load(Path(bundle), version, catalogues)
            columns = local.columns
        else:
            columns = TowerColumns.newest(bundle)
        return cls(tower, catalogues, ItemRules(bundle) if rules is None else rules, lambda: columns)

    @property
    def columns(self) -> TowerColumns:
        """What the tower reads beside item ids."""
        return self._columns()

    @property
    def catalogue(self) -> Catalogue:
        """The items of the version that the tower answered last."""
        return self._latest

    @property
    def version(self) -> str:
        """The fingerprint of that version."""
        return self._latest.version

    @property
    def num_items(self) -> int:
        """The items that it can answer, the longest list."""
        return self._latest.num_items

    def catalogue_of(self, version: str) -> Catalogue:
        """The items of a version that was answered, by its fingerprint; raises BundleError if it is gone."""
        return self._catalogues.get(version)

    def name_of(self, item_id: str) -> str:
        """A name to read: the item's, or its id when there is none."""
        return self._latest.name_of(item_id)

    def recommend(
        self,
        queries: Sequence[Query | Sequence[Event]],
        k: int | Sequence[int] | None = None,
        exclude_seen: bool | Sequence[bool] | None = None,
        timeout: float | None = None,
    ) -> list[Recommendation]:
        """Recommends items for each query; its answer does not depend on the others.

        Args:
          queries: B of them; a bare history, a list of item ids, is a query, too.
          k: of the queries that name none, one number or one a query.
          exclude_seen: of bare histories, one value or one a history; True when None.
          timeout: seconds in which a tower elsewhere must answer; None: its client's own patience.

        Returns:
          B recommendations. Where fewer than k items can be answered, since the catalogue has fewer or the
          history has most of them, the list is shorter.

        Raises:
          BundleError: a query is not as `Query` says, or the bundle does not have the version that the tower
            answers.
          QueryError: one asks for what the items or the tower do not have.
          TowerError: the tower does not answer, or not in time.
        """
        columns = self.columns
        asked = checked_queries(queries, k, exclude_seen, columns)
        if not asked:
            return []
        answer = self._ask([query.history for query in asked], timeout, [query.given for query in asked])
        results: list[Recommendation | None] = [None] * len(asked)
        for version in _versions(answer):
            catalogue = self._open(version)
            group = np.flatnonzero(answer.version == version.encode()).tolist()
            rows_of = [catalogue.rows(asked[number].history) for number in group]
            known = [catalogue.known(rows) for rows in rows_of]
            wanted = self.rules.wanted(catalogue, [asked[number] for number in group], rows_of)
            own = own_items(catalogue, answer, group, wanted)
            answered = answer.rows(group)
            is_known = answered.knows_values | [len(rows) > 0 for rows in known]
            found = _top(catalogue, answered.user_vectors, is_known, wanted, own)
            for place, number in enumerate(group):
                num_unknown = len(asked[number].history) - len(known[place])
                unknown_values = _unknown(answered, place, columns)
                results[number] = _recommendation(
                    catalogue, found[place], num_unknown, not is_known[place], unknown_values
                )
        return [result for result in results if result is not None]

    def explain(
        self,
        query: Query | Sequence[Event],
        k: int | None = None,
        exclude_seen: bool | None = None,
        timeout: float | None = None,
    ) -> list[Influence]:
        """Tells which past items the top k rests on, by leaving out each in turn.

        Args:
          query: as in `recommend`; the item left out still counts as seen.
          k: of a query that names none: how many recommended items are looked at; all, if there are fewer.
          exclude_seen: of a bare history, as in `recommend`.
          timeout: seconds in which all must be done; None: as in `recommend`.

        Returns:
          One entry for each distinct item that the tower reads, the most influential first; empty
          for a history with nothing known.

        Raises:
          BundleError, TowerError: as `recommend` does.
          TowerTimeoutError: the time is over.
        """
        return self.recommend_explained(query, k, exclude_seen, timeout)[1]

    def recommend_explained(
        self,
        query: Query | Sequence[Event],
        k: int | None = None,
        exclude_seen: bool | None = None,
        timeout: float | None = None,
    ) -> tuple[Recommendation, list[Influence]]:
        """Recommends for one query and explains that, by one version of the tower; see `explain`."""
        columns = self.columns
        [asked] = checked_queries([query], k, exclude_seen, columns)
        texts = asked.history
        left = _countdown(timeout, "explanation")
        first = self._ask([texts], left(), [asked.given])
        for _ in range(_EXPLANATION_ATTEMPTS):
            num_read = int(first.num_known[0])
            catalogue = self._open(_versions(first)[0])
            rows = catalogue.rows(texts)
            known = catalogue.known(rows)
            left_out = np.unique(known[-num_read:]) if num_read else known
            # Of each history no more than the tower reads.
            places = np.flatnonzero([catalogue.knows(item) for item in texts])
            kept = [places, *(places[known != row] for row in left_out)]
            kept = [one[-num_read:] if num_read else one for one in kept]
            answer = first
            if num_read:
                values = [at_places(columns, asked.given, one.tolist()) for one in kept]
                answer = self._ask([[texts[n] for n in one] for one in kept], left(), values)
            if _versions(answer) == [catalogue.version]:
                break
            # A newer version has come between two questions.
            first = self._ask([texts], left(), [asked.given])
        else:
            raise TowerError(
                "Several versions of the tower answer in turn; an explanation needs one. Ask again."
            )
        wanted, vectors = self.rules.wanted(catalogue, [asked], [rows]), answer.user_vectors
        is_known = answer.knows_values | [len(one) > 0 for one in kept]
        found: list[Found] = []
        for start in range(0, len(kept), _SEARCHED_TOGETHER):
            left()
            numbers = range(start, min(start + _SEARCHED_TOGETHER, len(kept)))
            own = own_items(catalogue, answer, numbers, wanted * len(numbers))
            found += _top(catalogue, vectors[numbers], is_known[numbers], wanted * len(numbers), own)
        whole = found[0].rows
        influences = [
            Influence(
                item=item,
                share=1.0 - len(np.intersect1d(whole, without)) / max(1, len(whole)),
                vector_change=float(np.linalg.norm(vector - vectors[0])),
            )
            for item, (without, _, _), vector in zip(
                catalogue.ids(left_out), found[1:], vectors[1:], strict=True
            )
        ]
        influences.sort(key=lambda one: (-one.share, -one.vector_change, one.item))
        num_unknown = len(texts) - len(known)
        unknown_values = _unknown(first, 0, columns)
        return _recommendation(catalogue, found[0], num_unknown, not is_known[0], unknown_values), influences

    def similar(
        self, query: Query | Sequence[Event], k: int | None = None, timeout: float | None = None
    ) -> list[SimilarItems]:
        """Finds the nearest items of each item, by the cosine of their vectors, without the item itself.

        Args:
          query: its history are N items, each of which is asked for by itself, whether the tower knows it or
            not; bare ids are a query, too. Its filter, allow and deny hold for what is answered.
          k: of a query that names none: how many of each.
          timeout: seconds in which all must be done; None: as in `recommend`.

        Returns:
          N answers.

        Raises:
          BundleError, TowerError: as `recommend` does.
          TowerTimeoutError: the time is over.
        """
        [asked] = checked_queries([query], k, columns=self.columns)
        left = _countdown(timeout, "answer")
        catalogue = self._open(_versions(self._tower([[]], left()))[0])
        asked = dataclasses.replace(asked, k=min(asked.k, catalogue.num_items), exclude_seen=False)
        [wanted] = self.rules.wanted(catalogue, [asked], [np.zeros(0, np.int64)])
        answers = []
        for item in asked.history:
            left()
            rows, scores = catalogue.rows([item]), np.zeros(0, np.float32)
            if is_there := bool(len(rows)):
                rows, scores, _ = catalogue.similar(int(rows[0]), wanted)
            answers.append(
                SimilarItems(item, catalogue.ids(rows), scores.tolist(), not is_there, catalogue.version)
            )
        return answers

    def _ask(
        self, histories: Sequence[Sequence[str]], timeout: float | None, given: Sequence[Given]
    ) -> TowerAnswer:
        """Asks the tower for its ids alone where nothing else is given: it may be one that reads no more."""
        if not any(given):
            return self._tower(histories, timeout)
        return self._tower(histories, timeout, given)  # type: ignore[call-arg]

    def _open(self, version: str) -> Catalogue:
        catalogue = self._catalogues.get(version)
        self._latest = catalogue
        return catalogue


def _recommendation(
    catalogue: Catalogue, found: Found, num_unknown: int, fallback: bool, unknown_values: int | None
) -> Recommendation:
    return Recommendation(
        items=catalogue.ids(found.rows),
        scores=found.scores.tolist(),
        num_unknown=num_unknown,
        fallback=bool(fallback),
        version=catalogue.version,
        plan=found.plan,
        num_unknown_values=unknown_values,
    )


def _unknown(answer: TowerAnswer, place: int, columns: TowerColumns) -> int | None:
    """How many values of one answer are unknown; None where the tower reads none."""
    if answer.num_unknown_values is None:
        return 0 if columns else None
    return int(answer.num_unknown_values[place])


def _countdown(seconds: float | None, what: str) -> Callable[[], float | None]:
    """Gives what tells how much of some seconds is left; once nothing is, it raises TowerTimeoutError."""
    ends = None if seconds is None else time.monotonic() + seconds

    def left() -> float | None:
        if ends is None:
            return None
        if (rest := ends - time.monotonic()) <= 0:
            raise TowerTimeoutError(f"There was no {what} within {seconds:.3f} s.")
        return rest

    return left


def _versions(answer: TowerAnswer) -> list[str]:
    """The versions that answered, most often one."""
    return [version.decode() for version in dict.fromkeys(answer.version.tolist())]


def _top(
    catalogue: Catalogue,
    vectors: np.ndarray,
    is_known: np.ndarray,
    wanted: Sequence[Wanted],
    own: Sequence[ScoredRows],
) -> list[Found]:
    """The best of what each user wants; the most popular items for one of whom nothing is known."""
    wanted = [dataclasses.replace(one, k=min(one.k, catalogue.num_items)) for one in wanted]
    asked = np.flatnonzero(is_known).tolist()
    searched = catalogue.top(vectors[asked], [without(wanted[number], own[number]) for number in asked])
    found = {
        number: among(one, own[number], wanted[number].k) for number, one in zip(asked, searched, strict=True)
    }
    return [
        found[number] if number in found else catalogue.most_popular(one) for number, one in enumerate(wanted)
    ]

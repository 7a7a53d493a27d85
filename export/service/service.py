"""The service without its web framework: a bundle, a tower, four queues, and limits."""

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from export.filters.expression import Expression, parse_filter, read_filter
from export.index.catalogue import Catalogue
from export.index.catalogue_cache import CatalogueCache
from export.index.engines import engine_named
from export.item_rules import ItemRules
from export.lists.choosing import VarietyLimits
from export.lists.list_maker import ListMaker
from export.query import Query, checked_queries
from export.retriever import Retriever
from export.service.follower import Follower
from export.service.in_names import InNames, named
from export.service.logs import LOGGER
from export.service.options import Options
from export.service.prometheus import Metrics
from export.service.work_queue import WorkQueue
from export.store.bundle_errors import QueryError, TowerError
from export.store.layout import (
    TOWER_WARM_UP,
    attribute_numbers,
    read_tower,
    resolve_number,
    tower_directory,
)
from export.store.published_card import read_model_card
from export.tower_columns import Given, TowerColumns
from export.towers.answers import Recommendation, TowerAnswer
from export.towers.local import LocalTower
from export.towers.remote import RemoteTower
from export.towers.requests import read_warm_up

_EXPLANATIONS_WAITING = 8
_LOOKUPS_WAITING = 8
_SIMILAR_WAITING = 8
_EXAMPLES = 20


class _Probe(Query):
    """What the service asks itself; no traffic."""


@dataclass(frozen=True)
class Lookup:
    """A text, and how many of the items that contain it are wanted."""

    text: str
    limit: int


class Service:
    """Answers questions from the bundle's newest version."""

    def __init__(self, options: Options, after_loading: Callable[[], None] = lambda: None):
        """Opens the bundle, and starts to follow it; `after_loading` is called with every version.

        Raises:
          BundleError: the bundle cannot be used.
          TowerError: the tower elsewhere does not answer.
        """
        self.options = options
        self.metrics = Metrics(options.traffic_window)
        self.examples = b"[]"  # JSON of histories of real users
        self.model_card: bytes | None = None  # of the newest version, as JSON
        self._after_loading = after_loading
        self._catalogues = CatalogueCache(options.bundle, open_engine=engine_named(options.engine))
        self.rules = ItemRules(
            options.bundle,
            default_filter=read_filter(options.filter) if options.filter else None,
            unavailable=options.unavailable,
            on_failure=self._unavailable_failed,
            category_column=options.category_column,
        )
        self._tower: LocalTower | RemoteTower
        number = None
        if options.tower_address is None:
            self._tower = LocalTower.load(options.bundle, None, self._catalogues)
            number = self._tower.number
            self.metrics.number.set(number)
        else:
            columns = TowerColumns.newest(options.bundle)
            self._tower = RemoteTower(options.tower_address, options.tower_name, columns)
        self.columns = self._tower.columns  # what it reads beside item ids
        self._retriever = Retriever(self._timed_tower, self._catalogues, self.rules, lambda: self.columns)
        limits = VarietyLimits(options.max_diversity, options.min_category_cap)
        self._make_lists = ListMaker.by(options, self._retriever, limits)
        self._in_names = InNames(self._catalogues)
        self.rules.check(self.rules.default_filter, self.catalogue)
        self.rules.prepare(self.catalogue)
        self._loaded()
        self._questions = WorkQueue(
            self._answer,
            most_waiting=options.max_waiting,
            most_together=options.max_together,
            threads=options.threads,
        )
        self._explanations = WorkQueue(
            self._explain, most_waiting=_EXPLANATIONS_WAITING, most_together=1, threads=1
        )
        self._lookups = WorkQueue(
            self._look_up, most_waiting=_LOOKUPS_WAITING, most_together=1, threads=1, what="lookups"
        )
        self._similar = WorkQueue(
            self._find_similar,
            most_waiting=_SIMILAR_WAITING,
            most_together=1,
            threads=1,
            what="requests for similar items",
        )
        self.metrics.waiting.set_function(lambda: self.waiting)
        self.metrics.unavailable.set_function(lambda: self.rules.num_unavailable(self.catalogue))
        self._followers = [
            Follower(
                lambda: resolve_number(options.bundle, None),
                number,
                self._load,
                seconds=options.poll_seconds,
                on_failure=self._failed,
            ),
            Follower(
                lambda: max(attribute_numbers(options.bundle), default=None),
                self.rules.attributes_number,
                self._load_attributes,
                seconds=options.poll_seconds,
                on_failure=self._failed,
            ),
        ]
        for follower in self._followers:
            follower.start()

    @property
    def catalogue(self) -> Catalogue:
        """The items of the version that answered last."""
        return self._retriever.catalogue

    @property
    def waiting(self) -> int:
        """How many questions no thread has taken yet."""
        return self._questions.waiting

    async def recommend(self, queries: Sequence[Query], seconds: float) -> list[Recommendation]:
        """Answers within `seconds`.

        Raises:
          QueryError: a query asks for what the items or the tower do not have, or not any more.
          QueueFullError, DeadlineError: as `WorkQueue.ask` does.
          MissingVersionError: the bundle does not have the index that the tower's answer names.
          TowerError: the tower elsewhere is busy, slow or gone.
        """
        answers = _whole(await self._questions.ask(queries, seconds))
        self.metrics.history_items.inc(sum(len(query.history) for query in queries))
        self.metrics.short_answers.inc(
            sum(len(answer.items) < (query.k or 0) for query, answer in zip(queries, answers, strict=True))
        )
        self.metrics.fallbacks.inc(sum(answer.fallback for answer in answers))
        self.metrics.unknown_items.inc(sum(answer.num_unknown for answer in answers))
        self.metrics.unknown_values.inc(sum(answer.num_unknown_values or 0 for answer in answers))
        for answer in answers:
            self.metrics.answers.labels(answer.version).inc()
            self.metrics.plans.labels(answer.plan).inc()
            if answer.steps is not None:
                self.metrics.explored.inc(len(answer.steps.get("explored", ())))
                if "reranker" in answer.steps:
                    self.metrics.reranker.labels(answer.steps["reranker"]).inc()
        return answers

    async def check(self, seconds: float) -> None:
        """Asks for an item that the tower knows, so that tower and index answer; counts no answer for it.

        Raises as `recommend` does, and TowerError where the tower does not know the item.
        """
        catalogue = self.catalogue
        [known] = catalogue.ids(np.array([0]))  # what the tower does not know comes after what it does
        probe = _Probe([known], 1, exclude_seen=False)
        [answer] = _whole(await self._questions.ask([probe], seconds))
        if answer.fallback and answer.version == catalogue.version:
            raise TowerError(
                f"The tower of version {answer.version} does not know its own item {known!r:.100}."
            )

    async def explain(self, query: Query, seconds: float) -> bytes:
        """Answers one query, and what the answer rests on, as JSON; raises as `recommend` does.

        It costs a tower row for every past item, so it has a queue of its own.
        """
        return (await self._explanations.ask([query], seconds))[0]

    async def find(self, lookup: Lookup, seconds: float) -> list[dict[str, Any]]:
        """Finds items by a text, in names; raises as `WorkQueue.ask` does.

        A search goes through the whole catalogue, so it has a queue of its own, too.
        """
        return (await self._lookups.ask([lookup], seconds))[0]

    async def similar(self, query: Query, seconds: float) -> bytes:
        """Answers the nearest items of those of a query, in names, as JSON; raises as `recommend` does.

        It may go through the whole catalogue for every item, so it has a queue of its own.
        """
        return (await self._similar.ask([query], seconds))[0]

    def close(self, seconds: float = 1.0) -> bool:
        """Answers what is waiting, then ends the threads; more than one call does no harm.

        A thread that still loads a version or waits for a tower after these seconds goes on by itself.

        Returns:
          Whether all threads have ended.
        """
        ends = time.monotonic() + seconds
        queues = (self._questions, self._explanations, self._lookups, self._similar)
        closings = [*(queue.close for queue in queues), *(follower.stop for follower in self._followers)]
        ended = [close(max(0.0, ends - time.monotonic())) for close in closings]
        if isinstance(self._tower, RemoteTower):
            self._tower.close()
        return all(ended)

    def _timed_tower(
        self,
        histories: Sequence[Sequence[str]],
        timeout: float | None = None,
        given: Sequence[Given] | None = None,
    ) -> TowerAnswer:
        with self.metrics.tower_seconds.time():
            more = [] if given is None else [given]
            return self._tower(histories, timeout, *more)

    def check_filter(self, filter: Any) -> Expression | None:
        """Reads the filter of a request; raises FilterError unless the items can be asked for it."""
        expression = parse_filter(filter)
        self.rules.check(expression, self.catalogue)
        return expression

    def shown(self, item_id: str) -> dict[str, Any]:
        """An item with its name and its attributes, as `export.service.messages.Shown`."""
        return named(self.catalogue, item_id) | {"attributes": self.rules.attributes_of(item_id)}

    def change_unavailable(self, out: Sequence[str], back: Sequence[str]) -> int:
        """Takes items out or back for every process that reads the file, and gives how many ids are out."""
        return self.rules.availability.change(out, back)

    def _answer(self, queries: list[Query], seconds: float) -> list[Recommendation | QueryError]:
        self.metrics.batch_size.observe(len(queries))
        refused = {place: error for place, query in enumerate(queries) if (error := self._refusal(query))}
        answers = iter(self._answer_good([one for n, one in enumerate(queries) if n not in refused], seconds))
        return [refused[place] if place in refused else next(answers) for place in range(len(queries))]

    def _refusal(self, query: Query) -> QueryError | None:
        """What is wrong with the values of a query; here, since many of them would hold the event loop up."""
        try:
            self._make_lists.variety_of(query)
            if query.has_values:
                plain = dataclasses.replace(query, diversity=None, category_cap=None)
                checked_queries([plain], columns=self.columns)
        except QueryError as error:
            return error
        return None

    def _answer_good(self, queries: list[Query], seconds: float) -> list[Recommendation | QueryError]:
        if not queries:
            return []
        try:
            answers = self._make_lists(queries, seconds)
        except QueryError as error:
            # The attributes have changed since the filters were checked, or the columns have: the others who
            # ask do not suffer.
            if len(queries) == 1:
                return [error]
            return [answer for query in queries for answer in self._answer_good([query], seconds)]
        real = [place for place, query in enumerate(queries) if not isinstance(query, _Probe)]
        self.metrics.traffic.observe([queries[n] for n in real], [answers[n] for n in real])
        return [*answers]

    def _explain(self, queries: list[Query], seconds: float) -> list[bytes]:
        [asked] = queries
        return [self._in_names.explained(self._retriever, self._make_lists, asked, seconds)]

    def _find_similar(self, queries: list[Query], seconds: float) -> list[bytes]:
        [asked] = queries
        return [self._in_names.similar(self._retriever, asked, seconds)]

    def _look_up(self, lookups: list[Lookup], _seconds: float) -> list[list[dict[str, Any]]]:
        catalogue = self.catalogue
        return [[named(catalogue, item) for item in catalogue.find(one.text, one.limit)] for one in lookups]

    def _loaded(self) -> None:
        """Takes the examples and the model card of the newest tower, once for all who ask."""
        try:
            bundle = self.options.bundle
            tower = tower_directory(bundle, resolve_number(bundle, None))
            description, card = read_tower(tower), read_model_card(tower)
            catalogue = self._catalogues.get(description["version"])
            self.model_card = None if card is None else json.dumps(card).encode()
            self.metrics.traffic.follow(catalogue, description["max_history"], (card or {}).get("histories"))
            path = tower / TOWER_WARM_UP
            histories = read_warm_up(path)[:_EXAMPLES] if path.is_file() else []
            examples = [[named(catalogue, item) for item in history] for history in histories]
            self.examples = json.dumps(examples).encode()
        except Exception as error:  # whatever it is, recommendations do without
            LOGGER.warning("examples or model card cannot be read; those in use stay", exc_info=error)
        self._after_loading()

    def _load(self) -> int:
        bundle = self.options.bundle
        if isinstance(self._tower, LocalTower):
            tower = LocalTower.load(bundle, None, self._catalogues)
            number = tower.number
            self._prepare(number)
            self._tower = tower
        else:  # its index is open before the first answer that names it arrives
            number = resolve_number(bundle, None)
            self._prepare(number)
            self._tower.columns = TowerColumns.newest(bundle)
        self.columns = self._tower.columns
        self.metrics.number.set(number)
        self._loaded()
        LOGGER.info("a newer version is loaded", extra={"fields": {"number": number}})
        return number

    def _prepare(self, number: int) -> None:
        """Opens the catalogue of a version, so that no request waits for it or for its attributes."""
        version = read_tower(tower_directory(self.options.bundle, number))["version"]
        self.rules.prepare(self._catalogues.get(version))

    def _load_attributes(self) -> int | None:
        if self.rules.follow(self.catalogue):
            fields = {"number": self.rules.attributes_number}
            LOGGER.info("newer attributes of items are loaded", extra={"fields": fields})
        return self.rules.attributes_number

    def _failed(self, error: Exception) -> None:
        self.metrics.load_failures.inc()
        LOGGER.error("what is newest cannot be loaded; what is in use stays", exc_info=error)

    def _unavailable_failed(self, error: Exception) -> None:
        self.metrics.unavailable_failures.inc()
        LOGGER.error("the file of unavailable items cannot be read; what it said last stays", exc_info=error)


def _whole(answers: Sequence[Recommendation | QueryError]) -> list[Recommendation]:
    """The answers to what was asked together, or the error of one of them."""
    for answer in answers:
        if isinstance(answer, QueryError):
            raise answer
    return [answer for answer in answers if isinstance(answer, Recommendation)]

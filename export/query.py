"""What is asked of a retriever, of the service, of a batch job and of Beam."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from export.filters.expression import Expression, parse_filter
from export.store.bundle_errors import BundleError, QueryError
from export.tower_columns import ID, NO_COLUMNS, Given, TowerColumns

ItemId = str | int | np.integer
# An item of a history, or a row: its `id`, and `time` and the columns of events that the tower reads.
Event = ItemId | Mapping[str, Any]


@dataclass(frozen=True)
class Query:
    """A history and what is asked about it.

    Attributes:
      history: item ids, oldest first, of any length; integers, also NumPy's, are taken for strings. Unknown
        items are ignored, so the tower reads the last `max_history` known ones. Where the tower reads columns
        of events, an item may be a row, such as `{"id": "a", "time": 1767225600, "rating": 4}`.
      k: how many items, 1 or more; None: as many as the call or the job says for all. Where fewer can be
        answered, the list is shorter.
      exclude_seen: leave out every item of the history, however long ago.
      filter: which items may be answered, by their attributes, as `export.filters.expression` says: what JSON
        has, or read already; None: all.
      allow: the ids that may be answered; None: all.
      deny: ids that are not answered.
      seed: what `export.lists.exploration`, where it is on, draws by; None: the history decides.
      user: values of the user's columns by name; what is not there is missing.
      context: values of the request's columns.
      time: of the request, in seconds since 1970, or ISO 8601 text; None: missing.
      diversity: as of `export.lists.choosing.Variety`, of this list alone; None: as for all lists.
      category_cap: the same.
    """

    history: Sequence[Event]
    k: int | None = None
    exclude_seen: bool = True
    filter: Mapping[str, Any] | Expression | None = None
    allow: Sequence[ItemId] | None = None
    deny: Sequence[ItemId] = ()
    seed: int | None = None
    user: Mapping[str, Any] | None = None
    context: Mapping[str, Any] | None = None
    time: Any = None
    diversity: float | None = None
    category_cap: int | None = None

    @property
    def item_ids(self) -> list[str]:
        """The ids of the history; of what is no id, its text."""
        return ids_of(self.history)

    @property
    def has_values(self) -> bool:
        """Whether anything is given beside ids."""
        return any(one is not None for one in (self.user, self.context, self.time)) or any(
            isinstance(one, Mapping) for one in self.history
        )


def ids_of(history: Sequence[Event]) -> list[str]:
    """The ids of a history, or of a part of it; of what is no id, its text."""
    return [str(one.get(ID)) if isinstance(one, Mapping) else str(one) for one in history]


@dataclass(frozen=True)
class CheckedQuery:
    """A query that can be answered: its ids are strings, its filter was read, and it has a k.

    `given` is what is known beside ids, by the tower's inputs; of events a value for each of the history.
    """

    history: list[str]
    k: int
    exclude_seen: bool = True
    filter: Expression | None = None
    allow: list[str] | None = None
    deny: list[str] = field(default_factory=list)
    given: Given = field(default_factory=dict)


def checked_queries(
    queries: Sequence[Query | Sequence[Event]],
    k: int | Sequence[int] | None = None,
    exclude_seen: bool | Sequence[bool] | None = None,
    columns: TowerColumns = NO_COLUMNS,
) -> list[CheckedQuery]:
    """Gives each query its k and its history as a list of strings; a bare history is a query, too.

    Args:
      queries: B of them; `Query` and histories may be mixed.
      k: one number or B of them, for those that name none.
      exclude_seen: one value or B of them, for bare histories; None: True.
      columns: what the tower reads beside ids.

    Raises:
      BundleError: a history, allow or deny is not a list of ids, k is missing or below 1, or a value was
        given for a query that has its own.
      QueryError: a filter cannot be read, or a value beside the ids is not as the tower reads it.
    """
    count = len(queries)
    ks = _one_each("k", k, count)
    excludes = _one_each("exclude_seen", exclude_seen, count)
    checked = []
    for number, (query, one_k, exclude) in enumerate(zip(queries, ks, excludes, strict=True)):
        if not isinstance(query, Query):
            query = Query(query, exclude_seen=exclude is None or bool(exclude))
        elif exclude is not None:
            raise BundleError(
                f"query {number} is a Query and says itself what exclude_seen is; leave it out."
            )
        chosen = query.k if query.k is not None else one_k
        if query.diversity is not None or query.category_cap is not None:
            raise QueryError(
                f"query {number} asks for diversity or category_cap, which `export.lists.list_maker` acts on."
            )
        if chosen is None:
            raise BundleError(f"query {number} has no k; give it in the Query, or one for all.")
        if chosen < 1:
            raise BundleError(f"k is {chosen}; it must be at least 1.")
        item_ids, events = _history(f"history {number}", query.history)
        checked.append(
            CheckedQuery(
                item_ids,
                int(chosen),
                query.exclude_seen,
                query.filter if isinstance(query.filter, Expression) else parse_filter(query.filter),
                None if query.allow is None else _item_ids(f"allow {number}", query.allow),
                _item_ids(f"deny {number}", query.deny),
                columns.given(query.user, query.context, query.time, events),
            )
        )
    return checked


def _one_each(what: str, value: Any, count: int) -> list:
    if value is None or isinstance(value, bool | int | np.integer):
        return [value] * count
    values = list(value)
    if len(values) != count:
        raise BundleError(f"{len(values)} values of {what} for {count} histories.")
    return values


def _history(place: str, history: Sequence[Event]) -> tuple[list[str], Sequence[Mapping[str, Any] | None]]:
    """The ids of a history, and its rows; none of those where it has ids alone."""
    if not isinstance(history, list | tuple) or not any(isinstance(one, Mapping) for one in history):
        return _item_ids(place, history), ()
    rows = [one if isinstance(one, Mapping) else None for one in history]
    for row in rows:
        if row is not None and ID not in row:
            raise QueryError(f"{place} has the row {row!r:.200}; wanted its {ID!r}.")
    return _item_ids(place, [one[ID] if isinstance(one, Mapping) else one for one in history]), rows


def _item_ids(place: str, history: Sequence[Any]) -> list[str]:
    """The ids of a list as texts; a number that is not whole, or a truth value, is none."""
    if isinstance(history, str | bytes) or not isinstance(history, Iterable):
        raise BundleError(f"{place} is {history!r:.200}; wanted a list of item ids.")
    items = list(history)
    for item in items:
        if not isinstance(item, str | int | np.integer) or isinstance(item, bool):
            raise BundleError(f"{place} has the item {item!r:.200}; wanted ids that are strings or integers.")
    return [str(item) for item in items]

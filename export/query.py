"""What is asked of a retriever, of the service, of a batch job and of Beam."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from export.filters.expression import Expression, parse_filter
from export.store.bundle_errors import BundleError

ItemId = str | int | np.integer


@dataclass(frozen=True)
class Query:
    """A history and what is asked about it.

    Attributes:
      history: item ids, oldest first, of any length; integers, also NumPy's, are taken for strings. Unknown
        items are ignored, so the tower reads the last `max_history` known ones.
      k: how many items, 1 or more; None: as many as the call or the job says for all. Where fewer can be
        answered, the list is shorter.
      exclude_seen: leave out every item of the history, however long ago.
      filter: which items may be answered, by their attributes, as `export.filters.expression` says: what JSON
        has, or read already; None: all.
      allow: the ids that may be answered; None: all.
      deny: ids that are not answered.
      seed: what `export.lists.exploration`, where it is on, draws by; None: the history decides.
    """

    history: Sequence[ItemId]
    k: int | None = None
    exclude_seen: bool = True
    filter: Mapping[str, Any] | Expression | None = None
    allow: Sequence[ItemId] | None = None
    deny: Sequence[ItemId] = ()
    seed: int | None = None


@dataclass(frozen=True)
class CheckedQuery:
    """A query that can be answered: its ids are strings, its filter was read, and it has a k."""

    history: list[str]
    k: int
    exclude_seen: bool = True
    filter: Expression | None = None
    allow: list[str] | None = None
    deny: list[str] = field(default_factory=list)


def checked_queries(
    queries: Sequence[Query | Sequence[ItemId]],
    k: int | Sequence[int] | None = None,
    exclude_seen: bool | Sequence[bool] | None = None,
) -> list[CheckedQuery]:
    """Gives each query its k and its history as a list of strings; a bare history is a query, too.

    Args:
      queries: B of them; `Query` and histories may be mixed.
      k: one number or B of them, for those that name none.
      exclude_seen: one value or B of them, for bare histories; None: True.

    Raises:
      BundleError: a history, allow or deny is not a list of ids, k is missing or below 1, or a value was
        given for a query that has its own.
      FilterError: a filter cannot be read.
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
        if chosen is None:
            raise BundleError(f"query {number} has no k; give it in the Query, or one for all.")
        if chosen < 1:
            raise BundleError(f"k is {chosen}; it must be at least 1.")
        checked.append(
            CheckedQuery(
                _item_ids(f"history {number}", query.history),
                int(chosen),
                query.exclude_seen,
                query.filter if isinstance(query.filter, Expression) else parse_filter(query.filter),
                None if query.allow is None else _item_ids(f"allow {number}", query.allow),
                _item_ids(f"deny {number}", query.deny),
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


def _item_ids(place: str, history: Sequence[ItemId]) -> list[str]:
    """The ids of a list as texts; a number that is not whole, or a truth value, is none."""
    if isinstance(history, str | bytes) or not isinstance(history, Iterable):
        raise BundleError(f"{place} is {history!r:.200}; wanted a list of item ids.")
    items = list(history)
    for item in items:
        if not isinstance(item, str | int | np.integer) or isinstance(item, bool):
            raise BundleError(f"{place} has the item {item!r:.200}; wanted ids that are strings or integers.")
    return [str(item) for item in items]

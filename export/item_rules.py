"""Which items the queries may be answered with: attributes, availability, and what holds for all queries."""

import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from export.filters.attribute_table import AttributeTable
from export.filters.availability import Availability, OutItems
from export.filters.expression import AllOf, Expression
from export.filters.passing_rows import PassingRows
from export.filters.row_set import RowSet
from export.filters.stored_attributes import ItemAttributes
from export.index.catalogue import Catalogue
from export.index.filtered_search import Wanted
from export.query import CheckedQuery
from export.store.bundle_errors import BundleError
from export.store.layout import UNAVAILABLE_FILE, attribute_numbers, attributes_directory


class ItemRules:
    """The rules of one bundle; safe to use from many threads."""

    def __init__(
        self,
        bundle: Path | str | None = None,
        *,
        default_filter: Expression | None = None,
        allow: Iterable[str] | None = None,
        deny: Iterable[str] = (),
        unavailable: Path | str | None = None,
        on_failure: Callable[[Exception], None] = lambda _error: None,
        category_column: str | None = None,
    ):
        """Reads the newest attributes of a bundle and what is out.

        Args:
          bundle: its directory; None: there are no attributes, and everything is available.
          default_filter: holds for every query, beside its own.
          allow: the ids that any query may be answered with; None: all.
          deny: ids that none is answered with.
          unavailable: the file of ids that are out, followed; None: `unavailable.txt` of the bundle.
          on_failure: is told when that file cannot be read any more.
          category_column: of the attributes, which lists are varied by; newer attributes must have it, too.

        Raises:
          BundleError: a file is damaged or cannot be read.
        """
        self._bundle = None if bundle is None else Path(bundle)
        self.default_filter, self.category_column = default_filter, category_column
        self._allow, self._deny = None if allow is None else frozenset(allow), frozenset(deny)
        if unavailable is None and self._bundle is not None:
            unavailable = self._bundle / UNAVAILABLE_FILE
        self.availability = Availability(None if unavailable is None else Path(unavailable), on_failure)
        self._tables: WeakKeyDictionary[Catalogue, AttributeTable] = WeakKeyDictionary()
        self._making = threading.Lock()
        self.attributes_number: int | None = None
        self._attributes = ItemAttributes(())
        self.follow()

    def follow(self, catalogue: Catalogue | None = None) -> bool:
        """Takes up newer attributes, made ready for a catalogue; tells whether there were some."""
        while True:
            numbers = [] if self._bundle is None else attribute_numbers(self._bundle)
            if not numbers or numbers[-1] == self.attributes_number:
                return False
            assert self._bundle is not None
            directory = attributes_directory(self._bundle, numbers[-1])
            try:
                attributes = ItemAttributes.load(directory)
                break
            except BundleError:
                if directory.is_dir():
                    raise  # else newer ones have taken its place meanwhile
        tables: WeakKeyDictionary[Catalogue, AttributeTable] = WeakKeyDictionary()
        if catalogue is not None:
            tables[catalogue] = table = attributes.by_row(catalogue.all_ids)
            if self.default_filter is not None:  # else every answer would fail
                table.check(self.default_filter)
            if self.category_column is not None:
                table.categories(self.category_column)
            catalogue.prepare()
        self._attributes, self._tables, self.attributes_number = attributes, tables, numbers[-1]
        return True

    def prepare(self, catalogue: Catalogue) -> None:
        """Makes now what the first filtered query of a catalogue would wait for, where there are filters."""
        if self.attributes_number is not None:
            self.table(catalogue)
            catalogue.prepare()

    def table(self, catalogue: Catalogue) -> AttributeTable:
        """The attributes of a catalogue's items."""
        tables, attributes = self._tables, self._attributes
        table = tables.get(catalogue)
        if table is None:
            with self._making:
                table = tables.get(catalogue)
                if table is None:
                    table = tables[catalogue] = attributes.by_row(catalogue.all_ids)
        return table

    def attributes_of(self, item_id: str) -> dict[str, Any]:
        """The attributes of an item by name: texts, lists, numbers, and times as ISO 8601 text."""
        return self._attributes.of(item_id)

    def categories(self, catalogue: Catalogue, rows: np.ndarray) -> np.ndarray:
        """The category of each of some rows as a number, -1 where it has none.

        Raises:
          FilterError: the attributes have no such column.
        """
        assert self.category_column is not None
        return self.table(catalogue).categories(self.category_column).codes(rows)

    def check(self, expression: Expression | None, catalogue: Catalogue) -> None:
        """Raises FilterError where a filter asks for what the items of a catalogue do not have."""
        if expression is not None:
            self.table(catalogue).check(expression)

    def num_unavailable(self, catalogue: Catalogue) -> int:
        """How many items of a catalogue are out."""
        rows = catalogue.rows(list(self.availability.now().ids))
        return len(rows)

    def wanted(
        self, catalogue: Catalogue, queries: Sequence[CheckedQuery], rows_of: Sequence[np.ndarray]
    ) -> list[Wanted]:
        """Gives what each of B queries, the rows of whose histories are given, may be answered with.

        Raises:
          FilterError: a filter asks for what is not there.
        """
        answerable, is_everything = self._answerable(catalogue, self.availability.now())
        passing: dict[Expression | None, RowSet | PassingRows | None] = {}
        wanted = []
        for query, rows in zip(queries, rows_of, strict=True):
            if query.filter not in passing:
                passing[query.filter] = self._passing(catalogue, query.filter, answerable, is_everything)
            allowed = passing[query.filter]
            if query.allow is not None:
                allowed = (allowed or answerable).among(np.unique(catalogue.rows(query.allow)))
            excluded = [rows] if query.exclude_seen else []
            excluded += [catalogue.rows(query.deny)] if query.deny else []
            distinct = np.unique(np.concatenate(excluded)) if excluded else rows[:0]
            wanted.append(Wanted(query.k, distinct, allowed))
        return wanted

    def _passing(
        self, catalogue: Catalogue, expression: Expression | None, answerable: RowSet, is_everything: bool
    ) -> RowSet | PassingRows | None:
        """What passes a filter and the rules; None: every item of the catalogue."""
        both = [one for one in (self.default_filter, expression) if one is not None]
        if not both:
            return None if is_everything else answerable
        rows = self.table(catalogue).passing(both[0] if len(both) == 1 else AllOf(tuple(both)))
        return rows if is_everything and len(catalogue) == catalogue.num_items else rows.where(answerable)

    def _answerable(self, catalogue: Catalogue, out: OutItems) -> tuple[RowSet, bool]:
        """What may be answered whatever is asked, and whether that is every item of the catalogue."""
        made = out.by_catalogue.get(catalogue)
        if made is None:
            mask = catalogue.answerable
            if self._allow is not None:
                allowed = np.zeros(len(catalogue), bool)
                allowed[catalogue.rows(list(self._allow))] = True
                mask &= allowed
            mask[catalogue.rows([*out.ids, *self._deny])] = False
            rows = RowSet(len(catalogue), mask=mask)
            made = out.by_catalogue[catalogue] = (rows, rows.count == catalogue.num_items)
        return made

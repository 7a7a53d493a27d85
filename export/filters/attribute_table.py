"""The attributes of a catalogue's items, by row, and which rows pass a filter. Shape legend: R rows."""

from collections.abc import Mapping

import numpy as np

from export.filters.columns import FilterColumn, LabelColumn
from export.filters.expression import AllOf, AnyOf, Expression, Not
from export.filters.row_set import RowSet
from export.store.bundle_errors import FilterError

# Up to this share of the rows they are listed by the sorted columns; beyond, whole columns are read.
_LISTED_SHARE = 1 / 8


class AttributeTable:
    """Columns by name, each of R rows."""

    def __init__(self, columns: Mapping[str, FilterColumn], num_rows: int):
        self.columns = dict(columns)
        self.num_rows = num_rows

    def categories(self, name: str) -> LabelColumn:
        """A column with one label a row; raises FilterError where there is none, or it is another kind."""
        column = self.columns.get(name)
        if not isinstance(column, LabelColumn) or column.kind == "multi":
            has = ", ".join(
                repr(one) for one, column in self.columns.items() if column.kind in ("category", "boolean")
            )
            got = "none" if column is None else f"one of kind {column.kind}"
            raise FilterError(
                f"The items have {got} of the attribute {name!r:.100}, wanted one of categories; there are"
                f" {has or 'none: export/item_attributes.py writes them'}."
            )
        return column

    def check(self, expression: Expression) -> None:
        """Raises FilterError where an expression names a column that is not there, or does not fit it."""
        if isinstance(expression, AllOf | AnyOf):
            for part in expression.parts:
                self.check(part)
        elif isinstance(expression, Not):
            self.check(expression.part)
        else:
            column = self.columns.get(expression.column)
            if column is None:
                has = ", ".join(map(repr, self.columns)) or "none: export/item_attributes.py writes them"
                raise FilterError(f"The items have no attribute {expression.column!r:.100}; they have {has}.")
            column.check(expression)

    def passing(self, expression: Expression) -> RowSet:
        """Gives the rows that pass; raises FilterError as `check` does."""
        self.check(expression)
        if self._at_most(expression) > _LISTED_SHARE * self.num_rows:
            return RowSet(self.num_rows, mask=self._holds(expression, None))
        rows = self._candidates(expression)
        if not self._is_listed_exactly(expression):
            rows = rows[self._holds(expression, rows)]
        return RowSet(self.num_rows, listed=rows)

    def _at_most(self, expression: Expression) -> int:
        if isinstance(expression, AllOf):
            return min(map(self._at_most, expression.parts))
        if isinstance(expression, AnyOf):
            return min(self.num_rows, sum(map(self._at_most, expression.parts)))
        if isinstance(expression, Not):
            return self.num_rows
        return self.columns[expression.column].at_most(expression)

    def _candidates(self, expression: Expression) -> np.ndarray:
        """Distinct rows, among them all that pass; no Not is asked, since it may be every row."""
        if isinstance(expression, AllOf):
            return self._candidates(min(expression.parts, key=self._at_most))
        if isinstance(expression, AnyOf):
            return np.unique(np.concatenate([self._candidates(part) for part in expression.parts]))
        if isinstance(expression, Not):
            return np.arange(self.num_rows)
        return self.columns[expression.column].passing(expression)

    def _is_listed_exactly(self, expression: Expression) -> bool:
        return not isinstance(expression, AllOf | AnyOf | Not)

    def _holds(self, expression: Expression, rows: np.ndarray | None) -> np.ndarray:
        if isinstance(expression, AllOf):
            return np.logical_and.reduce([self._holds(part, rows) for part in expression.parts])
        if isinstance(expression, AnyOf):
            return np.logical_or.reduce([self._holds(part, rows) for part in expression.parts])
        if isinstance(expression, Not):
            return ~self._holds(expression.part, rows)
        return self.columns[expression.column].holds(expression, rows)

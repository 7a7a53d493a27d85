"""The attributes of a catalogue's items, by row, and which rows pass a filter. Shape legend: R rows."""

from collections.abc import Mapping

from export.filters.columns import FilterColumn
from export.filters.expression import AllOf, AnyOf, Expression, Not
from export.filters.label_column import LabelColumn
from export.filters.passing_rows import Compiled, Either, Every, PassingRows, Without
from export.store.bundle_errors import FilterError


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
        self._compile(expression)

    def passing(self, expression: Expression) -> PassingRows:
        """Gives the rows that pass, which are not looked for yet; raises FilterError as `check` does."""
        return PassingRows(self.num_rows, self._compile(expression))

    def _compile(self, expression: Expression) -> Compiled:
        if isinstance(expression, AllOf):
            return Every(tuple(map(self._compile, expression.parts)))
        if isinstance(expression, AnyOf):
            return Either(tuple(map(self._compile, expression.parts)))
        if isinstance(expression, Not):
            return Without(self._compile(expression.part))
        column = self.columns.get(expression.column)
        if column is None:
            has = ", ".join(map(repr, self.columns)) or "none: export/item_attributes.py writes them"
            raise FilterError(f"The items have no attribute {expression.column!r:.100}; they have {has}.")
        return column.compile(expression)

"""A log that is a data frame: Polars, pandas, Arrow, or anything that speaks Arrow's C stream interface."""

from dataclasses import dataclass
from typing import Any

import polars as pl


def is_frame(source: object) -> bool:
    """Whether `as_frame` can take it."""
    return isinstance(source, pl.DataFrame | pl.LazyFrame) or hasattr(source, "__arrow_c_stream__")


def as_frame(source: Any) -> pl.DataFrame:
    """The same as a Polars frame."""
    if isinstance(source, pl.LazyFrame):
        return source.collect()
    return source if isinstance(source, pl.DataFrame) else pl.DataFrame(source)


@dataclass(frozen=True)
class Frame:
    """The rows of a data frame, as `log_rows` reads those of a file; messages call it by its `path`."""

    rows: pl.DataFrame
    path: str = "the data frame"
    header = None

    def column_names(self) -> list[str]:
        """The names of the columns."""
        return self.rows.columns

    def table(self, columns: list[str]) -> pl.DataFrame:
        """The named columns of all rows."""
        return self.rows.select(columns)

    def place_of_row(self, row: int) -> str:
        """Where row number `row` (from 0) stands, for a message."""
        return f"{self.path}, row {row}"

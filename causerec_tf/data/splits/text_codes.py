"""Text as numbers."""

import numpy as np
import polars as pl


def text_codes(column: pl.Series) -> tuple[list[str], np.ndarray]:
    """The distinct values in the order of their bytes, and each row's position among them, uint32 [rows]."""
    distinct = column.unique().sort()
    codes = column.cast(pl.Enum(distinct)).to_physical().cast(pl.UInt32)
    return distinct.to_list(), codes.to_numpy()

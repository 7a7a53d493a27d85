"""Attributes of items as columns beside their vectors.

Shape legend: N items of a catalogue, E entries (item, label).
"""

from collections.abc import Sequence

import numpy as np
import polars as pl

from export.filters.stored_attributes import ItemAttributes, Labels, Numbers

_TIME = pl.Datetime("us", "UTC")


class AttributeValues:
    """Gives the values of some items: text, lists of it, truth values, numbers, times."""

    def __init__(self, attributes: ItemAttributes):
        """Sorts the entries of each column by item."""
        self._place_of = {item: place for place, item in enumerate(attributes.ids)}
        self._columns = {
            name: _SortedLabels(column) if isinstance(column, Labels) else column
            for name, column in attributes.columns.items()
        }

    def of(self, item_ids: Sequence[str]) -> dict[str, pl.Series]:
        """A column of N values for each attribute; null where an item has none."""
        places = np.array([self._place_of.get(item, -1) for item in item_ids], np.int64)
        return {
            name: _numbers(column, places) if isinstance(column, Numbers) else column.of(places)
            for name, column in self._columns.items()
        }


class _SortedLabels:
    def __init__(self, column: Labels):
        order = np.argsort(column.items, kind="stable")
        self._items, self._codes = column.items[order], column.codes[order]
        self._kind, self._labels = column.kind, list(column.labels)

    def of(self, places: np.ndarray) -> pl.Series:
        starts = np.searchsorted(self._items, places).tolist()
        ends = np.searchsorted(self._items, places, "right").tolist()
        codes, labels = self._codes, self._labels
        several = [
            [labels[code] for code in codes[start:end].tolist()]
            for start, end in zip(starts, ends, strict=True)
        ]
        if self._kind == "multi":
            return pl.Series([one or None for one in several], dtype=pl.List(pl.String))
        values = [one[0] if one else None for one in several]
        if self._kind == "boolean":
            return pl.Series([None if one is None else one == "true" for one in values], dtype=pl.Boolean)
        return pl.Series(values, dtype=pl.String)


def _numbers(column: Numbers, places: np.ndarray) -> pl.Series:
    values = np.where(places >= 0, column.values[places], np.nan) if len(column.values) else places * np.nan
    series = pl.Series(values, dtype=pl.Float64).fill_nan(None)
    return (series * 1e6).round().cast(pl.Int64).cast(_TIME) if column.kind == "time" else series

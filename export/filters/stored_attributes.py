"""`item_attributes/<number>/` of a bundle: what filters read, by item id, whatever the version of the model.

    ids.txt            an id a line
    attributes.json    the columns: name, kind, file
    column_0.npz       numbers: `values` float64 [N]; labels: `codes`, `rows` [E] and `labels`, UTF-8 of JSON

Nothing in it is a pickle. Shape legend: N items of the table, R rows of a catalogue, E entries (item, label).
"""

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from export.filters.attribute_table import AttributeTable
from export.filters.columns import FilterColumn
from export.filters.label_column import LabelColumn
from export.filters.number_column import NumberColumn
from export.store import checksums
from export.store.bundle_errors import BundleError
from export.store.descriptions import POSITIVE, check, one_of, read_description, whole
from export.store.foreign import loading

_DESCRIPTION = "attributes.json"
_IDS = "ids.txt"
_CHECKS = {
    "format": one_of(1),
    "items": POSITIVE,
    "columns": ("a list", lambda one: isinstance(one, list)),
}
_OF_COLUMN = {
    "name": ("a string", lambda one: isinstance(one, str)),
    "kind": one_of("category", "multi", "boolean", "numeric", "time"),
}
_OF_LABELS = ("category", "multi", "boolean")
MOST_COLUMNS = 1_000


@dataclass(frozen=True)
class Labels:
    """A column of labels: item `items[e]` has `labels[codes[e]]`; int64 and int32 [E]."""

    kind: Any
    items: np.ndarray
    codes: np.ndarray
    labels: Sequence[str]


@dataclass(frozen=True)
class Numbers:
    """A column of numbers, or of times as seconds since 1970 in UTC: float64 [N], NaN where it is missing."""

    kind: Any
    values: np.ndarray


@dataclass(frozen=True)
class ItemAttributes:
    """N distinct ids and their columns by name."""

    ids: Sequence[str]
    columns: Mapping[str, Labels | Numbers] = field(default_factory=dict)

    def by_row(self, item_ids: Sequence[str]) -> AttributeTable:
        """Brings the columns into the order of a catalogue's R ids; an item without a row has no values."""
        if not self.columns:
            return AttributeTable({}, len(item_ids))
        row_of = {item_id: row for row, item_id in enumerate(item_ids)}
        rows = np.fromiter((row_of.get(item, -1) for item in self.ids), np.int64, len(self.ids))
        count = len(item_ids)
        columns: dict[str, FilterColumn] = {}
        for name, column in self.columns.items():
            if isinstance(column, Numbers):
                values = np.full(count, np.nan)
                values[rows[rows >= 0]] = column.values[rows >= 0]
                columns[name] = NumberColumn(name, column.kind, values)
                continue
            at = rows[column.items]
            order = np.argsort(at, kind="stable")  # so that the rows of a label ascend
            order = order[np.searchsorted(at[order], 0) :]
            codes = column.codes[order]
            columns[name] = LabelColumn(name, column.kind, count, at[order], codes, column.labels)
        return AttributeTable(columns, count)

    def of(self, item_id: str) -> dict[str, Any]:
        """What is known of an item by name, as filters name it: nothing that is missing, times in ISO 8601.

        It goes through all entries: this is for people who look at an item.
        """
        place = self._place_of.get(item_id)
        found: dict[str, Any] = {}
        for name, column in self.columns.items() if place is not None else ():
            if isinstance(column, Labels):
                labels = [column.labels[code] for code in column.codes[column.items == place].tolist()]
                value: Any = labels if column.kind == "multi" else labels[0] if labels else None
                found[name] = value == "true" if column.kind == "boolean" and labels else value or None
            elif not np.isnan(column.values[place]):
                value = float(column.values[place])
                is_time = column.kind == "time"
                found[name] = datetime.fromtimestamp(value, UTC).isoformat() if is_time else value
        return {name: value for name, value in found.items() if value is not None}

    @cached_property
    def _place_of(self) -> dict[str, int]:
        return {item: place for place, item in enumerate(self.ids)}

    def save(self, directory: Path) -> None:
        """Writes a new directory with its digests."""
        directory.mkdir(parents=True)
        (directory / _IDS).write_bytes("".join(f"{item}\n" for item in self.ids).encode())
        described = []
        for number, (name, column) in enumerate(self.columns.items()):
            arrays: dict[str, Any]
            if isinstance(column, Numbers):
                arrays = {"values": column.values}
            else:
                text = json.dumps(list(column.labels)).encode()
                arrays = {
                    "items": column.items,
                    "codes": column.codes,
                    "labels": np.frombuffer(text, np.uint8),
                }
            np.savez(directory / f"column_{number}.npz", **arrays)
            described.append({"name": name, "kind": column.kind})
        description = {"format": 1, "items": len(self.ids), "columns": described}
        (directory / _DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
        checksums.write(directory, {})

    @classmethod
    def load(cls, directory: Path) -> "ItemAttributes":
        """Reads what `save` wrote; raises BundleError where it is missing, damaged or cannot be."""
        description = read_description(directory, _DESCRIPTION, _CHECKS)
        checksums.verify(directory)
        place = f"{directory / _DESCRIPTION}:"
        check({"columns": len(description["columns"])}, place, {"columns": whole(0, MOST_COLUMNS)}, {})
        with loading(directory / _IDS):
            ids = checksums.read(directory, _IDS).decode().split("\n")[:-1]
        if len(ids) != description["items"] or len(set(ids)) != len(ids):
            raise BundleError(f"{directory / _IDS} does not hold {description['items']} distinct ids.")
        columns: dict[str, Labels | Numbers] = {}
        for number, described in enumerate(description["columns"]):
            check(described, f"{place} columns", _OF_COLUMN, {})
            path = directory / f"column_{number}.npz"
            with loading(path):
                columns[described["name"]] = _column(path, described["kind"], len(ids))
        return cls(ids, columns)


def _column(path: Path, kind: str, num_items: int) -> Labels | Numbers:
    with np.load(path, allow_pickle=False) as arrays:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in arrays.zip.infolist()):
            raise BundleError(f"{path} is compressed, as no column is; write the attributes again.")
        if kind not in _OF_LABELS:
            numbers = Numbers(kind, arrays["values"])
            if numbers.values.dtype != np.float64 or numbers.values.shape != (num_items,):
                raise BundleError(f"{path} does not hold {num_items} numbers; write the attributes again.")
            return numbers
        column = Labels(kind, arrays["items"], arrays["codes"], json.loads(bytes(arrays["labels"])))
    one_each = kind == "multi" or len(np.unique(column.items)) == len(column.items)
    possible = (
        column.items.dtype == np.int64
        and column.codes.dtype == np.int32
        and column.items.shape == column.codes.shape == (column.items.size,)
        and all(isinstance(label, str) for label in column.labels)
        and column.items.min(initial=0) >= 0
        and column.items.max(initial=0) < num_items
        and column.codes.min(initial=0) >= 0
        and column.codes.max(initial=-1) < len(column.labels)
    )
    if not possible or not one_each:
        raise BundleError(f"{path} holds what cannot be; write the attributes again.")
    return column

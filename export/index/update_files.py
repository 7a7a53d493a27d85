"""Reads what an index update is made of: items with their vectors, and ids to withdraw.

Upserts: JSON lines `{"id": "a", "vector": [0.1, ...], "name": "A"}` (the name is optional), or Parquet
with the same columns. Deletions: a text file with an id a line.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from export.store import text_files
from export.store.bundle_errors import BundleError


def read_upserts(path: Path) -> dict[str, Any]:
    """Reads items with vectors of one length: what an `Update` is told of them, by name.

    Raises:
      BundleError: the file cannot be read; it names the line or row and what was wanted.
    """
    rows = [(where, _checked(where, row)) for where, row in _rows(path)]
    if not rows:
        raise BundleError(f"{path} holds no items.")
    length = len(rows[0][1]["vector"])
    for where, row in rows:
        if len(row["vector"]) != length:
            raise BundleError(f"{where}: the vector has {len(row['vector'])} values, the first has {length}.")
    names = [row["name"] for _, row in rows]
    return {
        "upsert_ids": [row["id"] for _, row in rows],
        "upsert_vectors": np.stack([row["vector"] for _, row in rows]),
        "upsert_names": names if any(names) else None,
    }


def read_deletes(path: Path) -> list[str]:
    """Reads ids, one a line; raises BundleError when there are none or the file cannot be read."""
    with text_files.opened(path) as (lines, _):
        texts = [line.decode().removesuffix("\n").removesuffix("\r") for line in lines]
    ids = [text for text in texts if text]
    if not ids:
        raise BundleError(f"{path} holds no ids; wanted one a line.")
    return ids


def _rows(path: Path) -> Iterator[tuple[str, Any]]:
    """The place of each row, and what stands there."""
    if path.suffix in (".jsonl", ".ndjson"):
        with text_files.opened(path) as (lines, _):
            yield from text_files.json_rows(path, lines)
    elif path.suffix == ".parquet":
        try:
            frame = pl.read_parquet(path, glob=False)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise BundleError(f"{path} cannot be read: {error}") from error
        for number, row in enumerate(frame.iter_rows(named=True), start=1):
            yield f"{path}, row {number}", row
    else:
        raise BundleError(f"{path} is neither .jsonl nor .parquet; rename or convert it.")


def _checked(where: str, row: Any) -> dict[str, Any]:
    if isinstance(row, BundleError):
        raise row
    if not isinstance(row, dict) or not {"id", "vector"} <= row.keys():
        raise BundleError(f"{where}: wanted an id and a vector, in the columns `id` and `vector`.")
    item_id, vector, name = row["id"], row["vector"], row.get("name")
    if isinstance(item_id, int) and not isinstance(item_id, bool):
        item_id = str(item_id)
    if not isinstance(item_id, str):
        raise BundleError(f"{where}: {item_id!r:.100} is not an id; an id is a string or an integer.")
    is_vector = isinstance(vector, list) and all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in vector
    )
    if not is_vector:
        raise BundleError(f"{where}: the vector is {vector!r:.100}; wanted a list of numbers.")
    if name is not None and not isinstance(name, str):
        raise BundleError(f"{where}: the name is {name!r:.100}; wanted a string.")
    try:
        return {"id": item_id, "vector": np.array(vector, np.float32), "name": name or None}
    except OverflowError as error:
        raise BundleError(f"{where}: the vector holds a number that is too large: {error}.") from error

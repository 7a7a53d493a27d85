"""The searchable catalogue: a ScaNN index of item vectors, saved, loaded and searched.

Row r of an index is line r of its `ids.txt` and vocabulary index r + 1. ScaNN's own document ids
are not used: they are stored as a pickle, and loading a pickle runs what is written in it.
Shape legend: B queries, K vectors a query, V items, d embedding size, k results.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from export.errors import BundleError
from export.runtime import scann

DESCRIPTION = "index.json"
IDS = "ids.txt"
NAMES = "names.txt"
_FORMAT = 1


class ItemIndex:
    """Finds the items with the largest dot product; `description` is the content of `index.json`."""

    def __init__(self, searcher: Any, description: dict[str, Any]):
        """Wraps a searcher.

        Args:
          searcher: a ScannSearcher without document ids.
          description: at least `items`, `dimension`, `method` ("exact" or "tree"), `k` and
            `settings`; for a tree with `num_leaves`, `leaves_to_search` and `reorder` at that k.
        """
        self._searcher = searcher
        self.description = description

    @property
    def num_items(self) -> int:
        """V."""
        return self.description["items"]

    @property
    def fingerprint(self) -> str:
        """Which tower's vectors this index answers; known once it is saved."""
        return self.description["fingerprint"]

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Finds the k best items of each query.

        Args:
          queries: float32 [B, d], or [B, K, d] for users with several vectors: an item's score is
            then that of the best of the K.
          k: how many, in [1, V].

        Returns:
          rows int64 [B, k] and scores float32 [B, k], best first, no row twice. Where the index
          found fewer, -1 and -inf.

        Raises:
          BundleError: k, the shape or the values cannot be searched.
        """
        queries = np.ascontiguousarray(queries, np.float32)
        check_k(k, self.num_items)
        if queries.ndim not in (2, 3) or queries.shape[-1] != self.description["dimension"]:
            raise BundleError(
                f"queries are {list(queries.shape)}; wanted [B, {self.description['dimension']}] or"
                f" [B, K, {self.description['dimension']}]."
            )
        if not np.isfinite(queries).all():
            raise BundleError("queries hold values that are not finite.")
        if not queries.size:
            return np.zeros((len(queries), k), np.int64), np.zeros((len(queries), k), np.float32)
        flat = queries.reshape(-1, queries.shape[-1])
        rows, scores = self._search_flat(flat, k, **self._settings_for(k))
        short = np.isnan(scores).any(axis=1)
        if short.any() and self.description["method"] == "tree":
            # The leaves that were searched hold fewer than k items; all of them hold V.
            everything = self.description["settings"]["num_leaves"]
            rows[short], scores[short] = self._search_flat(
                flat[short], k, leaves_to_search=everything, reorder=self.num_items
            )
        missing = np.isnan(scores)
        rows[missing], scores[missing] = -1, -np.inf
        if queries.ndim == 3:
            rows, scores = _merge(rows, scores, queries.shape[1], k)
        return rows, scores

    def _settings_for(self, k: int) -> dict[str, int]:
        """Scales the settings, tuned at one k, with the number of results that is asked for."""
        if self.description["method"] == "exact":
            return {}
        settings = self.description["settings"]
        factor = max(1.0, k / self.description["k"])
        return {
            "leaves_to_search": min(settings["num_leaves"], math.ceil(factor * settings["leaves_to_search"])),
            "reorder": min(self.num_items, math.ceil(factor * settings["reorder"])),
        }

    def _search_flat(
        self,
        queries: np.ndarray,
        k: int,
        leaves_to_search: int | None = None,
        reorder: int | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        search = self._searcher.search_batched
        if len(queries) > 1:
            search = self._searcher.search_batched_parallel
        rows, scores = search(
            queries,
            final_num_neighbors=k,
            pre_reorder_num_neighbors=reorder,
            leaves_to_search=leaves_to_search,
        )
        return rows.astype(np.int64), scores

    def save(
        self,
        directory: Path,
        *,
        fingerprint: str,
        item_ids: Sequence[str],
        item_names: Sequence[str] | None = None,
    ) -> None:
        """Writes the index with its ids into a new directory that can be moved anywhere.

        Args:
          directory: made here; it must not exist.
          fingerprint: the version that the tower answers whose vectors these are.
          item_ids: V ids without a newline, in the order of the rows.
          item_names: V names for people to read; a newline in one becomes a space.
        """
        for name, values in (("item_ids", item_ids), ("item_names", item_names)):
            if values is not None and len(values) != self.num_items:
                raise BundleError(f"{name} has {len(values)} lines for {self.num_items} items.")
        directory.mkdir(parents=True)
        self._searcher.serialize(str(directory), relative_path=True)
        ids = _lines(item_ids)
        (directory / IDS).write_bytes(ids)
        if item_names is not None:
            (directory / NAMES).write_bytes(_lines([n.replace("\n", " ") for n in item_names]))
        self.description |= {
            "format": _FORMAT,
            "fingerprint": fingerprint,
            "ids_sha256": hashlib.sha256(ids).hexdigest(),
            "bytes": {file.name: file.stat().st_size for file in sorted(directory.iterdir())},
        }
        (directory / DESCRIPTION).write_text(json.dumps(self.description, indent=2) + "\n")

    @classmethod
    def load(cls, directory: Path) -> "ItemIndex":
        """Opens what `save` wrote, wherever it lies now.

        Raises:
          BundleError: it is missing, incomplete, or of a later format.
        """
        description = read_description(directory)
        for name, size in description["bytes"].items():
            file = directory / name
            if not file.is_file() or file.stat().st_size != size:
                raise BundleError(f"{file} is missing or not {size} bytes long; publish again.")
        try:
            assets = (directory / "scann_assets.pbtxt").read_text()
            native = scann.scann_pybind.ScannNumpy(str(directory), assets)
        except (OSError, RuntimeError, ValueError) as error:
            raise BundleError(f"ScaNN cannot load {directory}: {error}") from error
        return cls(scann.ScannSearcher(native), description)


def check_k(k: int, num_items: int) -> None:
    """Raises BundleError unless k is in [1, V]: ScaNN would shorten the answer without a word."""
    if not 1 <= k <= num_items:
        raise BundleError(f"k is {k}; it must be from 1 to {num_items}, the number of items.")


def read_description(directory: Path) -> dict[str, Any]:
    """Reads `index.json`; raises BundleError when it is missing or not ours."""
    path = directory / DESCRIPTION
    try:
        description = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} cannot be read ({error}); is {directory} an index?") from error
    if not isinstance(description, dict) or description.get("format") != _FORMAT:
        raise BundleError(f"{path} is not of format {_FORMAT}, the one that this version reads.")
    return description


def read_ids(directory: Path) -> list[str]:
    """Reads the V ids of an index; raises BundleError when they are not those it was saved with."""
    data = (directory / IDS).read_bytes()
    description = read_description(directory)
    if hashlib.sha256(data).hexdigest() != description["ids_sha256"]:
        raise BundleError(f"{directory / IDS} has changed since the index was saved; publish again.")
    return data.decode().split("\n")[:-1]


def read_names(directory: Path) -> list[str] | None:
    """Reads the V names of an index, or None when it was saved without."""
    path = directory / NAMES
    return path.read_bytes().decode().split("\n")[:-1] if path.is_file() else None


def _lines(values: Sequence[str]) -> bytes:
    return "".join(f"{value}\n" for value in values).encode()


def _merge(rows: np.ndarray, scores: np.ndarray, num_vectors: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Merges the answers [B * K, k] of a user's K vectors to [B, k]: best score, no row twice."""
    rows = rows.reshape(-1, num_vectors * k)
    scores = scores.reshape(-1, num_vectors * k)
    order = np.lexsort((-scores, rows))  # by row number; of equal ones, the best score first
    rows = np.take_along_axis(rows, order, axis=1)
    scores = np.take_along_axis(scores, order, axis=1)
    scores[:, 1:][rows[:, 1:] == rows[:, :-1]] = -np.inf
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    rows, scores = np.take_along_axis(rows, best, axis=1), np.take_along_axis(scores, best, axis=1)
    rows[np.isneginf(scores)] = -1
    return rows, scores

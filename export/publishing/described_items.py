"""New items described by their features alone, encoded by the run that a bundle was published from.

Beside `publish_run` this is where what is exported meets the library that trained it.
"""

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from export.index.catalogue import Catalogue
from export.index.updated_catalogue import Update
from export.publishing.current import current_catalogue
from export.store.bundle_errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from causerec_tf.runs import TrainedRun
    from causerec_tf.schema import FittedColumn
    from causerec_tf.trained_run import Run

_NAMES = "names for people"  # no column of a schema can be called so
_COMPARED = 200  # items of the run, to see whether a bundle is of it
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class DescribedItems:
    """What a table says of items, as an update of an index.

    Attributes:
      update: the items with their vectors, and names where there are any.
      left_out: ids of items of which nothing is known: no value that training saw, and not the id.
      num_known: how many of them the run knows by their ids, too.
      missing: key of a column -> items of which it is missing.
      unknown: key of a column -> values that training never saw.
    """

    update: Update
    num_known: int
    left_out: tuple[str, ...] = ()
    missing: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)


def describe_items(
    run: "Run | TrainedRun | str | os.PathLike",
    bundle: str | os.PathLike,
    table: Any,
    *,
    item_column: str = "id",
    name_column: str = "name",
) -> DescribedItems:
    """Reads a table of items and encodes them by the item tower of a run.

    A new item is what its features say. One that the run knows keeps what was learned of its id.

    Args:
      run: what `causerec_tf.train` or `causerec_tf.load_run` gives, or the directory of a run.
      bundle: published from it; its index is to be updated.
      table: a file, several, or a frame, as `causerec_tf.prepare` takes an `item_table`.
      item_column: of the ids.
      name_column: of names for people; the table may be without.

    Raises:
      BundleError: the run reads no features of items, the bundle is of another run, or nothing is known of
        any item.
      causerec_tf.InputError: the run or the table cannot be read.
    """
    from causerec_tf import runs
    from causerec_tf.data.columns import feature_fitting
    from causerec_tf.data.columns.feature_tables import read_feature_table, rows_of
    from causerec_tf.schema import Column, Schema

    trained = runs.load_trained(Path(run)) if isinstance(run, str | os.PathLike) else run
    model, dataset = trained.model, trained.dataset
    tower = model.item_tower
    if tower.features is None:
        raise BundleError(
            f"{dataset.directory} was trained on without features of items: give vectors, without --run."
        )
    current = current_catalogue(Path(bundle))
    if current is None:
        raise BundleError(f"{bundle} has no version that can be read; publish the run first.")
    item_ids = dataset.item_ids()
    _check_same(current[1], item_ids, model.item_vectors(), bundle)
    fitted = [one for one in dataset.fitted_columns("item") if one.column.name in tower.features.encoders]
    columns = [one.column for one in fitted]
    table = [os.fspath(table)] if isinstance(table, str | os.PathLike) else table
    names = None
    if _has_column(table, name_column):
        names = Column(_NAMES, "item", "text", name_column)
        columns.append(names)
    read = read_feature_table(table, "item", item_column, Schema(tuple(columns)))
    ids = read.rows["id"].to_list()
    rows, _ = rows_of(read, columns, ids)
    values: dict[str, np.ndarray] = {}
    missing: Counter[str] = Counter()
    unknown: Counter[str] = Counter()
    for one in fitted:
        key, given = one.column.key, rows[one.column.key]
        vocabulary = list(one.values())
        of = feature_fitting.Fit(one.column, vocabulary, one.mean, one.std)
        values[one.column.name] = feature_fitting.dense(one.column, feature_fitting.stored_values(of, given))
        missing[key] = given.null_count()
        if one.vocabulary:
            flat = given.explode() if one.column.kind == "multi" else given
            unknown[key] = int((~flat.drop_nulls().is_in(vocabulary)).sum())
    index = {item: number for number, item in enumerate(item_ids, start=1)}
    numbers = np.array([index.get(item, 0) for item in ids])
    is_known = (numbers > 0) | _says_something(fitted, values)
    kept = np.flatnonzero(is_known).tolist()
    if not kept:
        raise BundleError(
            f"of none of the {len(ids):,} items is anything known, such as {ids[0]!r:.100}: wanted values"
            " that training saw. Are the columns those that the dataset was prepared with?"
        )
    values = {name: stored[kept] for name, stored in values.items()}
    labels = None if names is None else rows[names.key].to_list()
    return DescribedItems(
        Update(
            upsert_ids=[ids[place] for place in kept],
            upsert_vectors=_vectors(tower, values, numbers[kept]),
            upsert_names=None if labels is None else [labels[place] for place in kept],
        ),
        num_known=int((numbers > 0).sum()),
        left_out=tuple(item for item, known in zip(ids, is_known, strict=True) if not known),
        missing=missing,
        unknown=unknown,
    )


def _says_something(fitted: "Sequence[FittedColumn]", values: dict[str, np.ndarray]) -> np.ndarray:
    """Whether there is a value that training saw, bool [N]."""
    from causerec_tf.schema import FIRST_VALUE

    found = []
    for one in fitted:
        stored = values[one.column.name]
        if one.column.kind == "numeric":
            found.append(~np.isnan(stored))
        else:
            least = FIRST_VALUE if one.column.kind in ("categorical", "multi") else None
            is_there = stored != 0 if least is None else stored >= least
            found.append(is_there.reshape(len(stored), -1).any(axis=1))
    return np.logical_or.reduce(found)


def _vectors(tower: Any, values: dict[str, np.ndarray], numbers: np.ndarray) -> np.ndarray:
    """What the features say, and what was learned of the ids that the run has, else 0: float32 [N, d]."""
    vectors = tower.features.encode(values).numpy() + tower.table.numpy()[numbers]
    return tower.as_candidates(vectors).numpy() if tower.has_unit_length else vectors


def _has_column(table: Any, name: str) -> bool:
    """Whether a table, or the first of its files, has a column."""
    from causerec_tf.data.logs import frames
    from causerec_tf.data.logs.interactions import find_files
    from causerec_tf.data.logs.log_files import open_log_file

    if frames.is_frame(table):
        return name in frames.as_frame(table).columns
    return name in open_log_file(find_files(table)[0]).column_names()


def _check_same(
    catalogue: Catalogue, item_ids: list[str], vectors: np.ndarray, bundle: str | os.PathLike
) -> None:
    """Raises BundleError unless the vectors of a bundle are those of a run, but for what was updated."""
    ids = item_ids[:_COMPARED]
    kept = [number for number, item in enumerate(ids) if len(catalogue.rows([item]))]
    same = 0
    if catalogue.dimension == vectors.shape[1] and kept:
        published = catalogue.vectors_of(catalogue.rows([ids[number] for number in kept]))
        near = np.abs(published - vectors[kept]).max(axis=1) <= _TOLERANCE * max(1.0, np.abs(vectors).max())
        same = int(near.sum())
    if same * 2 < len(ids):
        raise BundleError(
            f"{same} of the first {len(ids)} items of the run have their vectors in {bundle}: it was"
            " published from another run. Give that one with --run, or publish this one first."
        )

"""Starts a run from the towers of an earlier one whose dataset had other items and users.

Rows of the item table are matched by item id: items are numbered by frequency, so that a number means
another item in each dataset. What an item of both keeps is its vector, and the user tower keeps its weights,
both of the earlier run's best epoch. An item that is new starts among the items that training users had
before it (`new_items`); one that no training user had starts as in a run from nothing, made as long as the
vectors kept. The optimiser starts without moments: those of the best epoch are not kept, those of the last
belong to other variables, and Adam has forgotten any after a hundred steps. The concept memories start
empty: they hold what a recent step saw, and fill again within `memory_size / batch_size` steps.

With features a vector is a row of the table and what the features say. What encodes a column that both runs
read is taken over, value by value; an item of both keeps its vector, and its row makes up the difference. A
new item that no training user had is what its features say.
"""

import dataclasses
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from causerec_tf import feature_recipes, flagfiles, new_items, runs, warm_features
from causerec_tf.data.sequences import Dataset
from causerec_tf.data.splits.protocols import TRAIN_ON
from causerec_tf.errors import InputError
from causerec_tf.model import CauseRec
from causerec_tf.schema import FittedColumn
from causerec_tf.settings import Settings

# They decide what the variables are, or what a vector means.
_MUST_AGREE: tuple[str, ...] = (
    "tower",
    "embedding_dim",
    "similarity",
    "max_history",
    "num_interests",
    "biases",
)
_MUST_AGREE_ON_INTERESTS = ("num_concepts", "attention_dim")


@dataclass(frozen=True)
class WarmStart:
    """What a run starts from.

    Attributes:
      table: float32 [V + 1, d], vectors in the order of the new dataset.
      is_kept: bool [V + 1], rows of items that the earlier run knew.
      is_placed: bool [V + 1], rows of new items that have a vector from histories. The rows that are
        neither stay as the model has them, but for their length.
      user_tower: the weights of the part of the user tower that encodes histories, in its order.
      about: for the record: from which run, and what became of how many items.
      returns: the weights of what learned returns, in its order; none where nothing did.
      encoders: key of each column that was read -> how it was fitted, and the weights of its encoder.
      columns: key of each column of the new dataset -> how it is fitted.
    """

    table: np.ndarray
    is_kept: np.ndarray
    is_placed: np.ndarray
    user_tower: list[np.ndarray]
    about: dict[str, Any]
    returns: list[np.ndarray] = dataclasses.field(default_factory=list)
    encoders: dict[str, tuple[FittedColumn, list[np.ndarray]]] = dataclasses.field(default_factory=dict)
    columns: dict[str, FittedColumn] = dataclasses.field(default_factory=dict)

    def put_into(self, model: CauseRec) -> None:
        """Fills the towers of a new model."""
        for key, encoder in model.feature_encoders().items():
            if key in self.encoders:
                fitted, weights = self.encoders[key]
                now = warm_features.carried(fitted, self.columns[key], weights, encoder.get_weights())
                encoder.set_weights(now)
        given = self.is_kept | self.is_placed
        if model.item_tower.features is not None:
            table = np.where(given[:, np.newaxis], self.table - model.item_tower.feature_vectors(), 0)
        else:
            table = model.item_embeddings() * new_items.mean_lengths(self.table, self.is_kept)
            table[given] = self.table[given]
        model.item_tower.table.assign(table)
        for variable, value in zip(model.user_tower.of_histories.weights, self.user_tower, strict=True):
            variable.assign(value)
        if model.returns is not None and self.returns:
            for variable, value in zip(model.returns.weights, self.returns, strict=True):
                variable.assign(value)


def read(settings: Settings, dataset: Dataset) -> WarmStart:
    """Reads the run that `settings.warm_start` names, for a new run on another dataset.

    Raises:
      InputError: the run cannot be read, its settings or its split of users do not fit, or it knows none of
        the items.
    """
    source = Path(settings.warm_start)
    if os.path.realpath(source) == os.path.realpath(settings.run):
        raise InputError(
            f"--warm_start={source} is --run itself. Leave --warm_start out to go on with a stopped run, or"
            " give the new run a directory of its own."
        )
    check_settings(flagfiles.read(runs.RunDirectory(source, flag="--warm_start").flags), settings)
    # --dataset is that of the new run.
    earlier = runs.load_trained(source, if_elsewhere="correct that line")
    _check_split(earlier, settings, dataset, source)
    rows = rows_of(earlier.dataset.item_ids(), dataset.item_ids())
    if earlier.model.trained_items is not None:
        rows[~np.isin(rows, earlier.model.trained_items)] = 0  # nothing trained their vectors
    is_kept = rows > 0
    num_kept = int(is_kept.sum())
    if num_kept == 0:
        raise InputError(
            f"--warm_start={source} knows none of the {dataset.num_items:,} items of {dataset.directory}:"
            f" its first is {earlier.dataset.item_ids()[0]!r}, theirs {dataset.item_ids()[0]!r}. Prepare both"
            " datasets from logs with the same item ids."
        )
    table = earlier.model.item_embeddings()[rows]
    weights = [weight.numpy() for weight in earlier.model.user_tower.of_histories.weights]
    table, is_placed = new_items.from_histories(table, is_kept, dataset, settings.max_history)
    reads_items = feature_recipes.reads_items(settings, dataset)
    about = {
        "run": str(source),
        "epoch": int(tf.train.latest_checkpoint(runs.RunDirectory(source).best).rpartition("-")[2]),
        "is_finished": earlier.is_finished,
        "dataset": {"name": earlier.dataset.name, "fingerprint": earlier.dataset.fingerprint},
        "towers_sha256": _digest([earlier.model.item_embeddings(), *weights]),
        "items": {
            "kept": num_kept,
            "new_from_histories": int(is_placed.sum()),
            "new_from_features" if reads_items else "new_at_random": dataset.num_items
            - num_kept
            - int(is_placed.sum()),
            "gone": earlier.dataset.num_items - num_kept,
        },
    }
    returns = earlier.model.returns.get_weights() if earlier.model.returns is not None else []
    fitted = _columns_of(earlier.dataset)
    encoders = {
        key: (fitted[key], encoder.get_weights()) for key, encoder in earlier.model.feature_encoders().items()
    }
    return WarmStart(table, is_kept, is_placed, weights, about, returns, encoders, _columns_of(dataset))


def describe(about: dict) -> str:
    """What a warm start found, in words."""
    items = about["items"]
    new = sum(count for name, count in items.items() if name.startswith("new_"))
    note = "" if about["is_finished"] else "\nnote: that run is not finished; this is its best epoch so far"
    return (
        f"starting from epoch {about['epoch']} of {about['run']}: {items['kept']:,} items keep their vectors,"
        f" {new:,} are new"
        f" ({items['new_from_histories']:,} placed by the histories before them),"
        f" {items['gone']:,} are gone{note}"
    )


def _columns_of(dataset: Dataset) -> dict[str, FittedColumn]:
    return {one.column.key: one for one in feature_recipes.fitted_columns(dataset)}


def rows_of(known_ids: list[str], wanted_ids: list[str]) -> np.ndarray:
    """The row in the table of one vocabulary of each index of another, int64 [wanted + 1].

    It is 0, padding's row, for padding and for what is unknown.
    """
    row_of = {item_id: row for row, item_id in enumerate(known_ids, start=1)}
    return np.array([0, *(row_of.get(item_id, 0) for item_id in wanted_ids)])


def check_settings(earlier: Settings, settings: Settings) -> None:
    """Raises `InputError` where the towers of one run do not fit into another, with both values."""
    names = _MUST_AGREE
    if settings.reads_interests and earlier.reads_interests:
        names += _MUST_AGREE_ON_INTERESTS
    elif settings.reads_interests or earlier.reads_interests:
        names += ("method",)
    there, here = dataclasses.asdict(earlier), dataclasses.asdict(settings)
    differing = [
        f"--{name}={there[name]} there, --{name}={here[name]} here"
        for name in names
        if there[name] != here[name]
    ]
    if differing:
        raise InputError(
            f"--warm_start={settings.warm_start} has towers of another kind: {'; '.join(differing)}. Train"
            " with the settings of that run, or without --warm_start."
        )


def _check_split(earlier: runs.TrainedRun, settings: Settings, dataset: Dataset, source: Path) -> None:
    """What the earlier run was trained on must not be what the new one is measured on."""
    if not dataset.measures("validation"):
        return
    if message := _difference_of_protocols(earlier, settings, dataset):
        raise InputError(f"--warm_start={source} may have learnt what would be measured now: {message}.")
    there, here = earlier.dataset.info["split_seed"], dataset.info["split_seed"]
    if there != here:
        raise InputError(
            f"--warm_start={source} was trained with the users of --split_seed={there}, but"
            f" {dataset.directory} is split by --split_seed={here}: it has learnt from users that would be"
            f" measured now. Prepare the dataset with --split_seed={there}."
        )


def _difference_of_protocols(earlier: runs.TrainedRun, settings: Settings, dataset: Dataset) -> str:
    """How the earlier run may have been trained on what this one is measured on, in words; empty if not."""
    there, here = earlier.dataset.protocol, dataset.protocol
    if there["name"] != here["name"]:
        return f"its dataset has the protocol {there['name']}, {dataset.directory} has {here['name']}"
    if earlier.settings.train_on != settings.train_on:
        return f"it has --train_on={earlier.settings.train_on}, this run --train_on={settings.train_on}"
    cut = "test_from" if settings.train_on == TRAIN_ON[1] else "validation_from"
    if there.get(cut, 0) > here.get(cut, 0):
        return f"its dataset has {cut}={there[cut]}, {dataset.directory} has {here[cut]}, which is earlier"
    return ""


def _digest(arrays: list[np.ndarray]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()

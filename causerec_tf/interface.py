"""What `import causerec_tf as cr` offers a notebook: prepare, train, load_run, and a run to ask.

Frames go in (Polars, pandas, Arrow), and Polars frames come out.
"""

import dataclasses
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from causerec_tf import flagfiles, recipes
from causerec_tf.data.columns.features_of_log import of_events, read_features
from causerec_tf.data.logs import frames
from causerec_tf.data.logs.interactions import read_frame, read_log
from causerec_tf.data.logs.log_settings import LogSettings
from causerec_tf.data.preparation import generated, generated_with_features
from causerec_tf.data.preparation import prepare as prepare_log
from causerec_tf.data.sequences import Dataset, open_dataset
from causerec_tf.data.splits.filters import Filters
from causerec_tf.data.splits.protocol_settings import ProtocolSettings
from causerec_tf.data.splits.protocols import USERS
from causerec_tf.errors import InputError
from causerec_tf.model import CauseRec
from causerec_tf.progress_bar import ProgressBar
from causerec_tf.retraining import settings_like
from causerec_tf.schema import Column, Schema, read_schema, schema_of
from causerec_tf.settings import ModelSettings, ObjectiveSettings, Settings
from causerec_tf.train_run import train_run
from causerec_tf.trained_run import Run, load_run
from causerec_tf.training import steps_per_epoch

# In a notebook it would tell of every file that it writes.
logging.getLogger("tensorflow").setLevel(logging.WARNING)

__all__ = ["Run", "load_run", "prepare", "read_recipe", "train"]


def prepare(
    source: Any,
    directory: str | Path,
    *,
    user: str = "user_id",
    item: str = "item_id",
    time: str | None = "timestamp",
    time_format: str | None = None,
    item_names: Mapping[Any, str] | None = None,
    min_user_count: int = 1,
    min_item_count: int = 1,
    max_user_count: int | None = None,
    protocol: str = USERS,
    validation_from: str | None = None,
    test_from: str | None = None,
    test_target: str | None = None,
    given_test: Any = None,
    split_seed: int = 0,
    num_shards: int = 8,
    on_bad_row: str = "error",
    schema: Schema | str | Path | Sequence[Mapping[str, Any] | Column] | None = None,
    item_table: Any = None,
    user_table: Any = None,
    item_table_id: str | None = None,
    user_table_id: str | None = None,
    generated_features: bool = False,
    overwrite: bool = False,
) -> Dataset:
    """Prepares a log: orders it by user and time, splits the users 8:1:1, writes a dataset.

    Args:
      source: a Polars, pandas or Arrow frame, a path or glob or several of them, or None for the generated
        world.
      directory: of the dataset to make.
      user: name of the column of user ids: text or integers.
      item: the same for item ids.
      time: the same for times; None: the order of the rows is the time.
      time_format: how times are written, where they are text in no usual notation; such as `%d.%m.%Y`.
      item_names: item id -> readable name.
      min_user_count: least number of events of a user.
      min_item_count: least number of events of an item.
      max_user_count: so many events of a user, the last; None: all.
      protocol: who is trained and measured on: `users`, `leave_one_out`, `time`, `given` or `none`; see
        docs/protocols.md.
      validation_from: of `time`: where validation begins: a date, a number in the unit of the log's times, or
        a share such as `q.9`. None: `q.9` of what comes before `test_from`.
      test_from: of `time`: where test begins.
      test_target: of `time`: `all` events after the cut, or each user's `last`. None: `all`.
      given_test: of `given`: the published test lists, a frame where `source` is one, else paths or globs.
      split_seed: decides which users are train, validation and test.
      num_shards: TFRecord files of each split.
      on_bad_row: `error`, or `skip`: leave such rows out and count them.
      schema: the columns beyond user, item and time: a schema file, or the columns, each as there.
      item_table: a table of items, a row each: a frame, or paths and globs; see docs/data_format.md.
      user_table: the same of users.
      item_table_id: name of the table's column of item ids; None: as `item`.
      user_table_id: the same of users.
      generated_features: of the generated world: with features, and with items that no training user touched;
        the schema is the world's own.
      overwrite: replace the dataset that is there.

    Returns:
      The dataset.

    Raises:
      InputError: the log cannot be used; the message says where and why.
    """
    asked, filters = (
        ProtocolSettings(protocol, validation_from, test_from, test_target),
        Filters(min_user_count, min_item_count, max_user_count),
    )
    asked.check(filters, split_seed, has_test_lists=given_test is not None)
    columns = _schema(schema)
    if generated_features and (columns or source is not None):
        given = "a log" if source is not None else "schema="
        raise InputError(f"generated_features with {given}: the generated world has its own. Leave one out.")
    features = read_features(
        columns,
        {
            "item": (_table(item_table), item_table_id or item),
            "user": (_table(user_table), user_table_id or user),
        },
        on_bad_row,
    )
    names = None if item_names is None else {str(key): name for key, name in item_names.items()}
    if source is None:
        if of_events(columns):
            raise InputError(f"{of_events(columns)[0].key}: the generated world has no such columns.")
        if generated_features:
            log, world_names, features = generated_with_features(split_seed)
        else:
            log, world_names = generated()
        names = world_names if names is None else names
    else:
        settings = LogSettings(
            user_column=user,
            item_column=item,
            time_column=time or "",
            time_format=time_format,
            order="file" if time is None else "time",
            on_bad_row=on_bad_row,
            features=of_events(columns),
        )
        if frames.is_frame(source):
            frame, test_frame = _frame(source, settings), None
            if given_test is not None:
                test_frame = _frame(given_test, settings)
            log = read_frame(frame, settings, test_frame)
        else:
            log = read_log(_paths(source), settings, [] if given_test is None else _paths(given_test))
    return prepare_log(
        log,
        directory,
        filters=filters,
        protocol=asked,
        split_seed=split_seed,
        num_shards=num_shards,
        item_names=names,
        features=features,
        overwrite=overwrite,
    )


def _schema(asked: Schema | str | Path | Sequence[Mapping[str, Any] | Column] | None) -> Schema:
    if asked is None or isinstance(asked, Schema):
        return asked or Schema()
    return read_schema(asked) if isinstance(asked, str | Path) else schema_of(asked)


def _table(source: Any) -> Any:
    return source if source is None or frames.is_frame(source) else _paths(source)


def _frame(source: Any, settings: LogSettings) -> pl.DataFrame:
    """A data frame with the columns that are wanted; an `InputError` where it lacks one, or is none."""
    if not frames.is_frame(source):
        raise InputError(f"given_test is {source!r:.80}: wanted a data frame, as the training lists are.")
    frame = frames.as_frame(source)
    for column in settings.roles().values():
        if column not in frame.columns:
            raise InputError(
                f"the data frame has no column {column!r}, but {', '.join(frame.columns)}. Name yours"
                " with user=, item= and time=; time=None takes the order of the rows."
            )
    return frame


def _paths(source: Any) -> list[str]:
    """The paths and globs of files."""
    if frames.is_frame(source):
        raise InputError("given_test is a data frame: wanted paths, as the training lists are.")
    return [os.fspath(path) for path in ([source] if isinstance(source, str | os.PathLike) else source)]


def train(
    dataset: Dataset | str | Path,
    directory: str | Path,
    *,
    recipe: str | Path | None = None,
    like: str | Path | None = None,
    model: CauseRec | None = None,
    test: bool = True,
    progress: bool = True,
    **settings: Any,
) -> Run:
    """Trains a run, or goes on with the one in the directory; the same call reads a finished one.

    Args:
      dataset: to train on.
      directory: of the run.
      recipe: the name of a recipe, such as `recommended`, or the path of a flagfile.
      like: the directory of a finished run, instead of a recipe: its settings and the number of epochs of its
        best, to train on everything without validation; see `retraining.settings_like`.
      model: composed by hand, instead of a recipe and of settings of the model and the objective.
      test: whether the test users are measured at the end.
      progress: whether a bar shows steps and time left.
      **settings: by the names of the flags of pipelines/train.py; they come after the recipe.

    Returns:
      The run, with the towers of its best epoch.

    Raises:
      InputError: a setting cannot be or has no effect, or the directory holds another run.
    """
    opened = dataset if isinstance(dataset, Dataset) else open_dataset(dataset)
    places: dict[str, Any] = {"run": os.fspath(directory), "dataset": os.fspath(opened.directory)}
    known = {field.name for field in dataclasses.fields(Settings)} - set(places)
    if unknown := [name for name in settings if name not in known]:
        raise InputError(f"{unknown[0]}={settings[unknown[0]]!r}: there is no such setting.")
    if model is not None:
        _check_left_to_model(recipe, settings)
        settings = {"max_history": model.max_history, "seed": model.seed} | settings
    if like is not None and recipe is not None:
        raise InputError(
            f"recipe={recipe!r} and like={str(like)!r}: the run has its settings. Leave one out."
        )
    if like is not None:
        asked = settings_like(like, opened, places | settings, model)
    else:
        asked = dataclasses.replace(read_recipe(recipe) if recipe else Settings(), **places, **settings)
    asked.check_acting(list(settings))
    opened = asked.view_of(opened)
    steps = steps_per_epoch(asked, opened, model)
    bar = ProgressBar(steps, asked.last_epoch, asked.choose_by) if progress else None
    try:
        train_run(
            asked,
            opened,
            model=model,
            test=test,
            command="causerec_tf.train",
            callbacks=[bar] if bar else [],
            on_start=bar.begin if bar else lambda progress: None,
            on_epoch=bar.print_epoch if bar else lambda epoch: None,
        )
    finally:
        if bar:
            bar.close()
    return load_run(directory, opened, model=model)


def read_recipe(recipe: str | Path) -> Settings:
    """The settings of a recipe, by its name or its flagfile.

    Raises:
      InputError: there is no such recipe or file.
    """
    return flagfiles.read(recipes.flagfile(recipe))


def _check_left_to_model(recipe: object, settings: Mapping[str, Any]) -> None:
    """Raises `InputError` where settings say what the model that was handed in says."""
    of_model = {
        field.name for group in (ModelSettings, ObjectiveSettings) for field in dataclasses.fields(group)
    }
    given = [name for name in settings if name in of_model]
    if recipe is not None or given:
        what = f"recipe={recipe!r}" if recipe is not None else f"{given[0]}={settings[given[0]]!r}"
        raise InputError(f"{what} with model=: the model is composed already. Leave one of them out.")

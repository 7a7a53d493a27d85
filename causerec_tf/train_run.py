"""A run from its settings to its record: it begins or goes on, trains, is measured, is written down."""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

import tensorflow as tf

from causerec_tf import feature_recipes, files, measurement, recipes, records, runs, training, warm_start
from causerec_tf.data.sequences import Dataset
from causerec_tf.data.training_events import TrainingEvents
from causerec_tf.distributed import strategies
from causerec_tf.errors import InputError
from causerec_tf.model import CauseRec
from causerec_tf.progress import Epoch, Progress, is_used_up
from causerec_tf.settings import Settings


def train_run(
    settings: Settings,
    dataset: Dataset,
    *,
    model: CauseRec | None = None,
    test: bool = True,
    command: str = "",
    task: strategies.Task | None = None,
    callbacks: Sequence[tf.keras.callbacks.Callback] = (),
    on_start: Callable[[Progress], None] = lambda progress: None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    say: Callable[[str], None] = lambda line: None,
) -> dict | None:
    """Trains a run, or what is left of it; a finished one is only read.

    Args:
      settings: of the run; `settings.run` is its directory.
      dataset: to train and measure on.
      model: composed by hand; None: as the settings say.
      test: whether the test users are measured at the end, if the dataset has any. A run that lacks them is
        measured again.
      command: for the record.
      task: this process's part in a distributed run; None: it trains alone.
      callbacks: for Keras, such as a progress bar.
      on_start: called once with where training goes on from.
      on_epoch: called after each validation.
      say: called with lines for people.

    Returns:
      The record; None in a process that is not the chief.

    Raises:
      InputError: the dataset, the settings or what is in the directory do not fit.
      training.NonFiniteLossError: the loss is not finite.
      LostTaskError: another process of the distribution was lost.
    """
    dataset = settings.view_of(dataset)
    test = test and dataset.measures("test")
    is_chief = task is None or task.is_chief
    run = runs.RunDirectory(Path(settings.run))
    if is_chief:  # the others may look while it is being made
        run.check_place()
    kept = files.read_json(run.metrics) if run.metrics.exists() else None
    missing = run.missing(kept, test=test)
    # A finished run goes on where more epochs or more patience are asked for.
    is_trained = kept is not None and is_used_up(kept["epochs"], kept["best_epoch"], settings)
    if is_trained and not missing:
        if is_chief:
            run.check(settings, dataset, model)
        runs.check_best(run, finished=True)
        say(f"{run.path} is finished: this is its record, {run.metrics}.")
        return kept
    dataset.verify()
    training.check_users(dataset, validates=not settings.stop_after)
    feature_recipes.check_strategy(settings, dataset)
    # Before TensorFlow computes anything.
    distribution = strategies.start(settings, dataset.num_items, task)
    source = None
    if settings.warm_start and not run.has_checkpoint:
        source = warm_start.read(settings, dataset)
        say(warm_start.describe(source.about))
    with run.locked() if is_chief else contextlib.nullcontext():
        if is_chief:
            run.start(settings, dataset, model)
        if is_trained:
            if not run.has_checkpoint:
                raise InputError(
                    f"{run.path} is finished, but lacks {', '.join(missing)}, and has no checkpoint to"
                    " measure again. Choose another --run to train it anew."
                )
            say(f"{run.path} is trained, but lacks {', '.join(missing)}: measuring it again.")
        say(
            f"{records.system_of(settings, model)} on {dataset.name}: {dataset.num_items:,} items,"
            f" {dataset.num_training_windows:,} training examples,"
            f" {training.steps_per_epoch(settings, dataset, model):,} steps per epoch"
        )
        if not distribution.is_chief:
            say("training with the others; the chief reports")
        trained, progress = training.train(
            settings,
            dataset,
            run,
            model=model,
            warm_start=source,
            distribution=distribution,
            callbacks=callbacks,
            on_start=on_start,
            on_epoch=on_epoch,
        )
        if not distribution.is_chief:
            return None
        measured = None
        if test:
            measured = measurement.measure(
                trained,
                measurement.users_of(dataset, "test", trained.max_history),
                TrainingEvents(dataset),
                baselines=recipes.baselines(recipes.CHEAP_BASELINES),
            )
            for exclude_seen, of_policy in measured.items():
                files.write_arrays(
                    run.test_users_without_seen if exclude_seen else run.test_users, of_policy.per_user
                )
        record = records.run_record(
            settings,
            dataset,
            progress,
            measured,
            command=command,
            distribution=distribution.about,
            model=model,
        )
        files.write_json(run.metrics, record)
    return record

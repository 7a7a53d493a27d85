"""One trial, in a process of its own: how many epochs fit its time, the training, what validation gives.

How fast it is is measured once and kept, so that a trial that was stopped goes on with the same epochs.
"""

import dataclasses
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from causerec_tf import files
from causerec_tf.settings import WITHOUT_SEEN, Settings
from pipelines.command_line import streams

MOST_EPOCHS = 40
_NOTHING = 1e-6  # for a figure of 0, which has no geometric mean
_WARM_UP_STEPS, _TIMED_STEPS = 12, 24


def run(settings: Settings, seconds: float, directory: Path) -> None:
    """Trains a trial and writes `result.json` and `users.npz` to its directory.

    Args:
      settings: of the trial, its epochs aside.
      seconds: that it may take.
      directory: of the trial; the run is in it, and a log of what is printed.
    """
    directory.mkdir(parents=True, exist_ok=True)
    streams.print_to(directory / "log.txt")
    from causerec_tf import measurement, runs
    from causerec_tf.data.sequences import open_dataset
    from causerec_tf.data.training_events import TrainingEvents
    from causerec_tf.train_run import train_run
    from causerec_tf.training import NonFiniteLossError
    from pipelines.command_line import command

    command.keep_freed_memory()
    dataset = settings.view_of(open_dataset(settings.dataset))
    kept = directory / "epochs.json"
    if not kept.exists():
        files.write_json(kept, _epochs_that_fit(settings, dataset, seconds))
    pace = files.read_json(kept)
    settings = dataclasses.replace(settings, epochs=pace["epochs"], patience=pace["epochs"])
    try:
        record = train_run(settings, dataset, test=False, command="a trial", say=print)
    except NonFiniteLossError as error:
        files.write_json(directory / "result.json", {"failed": str(error)})
        return
    assert record is not None
    model = runs.load_trained(Path(settings.run), dataset.directory).model
    measured = measurement.measure(
        model,
        measurement.users_of(dataset, "validation", model.max_history),
        TrainingEvents(dataset),
    )
    users = {
        metric + WITHOUT_SEEN * left_out: values
        for left_out, one in measured.items()
        for metric, values in one.per_user.items()
    }
    files.write_arrays(directory / "users.npz", users)
    result: dict[str, Any] = {
        "epochs": pace["epochs"],
        "seconds_per_epoch": pace["seconds_per_epoch"],
        "best_epoch": record["best_epoch"],
        "score": score_of(settings.choose_by, {left_out: one.model for left_out, one in measured.items()}),
        "validation": measured[False].model,
        "without_seen": measured[True].model if True in measured else {},
    }
    files.write_json(directory / "result.json", result)


def score_of(choose_by: str, figures: Mapping[bool, Mapping[str, float]]) -> float:
    """What trials are compared by: the figure that epochs are, if it is not the default one.

    By default the geometric mean of Recall@50 and NDCG@50, seen items kept and, where a target is none of
    these, left out: a gain in one is not to cost as much of the other.

    Args:
      choose_by: as the setting.
      figures: by whether seen items are left out, metric -> value.
    """
    if choose_by == Settings().choose_by:
        return statistics.geometric_mean(
            values[metric] or _NOTHING for values in figures.values() for metric in ("recall@50", "ndcg@50")
        )
    metric = choose_by.removesuffix(WITHOUT_SEEN)
    return figures[metric != choose_by][metric]


def _epochs_that_fit(settings: Settings, dataset: Any, seconds: float) -> dict[str, float]:
    """How many epochs fit a time, 1 at least, by some steps that are timed and thrown away."""
    import tensorflow as tf

    from causerec_tf import feature_recipes, measurement, training
    from causerec_tf.data.windows import training_batches
    from causerec_tf.evaluation import rank_users

    features = feature_recipes.features_of(dataset)
    model = training.compiled_model(settings, dataset.num_items, features=features)
    training.know(model, dataset)
    batches = training_batches(
        dataset,
        batch_size=settings.batch_size,
        max_history=settings.max_history,
        seed=settings.seed,
        epoch=0,
        targets_ahead=settings.targets_ahead,
        whole_sequences=model.whole_sequences,
    )
    step = tf.function(model.train_step, reduce_retracing=True, autograph=False)
    started, timed = time.monotonic(), 0
    for number, batch in enumerate(batches.repeat().take(_WARM_UP_STEPS + _TIMED_STEPS)):
        if number == _WARM_UP_STEPS:
            started, timed = time.monotonic(), 0
        step(batch)
        timed += 1
    of_steps = (time.monotonic() - started) / timed * training.steps_per_epoch(settings, dataset)
    users = measurement.users_of(dataset, "validation", settings.max_history)
    started = time.monotonic()
    rank_users(model, users, 50, exclude_seen=False)
    of_epoch = of_steps + time.monotonic() - started
    epochs = min(MOST_EPOCHS, max(1, int(seconds / of_epoch)))
    return {"epochs": epochs, "seconds_per_epoch": round(of_epoch, 3)}

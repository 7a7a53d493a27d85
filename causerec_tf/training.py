"""Trains a run: epochs, validation, checkpoints, early stopping, and going on after a stop."""

import re
import time
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from causerec_tf import checkpoints, evaluation, feature_recipes, recipes, runs
from causerec_tf.data.holdout import EvaluationUsers, evaluation_users
from causerec_tf.data.sequences import Dataset
from causerec_tf.data.splits.protocols import EVERYTHING
from causerec_tf.data.target_counts import counts_of_targets
from causerec_tf.data.training_records import trained_items
from causerec_tf.data.windows import num_batches
from causerec_tf.distributed import strategies
from causerec_tf.distributed.asynchronous import AsynchronousTrainer
from causerec_tf.distributed.strategies import Distribution
from causerec_tf.errors import InputError
from causerec_tf.metrics import CUTOFFS
from causerec_tf.model import CauseRec
from causerec_tf.optimizers import SparseAdam
from causerec_tf.progress import Epoch, LossSums, Progress
from causerec_tf.settings import WITHOUT_SEEN, Settings
from causerec_tf.warm_start import WarmStart

STEPS_BETWEEN_SUMMARIES = 100


class NonFiniteLossError(RuntimeError):
    """The training loss became infinite or not a number."""


def check_users(dataset: Dataset, *, validates: bool = True) -> None:
    """Checks that every split has users for its purpose, from the counts alone.

    Args:
      dataset: to train on.
      validates: whether the epoch is chosen. If not, a dataset that measures nobody will do.

    Raises:
      InputError: there is nothing to learn from, to choose the epoch by, or to measure the result on.
    """
    purposes = [("training", dataset.num_training_windows, "to learn from")]
    if validates:
        purposes += [
            ("validation", dataset.num_evaluation_users("validation"), "to choose the epoch by"),
            ("test", dataset.num_evaluation_users("test"), "to measure the result on"),
        ]
        if dataset.protocol["name"] == EVERYTHING:
            raise InputError(
                f"{dataset.directory} was prepared with --protocol=none: it has no validation user to choose"
                " the epoch by. Name a run whose settings and number of epochs to take with --like, or give"
                " the number of epochs with --stop_after."
            )
    kinds = dataset.target_events.target_events
    among = f", a later one of target_events={','.join(kinds)}," if kinds else ""
    for split, count, purpose in purposes:
        if count == 0:
            raise InputError(
                f"{dataset.directory} has no {split} user with two events or more{among} {purpose}."
                f" {dataset.remedy_for_nobody}"
            )


def steps_per_epoch(settings: Settings, dataset: Dataset, model: CauseRec | None = None) -> int:
    """The number of steps of one epoch, of a model composed by hand or of the one that the settings make."""
    whole = settings.whole_sequences if model is None else model.whole_sequences
    longest = settings.max_history if whole else 0
    return num_batches(dataset, settings.batch_size, longest_sequence=longest)


def train(
    settings: Settings,
    dataset: Dataset,
    run: runs.RunDirectory,
    *,
    model: CauseRec | None = None,
    warm_start: WarmStart | None = None,
    distribution: Distribution | None = None,
    callbacks: Sequence[tf.keras.callbacks.Callback] = (),
    on_start: Callable[[Progress], None] = lambda progress: None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> tuple[CauseRec, Progress]:
    """Trains until the epochs or the patience are used up, from the last checkpoint if there is one.

    The order of the data and every random draw are functions of the seed, the epoch and the step, so a
    run that was stopped at any moment ends as one that was not. (On parameter servers the order in which
    steps end is that of the moment.)

    Args:
      settings: of the run.
      dataset: to train and validate on.
      run: its directory, started with the same settings.
      model: composed by hand; None: as the settings say. It trains on one device.
      warm_start: what to start from where there is no checkpoint yet; wanted if `settings.warm_start` is.
      distribution: what `strategies.start` made of the settings; None to start it now. Each process of a
        synchronous one calls this; only the chief writes to the run's directory, and all read it.
      callbacks: for Keras, such as a progress bar.
      on_start: called once with where the run goes on from.
      on_epoch: called after each validation.

    Returns:
      The model with the towers of its best epoch, and what the epochs gave. In a process that is not the
      chief the towers are those of the last epoch.

    Raises:
      InputError: the dataset does not pass `check_users`, a checkpoint cannot be read, or the processes were
        not given the same settings.
      NonFiniteLossError: the loss is not finite.
      LostTaskError: another process of the distribution was lost.
    """
    if distribution is None:
        distribution = strategies.start(settings, dataset.num_items, strategies.read_task(settings.strategy))
    with distribution.lost_tasks_explained():
        return _train(settings, dataset, run, model, warm_start, distribution, callbacks, on_start, on_epoch)


def _train(settings, dataset, run, model, warm_start, distribution, callbacks, on_start, on_epoch):
    dataset = settings.view_of(dataset)
    validates = not settings.stop_after
    check_users(dataset, validates=validates)
    distribution.check_agreement(dataset.fingerprint + settings.to_flagfile())
    validation_users = None
    if validates:
        validation_users = evaluation_users(dataset.read("validation"), settings.max_history)
        _check_choice(settings, dataset, validation_users)
    steps = steps_per_epoch(settings, dataset, model)
    num_steps = settings.epochs * steps
    if model is None:
        features = feature_recipes.features_of(dataset)
        model = compiled_model(
            settings, dataset.num_items, distribution, num_steps=num_steps, features=features
        )
    else:
        _check_composed(model, settings, dataset)
        if model.optimizer is None:
            _compile(model, settings, distribution, num_steps)
        model.optimizer.build(model.trainable_variables)
    know(model, dataset)

    progress = Progress()
    checkpoints.check_list(run.checkpoints)
    checkpoints.check_list(run.best)
    checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer, progress=progress)
    kept = manager = tf.train.CheckpointManager(checkpoint, run.checkpoints, max_to_keep=2)
    if distribution.scratch is not None:
        manager = tf.train.CheckpointManager(checkpoint, distribution.scratch.name, max_to_keep=1)
    if kept.latest_checkpoint is not None:
        checkpoints.restore_last(kept)
    elif settings.warm_start:
        assert warm_start is not None, "settings.warm_start wants warm_start.read()"
        warm_start.put_into(model)
        progress.warm_start = warm_start.about | {
            "validation": _validate(model, validation_users, distribution, settings.choose_by)
        }
        manager.save()  # from here on the run needs no other one
    if distribution.is_chief and progress.best is not None:
        # Not after days of training, when it is wanted.
        runs.check_best(run, finished=progress.is_finished(settings), epoch=progress.best.number)
    on_start(progress)

    best = tf.train.CheckpointManager(runs.towers(model), run.best, max_to_keep=2)
    if distribution.is_chief:
        for one in (manager, best):
            checkpoints.sweep(one)
        writer = tf.summary.create_file_writer(str(run.events))
    else:
        writer = tf.summary.create_noop_writer()
    keeper = _Keeper(manager, progress, model.optimizer, writer, settings.checkpoint_steps, steps)
    fit = _fitter(model, settings, steps, distribution)
    while not progress.is_finished(settings):
        epoch = _train_epoch(
            fit, settings, dataset, progress, [keeper, *callbacks], distribution, model.whole_sequences, steps
        )
        epoch.validation = _validate(model, validation_users, distribution, settings.choose_by)
        epoch.is_best = _is_best(epoch, progress.best, settings)
        if epoch.is_best and distribution.is_chief:
            # Before the checkpoint that calls it the best: killed between the two, the run trains the
            # epoch's end again and writes the same towers again.
            best.save(checkpoint_number=epoch.number)
        progress.epochs.append(epoch)
        progress.epoch, progress.batch, progress.losses = epoch.number, 0, LossSums()
        manager.save()
        if epoch.validation:
            _summarise(writer, int(model.optimizer.iterations.numpy()), "validation", epoch.validation)
        on_epoch(epoch)
    assert progress.best is not None
    if distribution.is_chief:
        runs.restore_best(model, run, progress.best.number)
    return model, progress


def know(model: CauseRec, dataset: Dataset) -> None:
    """Tells a model what it has to know of a dataset before it is trained."""
    model.know_items_of(dataset.num_trained_items, trained_items(dataset))
    if model.wants_targets:
        model.know_targets(counts_of_targets(dataset))


def compiled_model(
    settings: Settings,
    num_items: int,
    distribution: Distribution | None = None,
    *,
    num_steps: int | None = None,
    features: feature_recipes.DatasetFeatures | None = None,
) -> CauseRec:
    """A new model with its optimiser, every variable made.

    Args:
      settings: of the run.
      num_items: V, the catalogue's size without padding.
      distribution: whose variables they are; None for one device.
      num_steps: of the whole run, for a schedule of the learning rate; None: the rate stays.
      features: what the dataset knows beyond user, item and time; None: nothing.
    """
    distribution = distribution or strategies.one_device()
    with distribution.strategy.scope():
        model = recipes.compose(settings, num_items, features)
        _compile(model, settings, distribution, num_steps)
    return model


def _compile(model: CauseRec, settings: Settings, distribution: Distribution, num_steps: int | None) -> None:
    """Gives a model the optimiser of the settings."""
    rate: float | tf.keras.optimizers.schedules.LearningRateSchedule = settings.learning_rate
    if settings.learning_rate_schedule == "linear" and num_steps is not None:
        rate = tf.keras.optimizers.schedules.PolynomialDecay(rate, num_steps, end_learning_rate=0.0)
    optimizer = SparseAdam(
        rate,
        beta_2=settings.adam_beta_2,
        l2=settings.weight_decay,
        every_row=settings.update_rows == "all",
        # Each item is looked up once, but by each replica.
        distinct_rows=distribution.num_replicas == 1,
    )
    optimizer.build(model.trainable_variables)
    model.compile(optimizer=optimizer, steps_per_execution=settings.steps_per_execution)


def _check_composed(model: CauseRec, settings: Settings, dataset: Dataset) -> None:
    """Raises `InputError` where a model that was composed by hand does not fit."""
    if model.num_items != dataset.num_items:
        raise InputError(
            f"the item tower has {model.num_items:,} items, and {dataset.directory} {dataset.num_items:,}:"
            " give ItemTower(dataset.num_items, ...)."
        )
    for name in ("max_history", "seed"):
        if getattr(settings, name) != getattr(model, name):
            raise InputError(
                f"{name}={getattr(settings, name)}, but the model was composed with {getattr(model, name)}:"
                " make them alike."
            )
    if settings.strategy != "one_device":
        raise InputError(
            f"strategy={settings.strategy}: a model that was composed by hand trains on one device."
        )


def _check_choice(settings: Settings, dataset: Dataset, users: EvaluationUsers) -> None:
    """Raises `InputError` where no validation user can choose the epoch as asked."""
    if settings.choose_by.endswith(WITHOUT_SEEN) and not users.are_targets_unseen().any():
        raise InputError(
            f"--choose_by={settings.choose_by}: every target of the validation users of {dataset.directory}"
            f" is in the history. Choose by {settings.choose_by.removesuffix(WITHOUT_SEEN)}."
        )


def _is_best(epoch: Epoch, best_so_far: Epoch | None, settings: Settings) -> bool:
    """Whether an epoch is better than all before it; without validation, whether it is the last."""
    if settings.stop_after:
        return epoch.number == settings.stop_after
    if best_so_far is None:
        return True
    return epoch.validation[settings.choose_by] > best_so_far.validation[settings.choose_by]


def _validate(
    model: CauseRec, users: EvaluationUsers | None, distribution: Distribution, choose_by: str
) -> dict[str, float]:
    """The figures of the validation users; also those without seen items where they choose the epoch.

    None, where nobody is asked.
    """
    if users is None:
        return {}
    policies = evaluation.POLICIES if choose_by.endswith(WITHOUT_SEEN) else (False,)

    def ranked(share: slice) -> np.ndarray:
        part = users.part(share.start, share.stop)
        return np.stack(evaluation.rank_by_policies(model, part, max(CUTOFFS), policies), axis=1)

    lists = distribution.in_shares(ranked, len(users))
    validation = evaluation.figures(lists[:, 0], users)
    if len(policies) > 1:
        part, places = users.only_targets(users.are_targets_unseen())
        of_part = evaluation.figures(lists[places, 1], part)
        validation |= {f"{name}{WITHOUT_SEEN}": value for name, value in of_part.items()}
    return validation


def _fitter(model: CauseRec, settings: Settings, steps: int, distribution: Distribution):
    """What trains on what is left of an epoch of so many steps, and gives the means of the loss parts."""
    if distribution.coordinator is not None:
        trainer = AsynchronousTrainer(
            model, distribution, steps_a_round=min(settings.checkpoint_steps, STEPS_BETWEEN_SUMMARIES)
        )

        def fit_asynchronously(batches, progress: Progress, callbacks) -> dict[str, float]:
            first_step = progress.epoch * steps + progress.batch
            return trainer.fit(batches, first_step=first_step, callbacks=callbacks)

        return fit_asynchronously

    def fit(batches, progress: Progress, callbacks) -> dict[str, float]:
        # Keras wants to be told the length of what TensorFlow distributes.
        left = None if distribution.is_one_device else steps - progress.batch
        history = model.fit(batches, steps_per_epoch=left, verbose=0, callbacks=callbacks).history
        return {name: values[-1] for name, values in history.items()}

    return fit


def _train_epoch(
    fit, settings, dataset: Dataset, progress: Progress, callbacks, distribution, whole_sequences, steps
) -> Epoch:
    """Trains what is left of the next epoch, of so many steps."""
    batches = distribution.batches(
        dataset,
        settings,
        epoch=progress.epoch,
        skip_batches=progress.batch,
        whole_sequences=whole_sequences,
    )
    examples = dataset.num_training_windows - progress.batch * settings.batch_size
    if whole_sequences:
        # How many predictions the steps before had, nobody has counted.
        examples = dataset.num_training_windows * (steps - progress.batch) // steps
    before, steps = progress.losses, steps - progress.batch
    started = time.monotonic()
    try:
        losses = fit(batches, progress, callbacks)
    except tf.errors.InvalidArgumentError as error:
        if "is not finite at step" in error.message:
            raise explain_non_finite(error.message, settings) from None
        raise
    except (tf.errors.DataLossError, tf.errors.NotFoundError) as error:
        # Keras puts lines about the graph before TensorFlow's own words, which name the file.
        said = error.message.partition("[[{{node")[0].strip().splitlines()
        what = said[-1] if said else type(error).__name__
        raise InputError(
            f"{dataset.directory} was damaged or moved away while it was read: {what}. Put it back as it was,"
            " or prepare it again, and give the same command: the run goes on from its last checkpoint."
        ) from error
    seconds = time.monotonic() - started
    losses = before.plus(losses, steps).means()
    return Epoch(progress.epoch + 1, losses, {}, examples, seconds, is_best=False)


def explain_non_finite(message: str, settings: Settings) -> NonFiniteLossError:
    """The step and the loss parts, from the failed assertion, with the likely cause."""
    parts = re.findall(r"\[([^\]]*)\]", message.partition("[[{{node")[0])
    report = " ".join(parts).replace("= ", "=").replace("-nan", "nan")
    names = ("lambda_co", "lambda_ii", "lambda_cm")
    weights = ", ".join(f"--{name}={getattr(settings, name)}" for name in names)
    return NonFiniteLossError(
        f"{report}. The likely cause is too large a step: lower --learning_rate (now"
        f" {settings.learning_rate}), raise --temperature (now {settings.temperature}) or lower the"
        f" weight of the part that grew ({weights}). Checkpoints, if any, are from before this step."
    )


def _summarise(writer, step: int, group: str, values: dict[str, float]) -> None:
    with writer.as_default(step):
        for name, value in values.items():
            tf.summary.scalar(f"{group}/{name}", value)
    writer.flush()


class _Keeper(tf.keras.callbacks.Callback):
    """Counts the batches of the epoch, saves checkpoints between them, writes losses for TensorBoard."""

    def __init__(self, manager, progress: Progress, optimizer, writer, checkpoint_steps, steps_an_epoch):
        super().__init__()
        self._supports_tf_logs = True  # tensors stay tensors: no step waits for them
        self._manager = manager
        self._progress = progress
        self._optimizer = optimizer
        self._writer = writer
        self._checkpoint_steps = checkpoint_steps
        self._steps_an_epoch = steps_an_epoch

    def on_train_begin(self, logs=None) -> None:
        self._start, self._before = self._progress.batch, self._progress.losses

    def on_train_batch_end(self, batch, logs=None) -> None:
        before, now = self._progress.batch, self._start + batch + 1
        self._progress.batch = now
        # The epoch's end is saved after its validation. Saved before, nothing would be left to resume.
        if _passes_multiple(before, now, self._checkpoint_steps) and now < self._steps_an_epoch:
            self._progress.losses = self._before.plus(logs, now - self._start)
            self._manager.save()
        if _passes_multiple(before, now, STEPS_BETWEEN_SUMMARIES):
            _summarise(self._writer, int(self._optimizer.iterations.numpy()), "training", logs)


def _passes_multiple(before: int, now: int, step: int) -> bool:
    return now // step > before // step

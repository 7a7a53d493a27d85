"""The directory of a run: its settings, its checkpoints, its figures.

flags.txt        a flagfile that reruns it
dataset.txt      fingerprint of the dataset it was trained on
checkpoints/     model, optimiser, memory, position: what a resumed run goes on from
best/            both towers as they were after the best epoch on validation users
events/          TensorBoard
test_users.npz   metric -> a value for each test user, in the dataset's order; without it if not measured
metrics.json     the result record: written last, and so the sign of a finished run
"""

import dataclasses
import fcntl
import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from causerec_tf.data.sequences import Dataset, open_dataset
from causerec_tf.errors import InputError
from causerec_tf.model import CauseRec
from causerec_tf.settings import Settings

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunDirectory:
    """Where things are in a run's directory."""

    path: Path

    @property
    def flags(self) -> Path:
        """The flagfile."""
        return self.path / "flags.txt"

    @property
    def checkpoints(self) -> Path:
        """What a resumed run goes on from."""
        return self.path / "checkpoints"

    @property
    def best(self) -> Path:
        """The best epoch's model."""
        return self.path / "best"

    @property
    def events(self) -> Path:
        """TensorBoard's."""
        return self.path / "events"

    @property
    def metrics(self) -> Path:
        """The result record."""
        return self.path / "metrics.json"

    @property
    def test_users(self) -> Path:
        """The figures of each test user."""
        return self.path / "test_users.npz"

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is a checkpoint to go on from.

        Raises:
          InputError: the list of checkpoints is damaged.
        """
        check_list(self.checkpoints)
        return tf.train.latest_checkpoint(self.checkpoints) is not None

    def start(self, settings: Settings, dataset: Dataset) -> None:
        """Makes the directory, or checks that the run found there is this one.

        Raises:
          InputError: another run is there: other settings, or another dataset.
        """
        if self.flags.exists():
            found = Settings.from_flagfile(self.flags)
            # Where the run and its dataset lie may be spelled otherwise; the fingerprint is what counts.
            found = dataclasses.replace(found, run=settings.run, dataset=settings.dataset)
            if found.warm_start and os.path.realpath(found.warm_start) == os.path.realpath(
                settings.warm_start
            ):
                found = dataclasses.replace(found, warm_start=settings.warm_start)
            if found != settings:
                raise InputError(
                    f"{self.path} holds a run with other settings"
                    f" ({difference(found, settings)}). Choose another --run, or remove it."
                )
            self.check_dataset(dataset)
            return
        if self.checkpoints.exists():
            raise InputError(
                f"{self.path} has checkpoints but no {self.flags.name}, so that nobody knows of what settings"
                " they are. Choose another --run, or remove the directory."
            )
        self.path.mkdir(parents=True, exist_ok=True)
        write_text(self.path / "dataset.txt", dataset.fingerprint + "\n")
        write_text(self.flags, settings.to_flagfile())

    def missing(self, record: dict | None, *, test: bool) -> list[str]:
        """What the run does not have yet, in words; nothing if it is finished.

        Args:
          record: what `metrics.json` holds; None where there is none.
          test: whether the test users' figures are wanted.
        """
        if record is None:
            return [self.metrics.name]
        missing = [] if "settings" in record else [f"the settings in {self.metrics.name}"]
        if test and "test" not in record:
            missing.append("the figures of the test users")
        if test and not self.test_users.exists():
            missing.append(self.test_users.name)
        return missing

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from training the same run; the lock ends with its process.

        Raises:
          InputError: another process has it.
        """
        with (self.path / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise InputError(f"{self.path} is being trained by another process. Wait for it.") from error
            yield

    def check_dataset(self, dataset: Dataset) -> None:
        """Raises `InputError` if the run was trained on another dataset."""
        trained_on = (self.path / "dataset.txt").read_text(encoding="utf-8").strip()
        if dataset.fingerprint != trained_on:
            raise InputError(
                f"{dataset.directory} has fingerprint {dataset.fingerprint[:16]}, but the run in"
                f" {self.path} was trained on {trained_on[:16]}. Its item numbers would mean other"
                " items: use the dataset of that run, or train a new one."
            )


@dataclass(frozen=True)
class TrainedRun:
    """A trained run, ready to evaluate or export.

    Attributes:
      model: with the variables of its best epoch.
      settings: it was trained with.
      dataset: it was trained on.
      is_finished: whether its training came to its end; if not, the best epoch may be still to come.
    """

    model: CauseRec
    settings: Settings
    dataset: Dataset
    is_finished: bool


def load_trained(directory: Path | str) -> TrainedRun:
    """Loads the best epoch of a run.

    Args:
      directory: of the run.

    Returns:
      The model with its settings and dataset.

    Raises:
      InputError: no run is there, it has no finished epoch, a checkpoint is broken, or its dataset is
        missing or another.
    """
    run = RunDirectory(Path(directory))
    settings = Settings.from_flagfile(run.flags)
    dataset = open_dataset(settings.dataset)
    run.check_dataset(dataset)
    model = CauseRec(settings, dataset.num_items)
    restore_best(model, run)
    return TrainedRun(model, settings, dataset, run.metrics.exists())


def restore_best(model: CauseRec, run: RunDirectory, epoch: int | None = None) -> None:
    """Puts the variables of the best epoch into the model.

    Args:
      model: to fill.
      run: its directory.
      epoch: the number of that epoch; None for the one saved last.

    Raises:
      InputError: no epoch is finished, or the checkpoint cannot be read.
    """
    check_list(run.best)
    latest = tf.train.latest_checkpoint(run.best) if epoch is None else str(run.best / f"ckpt-{epoch}")
    if latest is None:
        raise InputError(f"{run.path} has no finished epoch yet: let pipelines/train.py finish one.")
    restore(towers(model), latest)


def check_list(directory: Path) -> None:
    """Checks the file `checkpoint`, by which TensorFlow knows the checkpoints of a directory.

    TensorFlow takes one that it cannot read for none, so that a run would start again from nothing.

    Args:
      directory: of the checkpoints; it, or the file, may be missing.

    Raises:
      InputError: the file is there, and names no checkpoint.
    """
    path = directory / "checkpoint"
    if not path.exists():
        return
    try:
        state = tf.train.get_checkpoint_state(str(directory))
    except ValueError:
        state = None
    if state is None:
        numbers = [int(file.stem.rpartition("-")[2]) for file in directory.glob("ckpt-*.index")]
        last = f"ckpt-{max(numbers)}" if numbers else "ckpt-N"
        raise InputError(
            f"{path} is damaged: it names no checkpoint. Write the line\n"
            f'model_checkpoint_path: "{last}"\n'
            "into it to go on from that one, or choose another --run."
        )


def restore_last(manager: tf.train.CheckpointManager) -> None:
    """Reads the last checkpoint, or where it is damaged the one before, with a warning.

    Args:
      manager: of the checkpoints, at least one.

    Raises:
      InputError: none can be read; the message is about the last.
    """
    failures = []
    # A list that was mended by hand names the last one alone, and the manager then lists none.
    for path in dict.fromkeys([manager.latest_checkpoint, *reversed(manager.checkpoints)]):
        try:
            restore(manager.checkpoint, path)
        except InputError as error:
            failures.append((path, error))
            continue
        for failed, _ in failures:
            _logger.warning("The checkpoint %s cannot be read: going on from %s.", failed, path)
        return
    raise failures[0][1]


def sweep(manager: tf.train.CheckpointManager) -> None:
    """Removes what killed saves have left beside the checkpoints, which may be as large as these.

    A save writes into `ckpt-<n>_temp`, and its list into `checkpoint.tmp<random>`. It removes the checkpoint
    that falls off the list after it has written the list. TensorFlow comes back to none of these.

    Args:
      manager: of the directory. Where it lists nothing, every checkpoint stays: the list may have been mended
        by hand.
    """
    directory = Path(manager.directory)
    listed = {Path(path).name for path in manager.checkpoints}
    for path in directory.glob("ckpt-*_temp"):
        shutil.rmtree(path)
    for path in directory.glob("checkpoint.tmp*"):
        path.unlink()
    for path in [*directory.glob("ckpt-*.index"), *directory.glob("ckpt-*.data-*")] if listed else []:
        if path.stem not in listed:
            path.unlink()


def restore(checkpoint: tf.train.Checkpoint, path: str) -> None:
    """Reads a checkpoint.

    Args:
      checkpoint: what to fill.
      path: of the checkpoint, without the ending of its files.

    Raises:
      InputError: its files are damaged, or are of another model.
    """
    try:
        checkpoint.restore(path).assert_existing_objects_matched()
    # TensorFlow turns what its reader meets into Python's own kinds of error, IndexError for a short file.
    except (tf.errors.OpError, AssertionError, ValueError, IndexError) as error:
        raise InputError(
            f"the checkpoint {path} cannot be read: {error}\nRemove its files and the file `checkpoint`"
            " beside them and run pipelines/train.py again, or choose another --run."
        ) from error


def towers(model: CauseRec) -> tf.train.Checkpoint:
    """What is kept of the best epoch: what is evaluated and exported, without optimiser or memory."""
    return tf.train.Checkpoint(item_tower=model.item_tower, user_tower=model.user_tower)


def read_json(path: Path) -> dict:
    """Reads what `write_json` wrote.

    Raises:
      InputError: it cannot be read, or is no JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}. Remove it, and make it again.") from error
    if not isinstance(value, dict):
        raise InputError(f"{path} holds {type(value).__name__}, wanted a JSON object: it is no record.")
    return value


def write_text(path: Path, text: str) -> None:
    """Writes a file beside its place and renames it, so that no reader meets half of it."""
    beside = path.with_name(f".{path.name}.tmp")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


def write_json(path: Path, value: dict) -> None:
    """Writes JSON as `write_text` does; a value that is not finite is an error."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes arrays as a compressed .npz, as `write_text` writes text; no pickle is needed to read it."""
    beside = path.with_name(f".{path.name}.tmp")
    with beside.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    beside.replace(path)


def difference(found: Settings, asked: Settings) -> str:
    """What differs between the settings that were found and those asked for, in words."""
    there, wanted = dataclasses.asdict(found), dataclasses.asdict(asked)
    return "; ".join(
        f"--{name}={there[name]} there, --{name}={wanted[name]} asked for"
        for name in there
        if there[name] != wanted[name]
    )

"""The directory of a run: its settings, its checkpoints, its figures.

flags.txt        a flagfile that reruns it
parts.txt        the parts of a model that was composed by hand; without it the settings make the model
dataset.txt      fingerprint of the dataset it was trained on
checkpoints/     model, optimiser, memory, position: what a resumed run goes on from
best/            both towers as they were after the best epoch on validation users
events/          TensorBoard
test_users.npz   metric -> a value for each test user, in the dataset's order; without it if not measured
test_users_without_seen.npz   the same without seen items, of those who have another target
metrics.json     the result record: written last, and so the sign of a finished run
"""

import dataclasses
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf

from causerec_tf import checkpoints, feature_recipes, files, flagfiles, recipes
from causerec_tf.data.sequences import Dataset, open_dataset
from causerec_tf.data.training_records import trained_items
from causerec_tf.errors import InputError
from causerec_tf.model import CauseRec
from causerec_tf.settings import Settings

# What a start that was killed before it wrote the flagfile may have left.
SEARCH = "search"  # of a run whose recipe was found for it: what was tried
_BEFORE_FLAGS = (
    ".lock",
    SEARCH,
    *(one for name in ("dataset.txt", "parts.txt") for one in (name, f".{name}.unfinished")),
    ".flags.txt.unfinished",
)


class RunDirectory:
    """Where things are in a run's directory, by the names above.

    Raises:
      InputError: TensorFlow would take the path for a pattern of file names.
    """

    def __init__(self, path: Path, flag: str = "--run"):
        """Names the places.

        Args:
          path: of the directory.
          flag: that names its place, for errors.
        """
        checkpoints.check_name(path, flag)
        self.path = path
        self.flag = flag
        self.flags = path / "flags.txt"
        self.parts = path / "parts.txt"
        self.checkpoints = path / "checkpoints"
        self.best = path / "best"
        self.events = path / "events"
        self.metrics = path / "metrics.json"
        self.test_users = path / "test_users.npz"
        self.test_users_without_seen = path / "test_users_without_seen.npz"

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is a checkpoint to go on from.

        Raises:
          InputError: the list of checkpoints is damaged.
        """
        checkpoints.check_list(self.checkpoints)
        return tf.train.latest_checkpoint(self.checkpoints) is not None

    def check_place(self) -> None:
        """Checks that the directory is a run's, or may become one: what others have made is left alone.

        Raises:
          InputError: files are there, and no run.
        """
        if self.flags.exists() or not self.path.is_dir():
            return
        if self.checkpoints.exists():
            raise InputError(
                f"{self.path} has checkpoints but no {self.flags.name}, so that nobody knows of what settings"
                f" they are. Choose another {self.flag}, or remove the directory."
            )
        others = sorted(path.name for path in self.path.iterdir() if path.name not in _BEFORE_FLAGS)
        if others:
            raise InputError(
                f"{self.path} is not empty and no run: it has {others[0]} but no {self.flags.name}. Choose"
                f" another {self.flag}: a directory that is not there yet, or is empty."
            )

    def check(self, settings: Settings, dataset: Dataset, model: CauseRec | None = None) -> None:
        """Checks that the run found there, if any, is this one.

        Args:
          settings: of the run.
          dataset: it trains on.
          model: one that was composed by hand; None for one that the settings make.

        Raises:
          InputError: another run is there, of other settings or another dataset, or files that are no run.
        """
        self.check_place()
        if not self.flags.exists():
            return
        if differs := self._difference(settings):
            raise InputError(
                f"{self.path} holds a run with other settings ({differs}). Choose another {self.flag}, or"
                " remove it."
            )
        self.check_parts(model)
        self.check_dataset(dataset)

    def start(self, settings: Settings, dataset: Dataset, model: CauseRec | None = None) -> None:
        """Makes the directory, or checks that the run found there is this one; within `locked`.

        `model` is one that was composed by hand; None for one that the settings make.

        Raises:
          InputError: another run is there, of other settings or another dataset, or files that are no run.
        """
        self.check(settings, dataset, model)
        if not self.flags.exists():
            self.path.mkdir(parents=True, exist_ok=True)
            self.parts.unlink(missing_ok=True)
            if model is not None:
                files.write_text(self.parts, model.describe() + "\n")
            files.write_text(self.path / "dataset.txt", dataset.fingerprint + "\n")
        if not self.flags.exists() or settings.to_flagfile() != self.flags.read_text(encoding="utf-8"):
            files.write_text(self.flags, settings.to_flagfile())

    def departure(self, settings: Settings, dataset: Dataset) -> str:
        """What the run that is there has otherwise than is asked for, in words; empty if nothing, or no run.

        Raises:
          InputError: files are there, and no run, or its flagfile cannot be read.
        """
        self.check_place()
        if not self.flags.exists():
            return ""
        return self._difference(settings) or difference_of_datasets(self._trained_on(), dataset)

    def _difference(self, settings: Settings) -> str:
        found = flagfiles.read(self.flags)
        if found.warm_start and os.path.realpath(found.warm_start) == os.path.realpath(settings.warm_start):
            found = dataclasses.replace(found, warm_start=settings.warm_start)
        return difference(found, settings)

    def _trained_on(self) -> str:
        return (self.path / "dataset.txt").read_text(encoding="utf-8").strip()

    def missing(self, record: dict | None, *, test: bool) -> list[str]:
        """What the run does not have yet, in words; nothing if it is finished.

        Args:
          record: what `metrics.json` holds, if it is there.
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
        """Makes the directory and keeps other processes from training the same run, until the block ends.

        Raises:
          InputError: another process has it.
        """
        busy = f"{self.path} is being trained by another process. Wait for it."
        with files.only_one(self.path / ".lock", busy):
            yield

    def check_parts(self, model: CauseRec | None) -> None:
        """Raises `InputError` if the run's model is composed of other parts."""
        found = self.parts.read_text(encoding="utf-8").strip() if self.parts.exists() else ""
        asked = model.describe() if model is not None else ""
        if found == asked:
            return
        made = "the model that its settings make"
        remedy = "A model that was composed in Python is handed in: model=..."
        raise InputError(
            f"{self.path} holds a run of another model. It has\n{found or made}\nwhere this is\n"
            f"{asked or made}\n{remedy if found else 'Choose another place.'}"
        )

    def check_dataset(self, dataset: Dataset) -> None:
        """Raises `InputError` if the run was trained on another dataset."""
        trained_on = self._trained_on()
        if dataset.fingerprint != trained_on:
            raise InputError(
                f"{dataset.directory} has fingerprint {dataset.fingerprint[:16]}, but the run in"
                f" {self.path} was trained on {trained_on[:16]}. Its item numbers would mean other"
                " items: use the dataset of that run, or train a new one."
            )


@dataclass(frozen=True)
class TrainedRun:
    """A trained run, ready to evaluate or export: the model has the variables of its best epoch.

    `is_finished` is whether its training came to its end; if not, the best epoch may be still to come.
    `directory` is where its record lies, if it has one.
    """

    model: CauseRec
    settings: Settings
    dataset: Dataset
    is_finished: bool
    directory: Path | None = None


def load_trained(
    directory: Path | str,
    dataset: Path | str | None = None,
    *,
    model: CauseRec | None = None,
    if_elsewhere: str = "name its place with --dataset",
) -> TrainedRun:
    """Loads the best epoch of a run.

    Args:
      directory: of the run.
      dataset: where the run's dataset is; None for the place in the run's flagfile, which, if relative, is
        relative to the working directory.
      model: of a run that was composed by hand: the same parts again.
      if_elsewhere: what an error advises where that place has no such dataset.

    Raises:
      InputError: no run is there, it has no finished epoch, a checkpoint is broken, or its dataset is
        missing or another.
    """
    run = RunDirectory(Path(directory))
    settings = flagfiles.read(run.flags)
    try:
        opened = settings.view_of(open_dataset(dataset or settings.dataset))
        run.check_dataset(opened)
    except InputError as error:
        if dataset:
            raise
        relative = "" if Path(settings.dataset).is_absolute() else ", relative to the working directory"
        raise InputError(
            f"{error}\nThe place {settings.dataset} stands in {run.flags}{relative}. If the run's dataset is"
            f" elsewhere, {if_elsewhere}."
        ) from error
    run.check_parts(model)
    model = model or recipes.compose(settings, opened.num_items, feature_recipes.features_of(opened))
    model.know_items_of(opened.num_trained_items, trained_items(opened))
    restore_best(model, run)
    return TrainedRun(model, settings, opened, run.metrics.exists(), run.path)


def restore_best(model: CauseRec, run: RunDirectory, epoch: int | None = None) -> None:
    """Puts the variables of the best epoch, by its number or the one saved last, into the model.

    Raises:
      InputError: no epoch is finished, or the checkpoint cannot be read.
    """
    checkpoints.check_list(run.best)
    latest = tf.train.latest_checkpoint(run.best) if epoch is None else str(run.best / f"ckpt-{epoch}")
    if latest is None:
        check_best(run, finished=run.metrics.exists())
        raise InputError(f"{run.path} has no finished epoch yet: let pipelines/train.py finish one.")
    checkpoints.restore(towers(model), latest, _without_best(run))


def check_best(run: RunDirectory, *, finished: bool, epoch: int = 0) -> None:
    """Checks that the best epoch's checkpoint is there and whole, where the run needs it at its end.

    Args:
      run: its directory.
      finished: whether training has ended.
      epoch: the number of the best epoch so far, by the checkpoint that training goes on from; 0 for none.
    """
    if not finished and not epoch:
        return
    checkpoints.check_list(run.best)
    latest = tf.train.latest_checkpoint(run.best)
    if latest is None:
        raise InputError(f"{run.best} has lost the checkpoint of the best epoch.\n{_without_best(run)}")
    if not finished and int(latest.rpartition("-")[2]) > epoch:
        return  # the run was set back: what was better then will be, and is written again
    checkpoints.check_whole(latest, _without_best(run))


def _without_best(run: RunDirectory) -> str:
    return (
        "The towers of the best epoch are nowhere else. Remove the whole directory"
        f" {run.path} and run pipelines/train.py again, or train under another --run."
    )


def towers(model: CauseRec) -> tf.train.Checkpoint:
    """What is kept of the best epoch: what is evaluated and exported, without optimiser or memory."""
    returns = {} if model.returns is None else {"returns": model.returns}
    return tf.train.Checkpoint(item_tower=model.item_tower, user_tower=model.user_tower, **returns)


def difference(found: Settings, asked: Settings, *, also: Sequence[str] = ()) -> str:
    """What makes two settings other runs (`Settings.identity`), in words; empty if nothing does."""
    there, wanted = (one.identity() | {name: getattr(one, name) for name in also} for one in (found, asked))
    return "; ".join(
        f"--{name}={getattr(found, name)} there, --{name}={getattr(asked, name)} asked for"
        for name in there | wanted
        if there.get(name) != wanted.get(name)
    )


def difference_of_datasets(found: str, asked: Dataset) -> str:
    """The same of the fingerprint of a dataset that was found and the dataset asked for."""
    if found == asked.fingerprint:
        return ""
    return f"a dataset of fingerprint {found[:16]} there, {asked.fingerprint[:16]} asked for"

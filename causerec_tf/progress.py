"""How far a run has come and what its epochs gave: saved in each of its checkpoints."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

from causerec_tf import checkpoints
from causerec_tf.errors import InputError
from causerec_tf.runs import RunDirectory
from causerec_tf.settings import Settings


@dataclass
class Epoch:
    """What one epoch gave.

    Attributes:
      number: from 1.
      losses: means of the loss parts over its steps, those before a stop too.
      validation: metrics of the validation users.
      examples: trained on in this process (fewer than the epoch's if it was resumed).
      seconds: that took, without validation.
      is_best: whether no earlier epoch had a better validation score.
    """

    number: int
    losses: dict[str, float]
    validation: dict[str, float]
    examples: int
    seconds: float
    is_best: bool


@dataclass(frozen=True)
class LossSums:
    """The sums of the loss parts over some steps of an epoch under way."""

    sums: dict[str, float] = field(default_factory=dict)
    steps: int = 0

    def plus(self, means: Mapping[str, Any], steps: int) -> "LossSums":
        """With further steps, of which the means are known."""
        sums = {name: self.sums.get(name, 0.0) + steps * float(mean) for name, mean in means.items()}
        return LossSums(sums, self.steps + steps)

    def means(self) -> dict[str, float]:
        """The mean of each part."""
        return {name: value / self.steps for name, value in self.sums.items()}


@dataclass
class Progress(tf.train.experimental.PythonState):
    """Where a run is; it is saved in each checkpoint and so agrees with the variables there.

    Attributes:
      epoch: epochs finished.
      batch: batches of the next epoch that are done.
      epochs: what the finished epochs gave.
      warm_start: what the run started from, for its record; None if from nothing.
      losses: of the batches of the next epoch that are done, when it was last saved.
    """

    epoch: int = 0
    batch: int = 0
    epochs: list[Epoch] = field(default_factory=list)
    warm_start: dict | None = None
    losses: LossSums = field(default_factory=LossSums)

    @property
    def best(self) -> Epoch | None:
        """The epoch that is kept: the last that was the best when it ended."""
        return next((epoch for epoch in reversed(self.epochs) if epoch.is_best), None)

    def is_finished(self, settings: Settings) -> bool:
        """Whether the run has used up its epochs or its patience; see `is_used_up`."""
        return is_used_up(self.epoch, self.best.number if self.best else 0, settings)

    def serialize(self) -> str:
        """For the checkpoint."""
        return json.dumps(dataclasses.asdict(self))

    def deserialize(self, string_value: str | bytes) -> None:
        """From the checkpoint."""
        state = json.loads(string_value)
        self.epoch, self.batch = state["epoch"], state["batch"]
        self.epochs = [Epoch(**epoch) for epoch in state["epochs"]]
        self.warm_start = state.get("warm_start")
        self.losses = LossSums(**state.get("losses", {}))  # earlier versions did not keep them


def is_used_up(trained: int, best: int, settings: Settings) -> bool:
    """Whether a run has used up its epochs or its patience; with more of them it goes on.

    Args:
      trained: the number of epochs it has finished.
      best: the number of the best of them, 0 for none.
      settings: asked for; fewer epochs than it has finished are an `InputError`.
    """
    if trained > settings.epochs:
        raise InputError(
            f"--epochs={settings.epochs}, but {settings.run} has trained {trained} already. Give that number"
            " or more, or another --run."
        )
    if settings.stop_after:
        return trained == settings.stop_after
    return trained == settings.epochs or trained - best >= settings.patience


def saved_progress(run: RunDirectory) -> Progress | None:
    """Where a run would go on from, by its last checkpoint; None where it has none.

    Raises:
      InputError: no checkpoint can be read, or their list is damaged.
    """
    if not run.has_checkpoint:
        return None
    progress = Progress()
    manager = tf.train.CheckpointManager(
        tf.train.Checkpoint(progress=progress), run.checkpoints, max_to_keep=None
    )
    checkpoints.restore_last(manager, partly=True)
    return progress


def examples_per_second(epochs: Sequence[Epoch]) -> float:
    """Training speed, validation excluded; also the first epoch, which compiles, where others exist."""
    measured = list(epochs[1:]) or list(epochs)
    return sum(e.examples for e in measured) / max(sum(e.seconds for e in measured), 1e-9)

"""The progress of a training run, on a screen or in a notebook."""

import sys
import warnings
from typing import Any

import tensorflow as tf
from tqdm import TqdmWarning

from causerec_tf.progress import Epoch, Progress
from causerec_tf.settings import Settings

with warnings.catch_warnings():
    # Without ipywidgets a notebook gets a bar of text, and no advice.
    warnings.simplefilter("ignore", TqdmWarning)
    from tqdm.auto import tqdm


class ProgressBar(tf.keras.callbacks.Callback):
    """One bar over all steps a run may take, with the time left; a line for each epoch above it."""

    def __init__(self, steps_per_epoch: int, epochs: int, choose_by: str = Settings.choose_by):
        """Sets the run's length, steps of one epoch and epochs at most, and what chooses the epoch."""
        super().__init__()
        self._supports_tf_logs = True  # tensors stay tensors: no step waits for them
        self._steps_per_epoch = steps_per_epoch
        self._epochs = epochs
        self._shown = dict.fromkeys((choose_by, "recall@50", "ndcg@50", "hr@50"))
        self._bar: Any = None

    def begin(self, progress: Progress) -> None:
        """Shows the bar, from where the run goes on from."""
        done = progress.epoch * self._steps_per_epoch + progress.batch
        self._bar = tqdm(
            total=self._steps_per_epoch * self._epochs,
            initial=done,
            unit="step",
            desc="training",
            dynamic_ncols=True,
            # A log file gets a line now and then, a screen or a notebook a bar that moves.
            mininterval=0.5 if sys.stderr.isatty() or "ipykernel" in sys.modules else 30.0,
        )
        if done:
            self._bar.write(f"going on from epoch {progress.epoch + 1}, step {progress.batch + 1}")

    def on_train_begin(self, logs=None) -> None:
        """Starts to count the batches of an epoch, or of what is left of one."""
        self._seen = 0

    def on_train_batch_end(self, batch, logs=None) -> None:
        """Moves the bar by the steps since the last time."""
        self._bar.update(batch + 1 - self._seen)
        self._seen = batch + 1

    def print_epoch(self, epoch: Epoch) -> None:
        """Prints what an epoch gave."""
        losses = ", ".join(f"{name} {value:.4f}" for name, value in epoch.losses.items())
        line = f"epoch {epoch.number}/{self._epochs} ({epoch.seconds:.0f} s): loss {losses}"
        if epoch.validation:
            line += "; validation " + ", ".join(
                f"{name} {epoch.validation[name]:.4f}" for name in self._shown
            )
            line += ", the best so far" if epoch.is_best else ""
        self._bar.write(line)

    def close(self) -> None:
        """Leaves the screen in order."""
        if self._bar is not None:
            self._bar.close()

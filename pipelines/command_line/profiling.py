"""A profile of some steps of a training run, for TensorBoard."""

import sys
from pathlib import Path

import tensorflow as tf

FIRST_STEP = 20  # tracing and the first, slow steps are over
LAST_STEP = 40


class StepProfile(tf.keras.callbacks.Callback):
    """Profiles the steps from `FIRST_STEP` to `LAST_STEP` of this process."""

    def __init__(self, directory: Path):
        """Sets the place.

        Args:
          directory: of the TensorBoard events; the profile goes to `plugins/profile` below it.
        """
        super().__init__()
        self._supports_tf_logs = True  # tensors stay tensors: no step waits for them
        self._directory = directory
        self._done = self._seen = 0
        self._was_started = self._is_running = False

    def on_train_begin(self, logs=None) -> None:
        """Starts to count the batches of an epoch, or of what is left of one."""
        self._seen = 0

    def on_train_batch_begin(self, batch, logs=None) -> None:
        """Starts the profile when its first step is next."""
        if self._done >= FIRST_STEP and not self._was_started:
            tf.profiler.experimental.start(str(self._directory))
            self._was_started = self._is_running = True

    def on_train_batch_end(self, batch, logs=None) -> None:
        """Counts the steps since the last time; ends the profile after its last step."""
        self._done += batch + 1 - self._seen
        self._seen = batch + 1
        if self._done >= LAST_STEP:
            self._stop()

    def close(self) -> None:
        """Ends a profile that the end of the run cuts short."""
        self._stop()
        if not self._was_started:
            print(f"no profile: the training ended before step {FIRST_STEP}.", file=sys.stderr)

    def _stop(self) -> None:
        if self._is_running:
            tf.profiler.experimental.stop()
            self._is_running = False

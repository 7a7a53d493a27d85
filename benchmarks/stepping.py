"""Models that are trained step by step, exactly as Keras's `fit` runs them."""

import tensorflow as tf


class Stepper:
    """Runs steps of a compiled model: the function that `fit` calls, without its callbacks."""

    def __init__(self, model: tf.keras.Model, batches: tf.data.Dataset, *, warm_up: int):
        """Traces the step and warms it up.

        Args:
          model: compiled.
          batches: without end, in memory.
          warm_up: steps that are not measured.
        """
        self.model = model
        self._batches = iter(batches)
        self._train = model.make_train_function()
        self._train(self._batches)
        self._steps_a_call = int(model.optimizer.iterations)
        self.run(warm_up)

    def run(self, steps: int) -> None:
        """Takes steps, and waits for the last of them."""
        for _ in range(0, steps, self._steps_a_call):
            self._train(self._batches)
        self.model.optimizer.iterations.numpy()

"""Models that are trained step by step, exactly as Keras's `fit` runs them."""

import tensorflow as tf

from causerec_tf.model import CauseRec
from causerec_tf.optimizers import SparseAdam
from causerec_tf.settings import Settings


def ours(settings: Settings, num_items: int) -> CauseRec:
    """A model compiled as `causerec_tf.training` does it."""
    model = CauseRec(settings, num_items)
    optimizer = SparseAdam(settings.learning_rate, l2=settings.weight_decay)
    optimizer.build(model.trainable_variables)
    model.compile(optimizer=optimizer, steps_per_execution=settings.steps_per_execution)
    return model


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

    def release(self) -> None:
        """Frees the memory of all variables; the model is of no use afterwards.

        TensorFlow registers a custom gradient, with its graph and the variables that the graph captured, for
        as long as the process lives: to drop the model frees nothing.
        """
        for variable in [*self.model.variables, *self.model.optimizer.variables]:
            tf.raw_ops.AssignVariableOp(resource=variable.handle, value=tf.zeros([], variable.dtype))

"""Training on parameter servers: the chief hands batches to workers, which take steps by themselves.

The chief reads the data: a batch goes to one worker, whichever is free, so that no worker sees the data of
another and a slow or lost worker keeps nobody's data from the epoch. A lost worker's batch goes to another.
"""

from collections.abc import Sequence

import tensorflow as tf

from causerec_tf.distributed.strategies import Distribution
from causerec_tf.model import CauseRec


class AsynchronousTrainer:
    """Trains a model whose variables lie on parameter servers, in rounds of steps.

    Within a round workers do not wait for each other. Between rounds nothing runs: the variables are those
    of a whole number of steps, and can be saved.
    """

    def __init__(self, model: CauseRec, distribution: Distribution, *, steps_a_round: int):
        """Takes a model compiled in the strategy's scope, and the steps between two calls of callbacks."""
        assert distribution.coordinator is not None
        self._model = model
        self._coordinator = distribution.coordinator
        self._steps_a_round = steps_a_round

        @tf.function(reduce_retracing=True, autograph=False)
        def step(batch: dict[str, tf.Tensor]) -> None:
            distribution.strategy.run(model.train_step, args=(batch,))

        self._step = step

    def fit(
        self, batches: tf.data.Dataset, *, first_step: int, callbacks: Sequence[tf.keras.callbacks.Callback]
    ) -> dict[str, float]:
        """Trains on what is left of an epoch, as `Model.fit` does, and gives the means of the loss parts.

        `first_step` is the number in the run of the first of its steps, by which their draws go. What the
        callbacks take for a batch is a round.
        """
        hooks = tf.keras.callbacks.CallbackList(list(callbacks), model=self._model)
        self._model.reset_metrics()
        hooks.on_train_begin()
        done, size = 0, int(batches.cardinality())
        for done, batch in enumerate(batches, start=1):
            if done % self._steps_a_round == 1 % self._steps_a_round:
                hooks.on_train_batch_begin(done - 1)
            step = tf.constant(first_step + done - 1, tf.int64)
            self._coordinator.schedule(self._step, args=(batch | {"step": step},))
            if done % self._steps_a_round == 0 or done == size:
                self._coordinator.join()
                hooks.on_train_batch_end(done - 1, self._losses())
        hooks.on_train_end()
        return self._losses()

    def _losses(self) -> dict[str, float]:
        return {mean.name: float(mean.result()) for mean in self._model.metrics}

"""Adam whose step costs the rows it touches, not the catalogue."""

import tensorflow as tf


class SparseAdam(tf.keras.optimizers.Adam):
    """Adam (Kingma and Ba, 2015) that leaves the untouched rows of a table alone.

    For a dense gradient this is Keras's Adam, with weight decay coupled to the gradient (L2):

        g = g + l2 * w
        m = beta_1 m + (1 - beta_1) g        v = beta_2 v + (1 - beta_2) g^2
        w = w - learning_rate * sqrt(1 - beta_2^t) / (1 - beta_1^t) * m / (sqrt(v) + epsilon)

    with t the number of steps taken. For `tf.IndexedSlices`, the gradient of a table lookup, rows that
    occur several times are summed and the same is done to the touched rows only: the others keep their
    vectors and moments. Keras decays the moments of every row at each step, so that its cost grows with
    the table.

    Weight decay therefore reaches a row only when a step looks it up, and is weaker than the same number in
    PyTorch's dense Adam, where a row without a gradient goes on by its moments and shrinks by its decay.
    `every_row` does that, at its cost.
    """

    def __init__(
        self,
        learning_rate: float | tf.keras.optimizers.schedules.LearningRateSchedule = 0.001,
        *,
        beta_1: float = 0.9,
        beta_2: float = 0.99,
        epsilon: float = 1e-8,
        l2: float = 0.0,
        every_row: bool = False,
        distinct_rows: bool = False,
        name: str = "SparseAdam",
    ):
        """Sets the constants; `beta_2` and `epsilon` default to the paper's.

        Args:
          learning_rate: step size, or what gives it for the number of steps taken.
          beta_1: decay of the first moment.
          beta_2: decay of the second moment.
          epsilon: added to the root of the second moment.
          l2: coupled weight decay. (Keras's own `weight_decay` is decoupled and touches every row.)
          every_row: whether rows of a table without a gradient are taken for rows whose gradient is 0. The
            step's cost then grows with the table.
          distinct_rows: whether no row stands twice in a gradient of slices, as where each item is looked
            up once; its rows are then not searched for repeats. A promise: with repeats all but one of
            their gradients would be lost. It does not hold for gradients gathered from several devices.
          name: of the optimiser.
        """
        super().__init__(
            learning_rate, beta_1=beta_1, beta_2=beta_2, epsilon=epsilon, jit_compile=False, name=name
        )
        self.l2 = l2
        self.every_row = every_row
        self.distinct_rows = distinct_rows

    def _deduplicate_sparse_grad(self, grads):
        return grads if self.distinct_rows else super()._deduplicate_sparse_grad(grads)

    def update_step(self, gradient, variable) -> None:
        """Applies one gradient; the rows of `tf.IndexedSlices` are distinct by now."""
        if self.every_row and isinstance(gradient, tf.IndexedSlices):
            gradient = tf.math.unsorted_segment_sum(gradient.values, gradient.indices, variable.shape[0])
        if not isinstance(gradient, tf.IndexedSlices):
            super().update_step(gradient + self.l2 * variable, variable)
            return
        index = self._index_dict[self._var_key(variable)]
        first_moment, second_moment = self._momentums[index], self._velocities[index]
        step = tf.cast(self.iterations + 1, variable.dtype)
        rate = (
            tf.cast(self.learning_rate, variable.dtype)
            * tf.sqrt(1.0 - tf.pow(tf.cast(self.beta_2, variable.dtype), step))
            / (1.0 - tf.pow(tf.cast(self.beta_1, variable.dtype), step))
        )
        rows = gradient.indices
        w = tf.gather(variable, rows)
        g = gradient.values + self.l2 * w
        m = self.beta_1 * tf.gather(first_moment, rows) + (1.0 - self.beta_1) * g
        v = self.beta_2 * tf.gather(second_moment, rows) + (1.0 - self.beta_2) * tf.square(g)
        w -= rate * m / (tf.sqrt(v) + self.epsilon)
        for table, values in ((first_moment, m), (second_moment, v), (variable, w)):
            table.scatter_update(tf.IndexedSlices(values, rows))

    def get_config(self) -> dict:
        """The constructor's arguments."""
        names = ("learning_rate", "beta_1", "beta_2", "epsilon", "name")
        config = super().get_config()
        return {name: config[name] for name in names} | {
            name: getattr(self, name) for name in ("l2", "every_row", "distinct_rows")
        }

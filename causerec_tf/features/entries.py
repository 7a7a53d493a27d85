"""What columns say of things, as sums of weighted rows: all columns at once, in one sparse product.

    e(n) = sum over w of weight[n, w] * rows[place[n, w]]

Shapes: N things, W entries of each, P entries that are there, R rows, d vector size.
"""

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

# A table of up to so many rows is read whole, and its gradient is one of all its rows: to find out which are
# asked for would take longer.
_MOST_READ_WHOLE = 4096


class Entries(NamedTuple):
    """What one column says.

    Attributes:
      rows_RD: float32 [R, d], the rows of its weights that are read.
      places_NW: int32 [N, W], which of these.
      weights_NW: float32 [N, W]; 0 where there is no entry. No gradient passes.
    """

    rows_RD: tf.Tensor
    places_NW: tf.Tensor
    weights_NW: tf.Tensor


def rows_of(table: tf.Variable, values: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The rows of a table that are asked for, and where each value stands among them, int32 of its shape.

    A row stands once in the gradient, as the optimiser is promised, if the table is read once in a step.
    """
    if table.shape[0] <= _MOST_READ_WHOLE:
        return tf.convert_to_tensor(table), values
    distinct, places = tf.unique(tf.reshape(values, [-1]))
    return tf.gather(table, distinct), tf.reshape(places, tf.shape(values))


def summed(parts: Sequence[Entries]) -> tf.Tensor:
    """The sum of what columns say, float32 [N, d]."""
    places, first = [], tf.constant(0)
    for part in parts:
        places.append(part.places_NW + first)
        first += tf.shape(part.rows_RD)[0]
    weights_NW = tf.concat([part.weights_NW for part in parts], axis=1)
    is_there = weights_NW != 0
    of_P = tf.where(is_there)[:, :1]
    rows_P = tf.cast(tf.boolean_mask(tf.concat(places, axis=1), is_there), tf.int64)
    indices_P2 = tf.concat([of_P, rows_P[:, tf.newaxis]], axis=1)
    rows_RD = tf.concat([part.rows_RD for part in parts], axis=0)
    size = tf.shape(weights_NW)[0]
    sums_ND = _product(rows_RD, indices_P2, tf.boolean_mask(weights_NW, is_there), size)
    # A function that was traced for several widths does not know which it is.
    return tf.ensure_shape(sums_ND, [None, rows_RD.shape[1]])


@tf.function(reduce_retracing=True, autograph=False)
def _product(rows_RD: tf.Tensor, indices_P2: tf.Tensor, weights_P: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """A sparse matrix [N, R] times rows, float32 [N, d].

    A function of its own because TensorFlow keeps the graph around a custom gradient for as long as the
    process lives: that of a training step would keep the model.
    """

    @tf.custom_gradient
    def product(rows_RD):
        count = tf.shape(rows_RD)[0]

        def times(dense: tf.Tensor, num_answers: tf.Tensor, transpose: bool) -> tf.Tensor:
            """The matrix or its transpose times a dense one."""

            def multiply() -> tf.Tensor:
                # Anew each time: a matrix that was kept would want a gradient of its own.
                matrix = tf.raw_ops.SparseTensorToCSRSparseMatrix(
                    indices=indices_P2,
                    values=weights_P,
                    dense_shape=tf.cast(tf.stack([size, count]), tf.int64),
                )
                if transpose:
                    # Not by the product's own option, whose threads add up in any order.
                    matrix = tf.raw_ops.SparseMatrixTranspose(input=matrix, type=tf.float32)
                return tf.raw_ops.SparseMatrixMatMul(a=matrix, b=dense)

            # Of a matrix without an entry TensorFlow 2.20 divides by their number, which ends the process.
            shape = tf.stack([num_answers, tf.shape(dense)[1]])
            return tf.cond(tf.size(weights_P) > 0, multiply, lambda: tf.zeros(shape))

        def gradient(upstream_ND):
            # Several times as fast as the gradients of sums by segment.
            return times(upstream_ND, count, True)

        return times(rows_RD, size, False), gradient

    return product(rows_RD)

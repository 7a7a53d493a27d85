"""Dropout that a step's seed decides, so that a run that was stopped ends as one that was not.

A tower drops where it calls `dropout` or `without_rows`, and only within `drawn_by`: nothing is dropped where
a tower is called otherwise, as in evaluation and in what is exported.
"""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import tensorflow as tf

# The seed of a step and the numbers of its draws, in the order in which they are made; None: nothing drops.
_drawn_by: ContextVar[tuple[tf.Tensor, Iterator[int]] | None] = ContextVar("drawn_by", default=None)


@contextmanager
def drawn_by(seed: tf.Tensor) -> Iterator[None]:
    """Lets both act until the block ends; each call there has a draw of its own.

    Args:
      seed: int64 [2], of the step.
    """
    token = _drawn_by.set((seed, itertools.count()))
    try:
        yield
    finally:
        _drawn_by.reset(token)


def dropout(values: tf.Tensor, rate: float) -> tf.Tensor:
    """Puts 0 in the place of a share of the values, drawn one by one, and divides the others by `1 - rate`.

    Args:
      values: float32 of any shape.
      rate: the share that is dropped, in [0, 1).

    Returns:
      float32 of the same shape; the values themselves outside `drawn_by`.
    """
    drawn = _drawn_by.get()
    if drawn is None or rate == 0:
        return values
    seed, numbers = drawn
    return tf.nn.experimental.stateless_dropout(values, rate, tf.random.fold_in(seed, next(numbers)))


def without_rows(values_ND: tf.Tensor, rate: float) -> tf.Tensor:
    """Puts 0 in the place of a share of the rows, and leaves the others as they are.

    Args:
      values_ND: float32 [N, d].
      rate: the share of rows, in [0, 1).

    Returns:
      float32 [N, d]; the values themselves outside `drawn_by`.
    """
    drawn = _drawn_by.get()
    if drawn is None or rate == 0:
        return values_ND
    seed, numbers = drawn
    shape = [tf.shape(values_ND)[0], 1]
    share_N1 = tf.random.stateless_uniform(shape, tf.random.fold_in(seed, next(numbers)))
    return values_ND * tf.cast(share_N1 >= rate, values_ND.dtype)

"""Tables of embeddings: what they start from.

Shapes: R rows of a table, d vector size.
"""

import zlib

import numpy as np
import tensorflow as tf


def add_table(
    layer: tf.keras.layers.Layer, num_rows: int, embedding_dim: int, *, num_zero: int, std: float, seed: int
) -> tf.Variable:
    """Makes the table of a layer, [R, d], normal; its first `num_zero` rows start at 0.

    Those stand for what is missing or unknown: where training never meets it, it adds nothing.
    """

    def initial(shape, dtype=None, **_):
        drawn = tf.random.stateless_normal([shape[0] - num_zero, shape[1]], [seed, -1], stddev=std)
        return tf.cast(tf.pad(drawn, [[num_zero, 0], [0, 0]]), dtype)

    return layer.add_weight(name="table", shape=[num_rows, embedding_dim], initializer=initial)


def seed_of_column(seed: int, key: str) -> int:
    """A seed for the weights of each column, of the run's seed and the column's name."""
    numbers = np.random.SeedSequence([seed, zlib.crc32(key.encode("utf-8"))]).generate_state(1)
    return int(numbers[0] >> 1)

"""Dense layers with a seed of their own."""

import numpy as np
import tensorflow as tf


def seed_of(seed: int, layer: int) -> int:
    """A seed for each layer; seed + layer would give a layer of one run the weights of another's.

    Args:
      seed: of the run, 0 or more.
      layer: which layer of the tower, from 0.
    """
    return int(np.random.SeedSequence([seed, layer]).generate_state(1)[0] >> 1)


def dense(units: int, seed: int, name: str, dtype, **options) -> tf.keras.layers.Dense:
    """A dense layer; `seed` is that of its weights, `dtype` a tower's policy, `options` are Keras's."""
    initial = tf.keras.initializers.GlorotUniform(seed)
    return tf.keras.layers.Dense(units, kernel_initializer=initial, name=name, dtype=dtype, **options)

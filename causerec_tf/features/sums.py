"""The sum of what several columns say."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from causerec_tf.features.dense_vectors import VectorEncoder
from causerec_tf.features.entries import summed


def encoded(columns: Sequence[tuple[Any, tuple[tf.Tensor, ...]]]) -> tf.Tensor:
    """Encodes columns, each an encoder and what it takes of N things: float32 [N, d].

    Vectors made elsewhere have a product of their own; all the others share one.
    """
    vectors, entries = [], []
    for encoder, given in columns:
        if isinstance(encoder, VectorEncoder):
            vectors.append(encoder(*given))
        else:
            entries.append(encoder.entries(*given))
    return tf.add_n([*vectors, *([summed(entries)] if entries else [])])

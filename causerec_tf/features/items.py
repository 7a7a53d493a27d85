"""The features of a catalogue's items: their stored values, and the sum of what encodes them.

Shapes: V items, N of them, d vector size.
"""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from causerec_tf.features.sums import encoded


class ItemFeatures(tf.keras.layers.Layer):
    """`e(i) = sum over the columns of what encodes the value of item i`.

    The values are constants and in no checkpoint: the dataset has them.
    """

    def __init__(
        self, encoders: Mapping[str, tf.keras.layers.Layer], values: Mapping[str, np.ndarray], **kwargs
    ):
        """Puts encoders and values together.

        Args:
          encoders: column -> what encodes its stored values, int32 or float32 [N, ...], as float32 [N, d].
          values: column -> the stored values of all items, [V + 1, ...]; row 0 is padding.
          **kwargs: of the Keras layer.
        """
        super().__init__(autocast=False, **kwargs)
        self.encoders = dict(encoders)
        self._values = _Constants({name: values[name] for name in encoders})

    def build(self, input_shape) -> None:
        """Makes every weight."""
        for encoder in self.encoders.values():
            encoder.build(None)
        super().build(input_shape)

    def call(self, ids_N: tf.Tensor) -> tf.Tensor:
        """Encodes items, once a step: int32 [N] -> float32 [N, d]."""
        return self.encode({name: tf.gather(values, ids_N) for name, values in self._values.tensors()})

    def encode(self, values: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Encodes stored values of any items, column -> [N, ...] for each of `encoders`: float32 [N, d]."""
        return encoded([(encoder, (values[name],)) for name, encoder in self.encoders.items()])


class _Constants:
    """Tensors that no checkpoint looks for, as it would in a dictionary of a layer."""

    def __init__(self, arrays: Mapping[str, np.ndarray]):
        self._tensors = {name: tf.constant(array) for name, array in arrays.items()}

    def tensors(self):
        return self._tensors.items()

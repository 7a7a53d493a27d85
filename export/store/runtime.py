"""TensorFlow as serving needs it: without Keras.

Where Keras is installed, `import tensorflow` loads all of it, to register optimisers for SavedModels that
hold some. Ours hold none, so a process that only answers requests would pay the time and the memory for
nothing. TensorFlow takes it calmly when that import fails; `tf.keras` still loads at its first use, so that
training in the same process works.
"""

import sys

_refused = {"keras.src.optimizers", "tf_keras.src.optimizers"} - sys.modules.keys()
sys.modules.update(dict.fromkeys(_refused))  # type: ignore[arg-type]  # importing what is None here fails
try:
    import tensorflow as tf
finally:
    for _name in _refused:
        del sys.modules[_name]

__all__ = ["tf"]

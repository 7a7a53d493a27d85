"""Candidate retrieval from behaviour logs: CauseRec and its peers in TensorFlow.

Importing this package arranges Keras 2 (`tf_keras`), which tensorflow-recommenders needs. That can only
be done before TensorFlow has handed out its Keras, so import `causerec_tf` before you touch `tf.keras`.
"""

import os
import sys


def _arrange_keras_2() -> None:
    """Selects Keras 2, or says why it is too late.

    Raises:
      ImportError: `tf.keras` is already Keras 3 in this process, or the environment asks for Keras 3.
    """
    asked = os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    if asked.lower() not in ("1", "true"):
        raise ImportError(
            f"causerec_tf needs Keras 2, but TF_USE_LEGACY_KERAS={asked!r} in the environment asks for"
            " Keras 3. Unset it, or set it to 1."
        )
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is not None and not tensorflow.keras.Model.__module__.startswith("tf_keras"):
        raise ImportError(
            "causerec_tf needs Keras 2, but tf.keras is already Keras 3 in this process. Import"
            " causerec_tf before TensorFlow, or set TF_USE_LEGACY_KERAS=1 before Python starts."
        )


_arrange_keras_2()

"""What a client sends to the exported tower: an input for each signature, and the warm-up file."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from export.store.bundle_errors import BundleError
from export.store.foreign import loading
from export.store.layout import MODEL_NAME
from export.store.runtime import tf


def tower_requests(
    histories: Sequence[Sequence[int]], item_ids: Sequence[str], max_history: int
) -> dict[str, dict[str, tf.Tensor]]:
    """Builds the input of every signature for the same histories.

    `histories` are B lists of vocabulary indices in [1, V], oldest first, each at most `max_history` long.

    Returns:
      Signature name -> input name -> tensor ([B, L] int64, [B, L] string or [B] string).
    """
    padded_BL = padded_histories(histories, max_history)
    names_BL = [[item_ids[i - 1] if i else "" for i in row] for row in padded_BL.tolist()]
    examples_B = []
    for history in histories:
        ids = tf.train.BytesList(value=[item_ids[i - 1].encode() for i in history])
        features = tf.train.Features(feature={"item_ids": tf.train.Feature(bytes_list=ids)})
        examples_B.append(tf.train.Example(features=features).SerializeToString(deterministic=True))
    return {
        "serving_default": {"item_ids": tf.constant(padded_BL)},
        "string_ids": {"item_ids": tf.constant(names_BL, tf.string, padded_BL.shape)},
        "examples": {"examples": tf.constant(examples_B, tf.string, [len(histories)])},
    }


def padded_histories(histories: Sequence[Sequence[int] | np.ndarray], max_history: int) -> np.ndarray:
    """Fills histories [B] of indices up with 0 on the right: int64 [B, max_history]."""
    padded_BL = np.zeros((len(histories), max_history), np.int64)
    for row, history in zip(padded_BL, histories, strict=True):
        row[: len(history)] = history
    return padded_BL


def write_warm_up(
    path: Path, histories: Sequence[Sequence[int]], item_ids: Sequence[str], max_history: int
) -> None:
    """Writes a TFRecord file of PredictionLog messages, as TensorFlow Serving replays them at its start.

    There is one for each of the `tower_requests` of each history.

    Raises:
      BundleError: tensorflow-serving-api, an optional package, is not installed.
    """
    predict_pb2, prediction_log_pb2 = _serving_messages()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for history in histories:
            for signature, inputs in tower_requests([history], item_ids, max_history).items():
                request = predict_pb2.PredictRequest()
                request.model_spec.name = MODEL_NAME
                request.model_spec.signature_name = signature
                for name, tensor in inputs.items():
                    request.inputs[name].CopyFrom(tf.make_tensor_proto(tensor))
                log = prediction_log_pb2.PredictionLog(
                    predict_log=prediction_log_pb2.PredictLog(request=request)
                )
                writer.write(log.SerializeToString())


def read_warm_up(path: Path) -> list[list[str]]:
    """Reads the histories of a warm-up file back, as item ids.

    Raises:
      BundleError: it is damaged; or tensorflow-serving-api, an optional package, is not installed.
    """
    _, prediction_log_pb2 = _serving_messages()
    histories = []
    with loading(path):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
            if request.model_spec.signature_name == "string_ids":
                ids = tf.make_ndarray(request.inputs["item_ids"]).ravel()
                histories.append([item.decode() for item in ids if item])
    return histories


def _serving_messages():
    try:
        from tensorflow_serving.apis import predict_pb2, prediction_log_pb2
    except ImportError as error:
        raise BundleError(
            "Warm-up requests need tensorflow-serving-api: pip install -e '.[serving]' in the checkout, or"
            " publish without them (--warm_up_requests=0)."
        ) from error
    return predict_pb2, prediction_log_pb2

"""What a client sends to the exported tower: an input for each signature, and the warm-up file.

Shape legend: B requests, L = max_history.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from export.store.bundle_errors import BundleError
from export.store.foreign import loading
from export.store.layout import MODEL_NAME, MOST_WARM_UP_REQUESTS
from export.store.runtime import tf
from export.tower_columns import NO_COLUMNS, TIME, Given, TowerColumns

WITH_FEATURES = "with_features"
# By the kind of a column: its type as a tensor and what is missing there.
_TENSOR: dict[str, tuple[Any, Any]] = {
    "numeric": (np.float32, np.nan),
    "embedding": (np.float32, 0.0),
    TIME: (np.int64, 0),
}


def tower_requests(
    histories: Sequence[Sequence[int]],
    item_ids: Sequence[str],
    max_history: int,
    columns: TowerColumns = NO_COLUMNS,
    given: Sequence[Given] = (),
) -> dict[str, dict[str, tf.Tensor]]:
    """Builds the input of every signature for the same histories.

    Args:
      histories: B lists of vocabulary indices in [1, V], oldest first, each at most `max_history` long.
      item_ids: V ids.
      max_history: L.
      columns: what the tower reads beside ids.
      given: what is given of each history; empty: nothing.

    Returns:
      Signature name -> input name -> tensor ([B, L] int64, [B, L] string or [B] string).
    """
    padded_BL = padded_histories(histories, max_history)
    names = [[item_ids[i - 1] for i in history] for history in histories]
    names_BL = [[item_ids[i - 1] if i else "" for i in row] for row in padded_BL.tolist()]
    given = given or [{}] * len(histories)
    examples_B = [example(history, columns, one) for history, one in zip(names, given, strict=True)]
    requests = {
        "serving_default": {"item_ids": tf.constant(padded_BL)},
        "string_ids": {"item_ids": tf.constant(names_BL, tf.string, padded_BL.shape)},
        "examples": {"examples": tf.constant(examples_B, tf.string, [len(histories)])},
    }
    if columns:
        requests[WITH_FEATURES] = tensors(names, max_history, columns, given)
    return requests


def tensors(
    histories: Sequence[Sequence[str]], max_history: int, columns: TowerColumns, given: Sequence[Given]
) -> dict[str, tf.Tensor]:
    """The inputs of `with_features` for B histories of at most L ids, and what is given of each."""
    names_BL = [[*history, *[""] * (max_history - len(history))] for history in histories]
    inputs = {"item_ids": tf.constant(names_BL, tf.string, [len(histories), max_history])}
    for column in columns.columns:
        dtype, missing = _TENSOR.get(column.kind, (object, b""))
        length = max_history if column.owner == "event" else column.width
        array = np.full([len(histories), *([] if length is None else [length])], missing, dtype)
        for row, one in enumerate(given):
            value = one.get(column.input)
            if value is None:
                continue
            if length is None:
                array[row] = _sent(value)
            else:
                array[row, : len(value)] = [missing if one is None else _sent(one) for one in value]
        kind = tf.string if dtype is object else dtype
        inputs[column.input] = tf.constant(array, kind, array.shape)
    return inputs


def example(history: Sequence[str], columns: TowerColumns = NO_COLUMNS, given: Given | None = None) -> bytes:
    """A serialised tf.Example of a history and what is given of it, for the signature `examples`."""
    # A lone surrogate, which JSON can carry, has no UTF-8: such an item is unknown, not an error.
    features = {"item_ids": _feature("text", history)}
    for column in columns.columns if given else ():
        value = given.get(column.input) if given else None
        if value is None:
            continue
        values = value if column.owner == "event" or column.width is not None else [value]
        _, missing = _TENSOR.get(column.kind, (object, ""))
        features[column.key] = _feature(column.kind, [missing if one is None else one for one in values])
    message = tf.train.Example(features=tf.train.Features(feature=features))
    return message.SerializeToString(deterministic=True)


def _feature(kind: str, values: Sequence[Any]) -> Any:
    if kind in ("numeric", "embedding"):
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))
    if kind == TIME:
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[_sent(one) for one in values]))


def _sent(value: Any) -> Any:
    return value.encode(errors="surrogatepass") if isinstance(value, str) else value


def at_places(columns: TowerColumns, given: Given, places: Sequence[int]) -> Given:
    """What is given of a history, of which only the items at some places are left, in their order."""
    events = {column.input for column in columns.columns if column.owner == "event"}
    return {
        name: [value[place] for place in places] if name in events else value for name, value in given.items()
    }


def padded_histories(histories: Sequence[Sequence[int] | np.ndarray], max_history: int) -> np.ndarray:
    """Fills histories [B] of indices up with 0 on the right: int64 [B, max_history]."""
    padded_BL = np.zeros((len(histories), max_history), np.int64)
    for row, history in zip(padded_BL, histories, strict=True):
        row[: len(history)] = history
    return padded_BL


def write_warm_up(
    path: Path,
    histories: Sequence[Sequence[int]],
    item_ids: Sequence[str],
    max_history: int,
    columns: TowerColumns = NO_COLUMNS,
    given: Sequence[Given] = (),
) -> None:
    """Writes a TFRecord file of PredictionLog messages, as TensorFlow Serving replays them at its start.

    There is one for each of the `tower_requests` of each history, as long as there are not too many.

    Raises:
      BundleError: tensorflow-serving-api, an optional package, is not installed.
    """
    predict_pb2, prediction_log_pb2 = _serving_messages()
    written = 0
    with tf.io.TFRecordWriter(str(path)) as writer:
        for number, history in enumerate(histories):
            requests = tower_requests([history], item_ids, max_history, columns, given[number : number + 1])
            written += len(requests)
            if written > MOST_WARM_UP_REQUESTS:
                return
            for signature, inputs in requests.items():
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

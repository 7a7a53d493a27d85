"""The user tower on TensorFlow Serving, asked through its PredictionService (gRPC)."""

import re
from collections.abc import Sequence

import numpy as np

from export.answers import TowerAnswer
from export.errors import BundleError, TowerBusyError, TowerError, TowerTimeoutError
from export.layout import MODEL_NAME
from export.runtime import tf

# An answer of 2,048 users with four vectors of 256 numbers takes 8 MiB; gRPC's own limit is 4.
_MOST_BYTES = 64 * 2**20


class RemoteTower:
    """Answers histories with what a model server answers; see `export.answers.Tower`.

    The signature `examples` is asked. It takes ids and histories of any length, so the client needs
    to know neither the vocabulary nor `max_history` of the version that will answer.
    """

    def __init__(self, address: str, model_name: str = MODEL_NAME):
        """Connects when the first question is asked.

        Args:
          address: host:port of the server's gRPC port.
          model_name: under which the server knows the tower.

        Raises:
          BundleError: the address is not one, or tensorflow-serving-api is not installed.
        """
        if not re.fullmatch(r"\S+:\d{1,5}", address):
            raise BundleError(f"The tower's address is {address!r}; wanted host:port, of the gRPC port.")
        try:
            import grpc
            from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc
        except ImportError as error:
            raise BundleError(
                "A tower on a server is asked by tensorflow-serving-api: pip install -e '.[serving]' in the"
                " checkout."
            ) from error
        self._grpc, self._request = grpc, predict_pb2.PredictRequest
        self._address, self._model_name = address, model_name
        options = [(f"grpc.max_{way}_message_length", _MOST_BYTES) for way in ("send", "receive")]
        self._channel = grpc.insecure_channel(address, options=options)
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)

    def __call__(self, histories: Sequence[Sequence[str]], timeout: float | None = None) -> TowerAnswer:
        """Asks the server.

        Raises:
          TowerBusyError: the server sheds load.
          TowerTimeoutError: it has not answered within `timeout` seconds.
          TowerError: it cannot be reached, or has no such model.
        """
        request = self._request()
        request.model_spec.name = self._model_name
        request.model_spec.signature_name = "examples"
        examples = np.array([_example(history) for history in histories], dtype=object)
        request.inputs["examples"].CopyFrom(tf.make_tensor_proto(examples, tf.string, [len(histories)]))
        try:
            response = self._stub.Predict(request, timeout=timeout)
        except self._grpc.RpcError as error:
            raise self._meaning(error, timeout) from error
        missing = [name for name in TowerAnswer._fields if name not in response.outputs]
        if missing:
            raise TowerError(
                f"The model {self._model_name!r} on {self._address} does not answer {', '.join(missing)}; is"
                " it a user tower of a bundle?"
            )
        answer = TowerAnswer(*(tf.make_ndarray(response.outputs[name]) for name in TowerAnswer._fields))
        if {len(values) for values in answer} != {len(histories)}:
            raise TowerError(f"{self._address} answers {len(answer.version)} of {len(histories)} histories.")
        return answer

    def close(self) -> None:
        """Ends the connection."""
        self._channel.close()

    def _meaning(self, error, timeout: float | None) -> TowerError:
        code, details = error.code(), error.details()
        if code == self._grpc.StatusCode.RESOURCE_EXHAUSTED:
            return TowerBusyError(f"The tower on {self._address} has too much to do ({details}).")
        if code == self._grpc.StatusCode.DEADLINE_EXCEEDED:
            return TowerTimeoutError(f"The tower on {self._address} has not answered within {timeout:.3f} s.")
        return TowerError(f"The tower on {self._address} does not answer: {code.name}, {details}")


def _example(history: Sequence[str]) -> bytes:
    # A lone surrogate, which JSON can carry, has no UTF-8: such an item is unknown, not an error.
    ids = tf.train.BytesList(value=[item.encode(errors="surrogatepass") for item in history])
    features = tf.train.Features(feature={"item_ids": tf.train.Feature(bytes_list=ids)})
    return tf.train.Example(features=features).SerializeToString()

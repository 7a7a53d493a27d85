"""The user tower on TensorFlow Serving, asked through its PredictionService (gRPC)."""

import re
import time
from collections.abc import Sequence

import numpy as np

from export.store.bundle_errors import BundleError, TowerBusyError, TowerError, TowerTimeoutError
from export.store.layout import MODEL_NAME
from export.store.runtime import tf
from export.tower_columns import NO_COLUMNS, NOTHING, Given, TowerColumns
from export.towers.answers import ALWAYS_ANSWERED, TowerAnswer, joined
from export.towers.requests import example

# Histories in one request. With batching a server refuses a request of more than its `max_batch_size`, which
# is this number in `export/serving/batching.config`.
MOST_TOGETHER = 128
_ATTEMPTS = 3
# Seconds for a request of a job without a time limit: a server that is cut off would be waited for for ever.
_PATIENCE = 60.0
# gRPC's own limit of an answer is 4 MiB, which 128 users with sixteen vectors of 512 numbers exceed.
_MOST_BYTES = 64 * 2**20


class RemoteTower:
    """Answers histories with what a model server answers; see `export.towers.answers.Tower`.

    The signature `examples` is asked. It takes ids and histories of any length, so the client needs
    to know neither the vocabulary nor `max_history` of the version that will answer. What is given beside ids
    goes into the same examples, by `columns`; a version that does not read a column passes over it.
    """

    def __init__(self, address: str, model_name: str = MODEL_NAME, columns: TowerColumns = NO_COLUMNS):
        """Connects, to host:port of gRPC, when the first question is asked.

        `columns` are those of the newest version of the bundle, and may be set when a newer one has come.

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
        self.columns = columns
        options = [(f"grpc.max_{way}_message_length", _MOST_BYTES) for way in ("send", "receive")]
        self._channel = grpc.insecure_channel(address, options=options)
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)

    def __call__(
        self,
        histories: Sequence[Sequence[str]],
        timeout: float | None = None,
        given: Sequence[Given] | None = None,
    ) -> TowerAnswer:
        """Asks the server, in as many requests as its limit makes necessary.

        The timeout is for all of them; None: 60 seconds for each.

        Raises:
          TowerBusyError: the server sheds load.
          TowerTimeoutError: it has not answered in that time, or within a limit of its own.
          TowerError: it cannot be reached, has no such model, takes no message of this size, or answers by
            turns with vectors of different shapes.
        """
        ends = None if timeout is None else time.monotonic() + timeout
        starts = range(0, max(1, len(histories)), MOST_TOGETHER)
        columns, values = self.columns, given or [NOTHING] * len(histories)
        examples = [example(one, columns, value) for one, value in zip(histories, values, strict=True)]
        chunks = [examples[start : start + MOST_TOGETHER] for start in starts]
        for _ in range(_ATTEMPTS):
            parts = [self._ask(chunk, timeout, ends) for chunk in chunks]
            # In a roll-out they may be of two versions, whose vectors need not go into one array.
            if len({part.user_vectors.shape[1:] for part in parts}) == 1:
                return joined(parts)
        raise TowerError(
            f"{self._address} answers by turns with vectors of different shapes; ask again later."
        )

    def close(self) -> None:
        """Ends the connection."""
        self._channel.close()

    def _ask(self, examples: Sequence[bytes], timeout: float | None, ends: float | None) -> TowerAnswer:
        request = self._request()
        request.model_spec.name = self._model_name
        request.model_spec.signature_name = "examples"
        array = np.array(examples, dtype=object)
        request.inputs["examples"].CopyFrom(tf.make_tensor_proto(array, tf.string, [len(examples)]))
        try:
            left = _PATIENCE if ends is None else ends - time.monotonic()
            response = self._stub.Predict(request, timeout=left)
        except self._grpc.RpcError as error:
            raise self._meaning(error, timeout) from error
        missing = [name for name in ALWAYS_ANSWERED if name not in response.outputs]
        if missing:
            raise TowerError(
                f"The model {self._model_name!r} on {self._address} does not answer {', '.join(missing)}; is"
                " it a user tower of a bundle?"
            )
        given = [name for name in TowerAnswer._fields if name in response.outputs]
        answer = TowerAnswer(**{name: tf.make_ndarray(response.outputs[name]) for name in given})
        if {len(getattr(answer, name)) for name in given} != {len(examples)}:
            raise TowerError(f"{self._address} answers {len(answer.version)} of {len(examples)} histories.")
        return answer

    def _meaning(self, error, timeout: float | None) -> TowerError:
        code, details = error.code(), error.details()
        if code == self._grpc.StatusCode.RESOURCE_EXHAUSTED:
            # gRPC has the same status for what no waiting helps.
            if "larger than max" in details:
                return TowerError(
                    f"A message to or from the tower on {self._address} is too large ({details}). Send"
                    " shorter histories, or raise the server's limit."
                )
            return TowerBusyError(f"The tower on {self._address} has too much to do ({details}).")
        if code == self._grpc.StatusCode.DEADLINE_EXCEEDED:
            limit = f"{_PATIENCE:g} s or its own time limit" if timeout is None else f"{timeout:.3f} s"
            return TowerTimeoutError(f"The tower on {self._address} has not answered within {limit}.")
        return TowerError(f"The tower on {self._address} does not answer: {code.name}, {details}")

"""A stand-in for TensorFlow Serving: SavedModels behind its own protos (gRPC) and its REST shape.

Nothing here comes from `export`. It answers as the documentation of TensorFlow Serving says; of its batching
only the limit of a request, and neither versions nor monitoring of the real server are imitated.
"""

import contextlib
import json
import threading
import time
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc


class ModelServer(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Answers from the versions in turn, as during a roll-out; `fault` is a gRPC status to fail with.

    `max_batch_size` is that of a server with batching.
    """

    def __init__(self, *directories, name="user_tower"):
        self.models = [tf.saved_model.load(str(directory)) for directory in directories]
        self.name = name
        self.fault = None
        self.max_batch_size = None
        self.delay = 0.0
        self.calls = 0

    def Predict(self, request, context):
        time.sleep(self.delay)
        if self.fault is not None:
            context.abort(self.fault, "as the test wants it")
        if request.model_spec.name != self.name:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Servable not found: {request.model_spec.name}")
        inputs = {name: tf.constant(tf.make_ndarray(proto)) for name, proto in request.inputs.items()}
        size = max(len(value) for value in inputs.values())
        if self.max_batch_size is not None and size > self.max_batch_size:
            message = f"Task size {size} is larger than maximum input batch size {self.max_batch_size}"
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, message)
        response = predict_pb2.PredictResponse()
        for name, value in self.answer(request.model_spec.signature_name, inputs).items():
            response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
        return response

    def answer(self, signature, inputs):
        model = self.models[self.calls % len(self.models)]
        self.calls += 1
        return {name: value.numpy() for name, value in model.signatures[signature](**inputs).items()}


@contextlib.contextmanager
def over_grpc(server):
    """Gives the address at which it listens."""
    listening = grpc.server(futures.ThreadPoolExecutor(8))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(server, listening)
    port = listening.add_insecure_port("127.0.0.1:0")
    listening.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        listening.stop(None).wait()


@contextlib.contextmanager
def over_rest(server):
    """Gives the URL at which it listens; takes the row format, `{"signature_name", "instances"}`."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            known = self.path == f"/v1/models/{server.name}:predict"
            answer = self.predict(body) if known else {"error": f"Malformed request: POST {self.path}"}
            data = json.dumps(answer).encode()
            self.send_response(200 if known else 404)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def predict(self, body):
            signature = body.get("signature_name", "serving_default")
            specs = server.models[0].signatures[signature].structured_input_signature[1]
            inputs = {
                name: tf.constant(np.array([row[name] for row in body["instances"]]), spec.dtype)
                for name, spec in specs.items()
            }
            columns = {
                name: [cell.decode() if isinstance(cell, bytes) else cell for cell in value.tolist()]
                for name, value in server.answer(signature, inputs).items()
            }
            rows = zip(*columns.values(), strict=True)
            return {"predictions": [dict(zip(columns, row, strict=True)) for row in rows]}

        def log_message(self, *_):
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listening.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.server_port}"
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()

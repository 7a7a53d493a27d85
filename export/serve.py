"""Serves recommendations over HTTP from a bundle, and follows it as newer versions are published.

python export/serve.py --bundle=bundles/quickstart --port=8080
python export/serve.py --bundle=bundles/shop --host=0.0.0.0 --tower_address=tower:8500 --threads=4
"""

import dataclasses
import os
import signal
import socket
from pathlib import Path

from absl import flags

from export.errors import BundleError
from export.service.options import Options
from pipelines.command_line import command

FLAGS = flags.FLAGS

flags.DEFINE_string("bundle", None, "Directory of the bundle.", required=True)
flags.DEFINE_string("host", "127.0.0.1", "Address to listen on; 0.0.0.0 is every one of this machine.")
flags.DEFINE_integer("port", 8080, "Port to listen on; 0 takes a free one, which the log names.", 0, 65535)
flags.DEFINE_string(
    "tower_address", Options.tower_address, "host:port of TensorFlow Serving's gRPC. None: in this process."
)
flags.DEFINE_string("tower_name", Options.tower_name, "The tower's model name on TensorFlow Serving.")
flags.DEFINE_integer("max_k", Options.max_k, "The largest k that is answered.", 1)
flags.DEFINE_integer("max_batch", Options.max_batch, "How many histories one request may bring.", 1)
flags.DEFINE_integer(
    "max_waiting", Options.max_waiting, "How many histories may wait; more are refused with status 429.", 1
)
flags.DEFINE_integer(
    "max_together", Options.max_together, "How many waiting histories are answered in one go.", 1
)
flags.DEFINE_integer(
    "threads", Options.threads, "How many threads answer; several pay when the tower is elsewhere.", 1
)
flags.DEFINE_integer("timeout_ms", Options.timeout_ms, "Time for a request that names none.", 1)
flags.DEFINE_integer("max_timeout_ms", Options.max_timeout_ms, "The longest time that a request may name.", 1)
flags.DEFINE_integer("max_body_bytes", Options.max_body_bytes, "The largest request.", 1)
flags.DEFINE_float(
    "max_body_seconds", Options.max_body_seconds, "How long the body of a request may take to arrive.", 0.05
)
flags.DEFINE_integer(
    "max_connections", 1_000, "Connections, idle ones too, beyond which a request gets status 503.", 1
)
flags.DEFINE_float("poll_seconds", Options.poll_seconds, "How often to look for a newer version.", 0.05)
flags.DEFINE_integer("drain_seconds", 30, "How long a stopping service waits for requests under way.", 1)
flags.DEFINE_bool("log_requests", True, "Write a line for every request.")
flags.DEFINE_bool("page", True, "Serve the page at / and the paths that it asks.")


def main() -> None:
    """Serves until it is told to stop."""
    if FLAGS.max_batch > FLAGS.max_waiting:
        raise BundleError(
            f"--max_batch={FLAGS.max_batch} is more than --max_waiting={FLAGS.max_waiting}: such a request"
            " would be refused for ever."
        )
    listening = _bound(FLAGS.host, FLAGS.port)
    try:
        import uvicorn

        from export.service.app import create_app
        from export.service.logs import LOGGER, log_as_json
        from export.service.service import Service
    except ImportError as error:
        raise BundleError(
            f"The service needs packages of its own ({error}): pip install -e '.[service,serving]' in the"
            " checkout."
        ) from error

    log_as_json()
    named = {field.name: getattr(FLAGS, field.name) for field in dataclasses.fields(Options)}
    service = Service(Options(**named | {"bundle": Path(FLAGS.bundle)}))
    app = create_app(service, log_requests=FLAGS.log_requests, page=FLAGS.page)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        limit_concurrency=FLAGS.max_connections + 1,  # it refuses at its limit, not beyond it
        timeout_graceful_shutdown=FLAGS.drain_seconds,
    )
    # The server handles both while it runs: no new connections, an answer to all that is under way. Then it
    # raises them again, which would look like a failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    host, port = listening.getsockname()[:2]
    about = {"address": f"http://{host}:{port}", "version": service.catalogue.version}
    # Not earlier: who comes while it loads is turned away at once.
    listening.listen(config.backlog)
    LOGGER.info("serving", extra={"fields": about})
    uvicorn.Server(config).run(sockets=[listening])
    LOGGER.info("stopped")
    if not service.close(seconds=0.0):
        # A thread that is loading a version, in native code, would not survive the end of the interpreter.
        os._exit(0)


def _bound(host: str, port: int) -> socket.socket:
    """Takes the port before anything is loaded: one that is taken is known at once."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
    except OSError as error:
        raise BundleError(
            f"--host={host} --port={port} cannot be listened on ({error}); choose others."
        ) from error
    return listening


if __name__ == "__main__":
    command.run(main, bad_input=(BundleError,))

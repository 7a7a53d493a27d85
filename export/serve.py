"""Serves recommendations over HTTP from a bundle, and follows it as newer versions are published.

python export/serve.py --bundle=bundles/quickstart --port=8080
python export/serve.py --bundle=bundles/shop --host=0.0.0.0 --tower_address=tower:8500 --threads=4
"""

import dataclasses
import functools
import gc
import ipaddress
import os
import resource
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from export.service.options import Options
from export.store.bundle_errors import BundleError
from pipelines.command_line import command

if TYPE_CHECKING:
    import uvicorn

FLAGS = flags.FLAGS

flags.DEFINE_string("bundle", None, "Directory of the bundle.", required=True)
flags.DEFINE_string("host", "127.0.0.1", "Address to listen on; 0.0.0.0: all addresses of this machine.")
flags.DEFINE_integer("port", 8080, "Port to listen on; 0 takes a free one, which the log names.", 0, 65535)
for _option in dataclasses.fields(Options):
    if _option.metadata:
        _default: Any = _option.default
        _meaning, _least = _option.metadata["meaning"], _option.metadata["least"]
        if isinstance(_default, float):
            flags.DEFINE_float(_option.name, _default, _meaning, _least)
        elif isinstance(_default, int):
            flags.DEFINE_integer(_option.name, _default, _meaning, _least)
        else:
            flags.DEFINE_string(_option.name, _default, _meaning)
flags.DEFINE_list(
    "allowed_hosts",
    None,
    "Allowed values of the header Host, *.example.com too. None: any; if --host is a loopback address, that"
    " address and localhost.",
)
flags.DEFINE_integer(
    "drain_seconds", 30, "Seconds for which a stopping service waits for requests under way.", 1
)
flags.DEFINE_bool("log_requests", True, "Log a line for every request.")
flags.DEFINE_bool("page", True, "Serve the page at /, the paths that it uses, /docs and /openapi.json.")

# Of the log, at the end.
_LOG_SECONDS = 2.0
_SWITCH_SECONDS = 5e-5


def main() -> None:
    """Serves until it is told to stop."""
    if FLAGS.max_batch > FLAGS.max_waiting:
        raise BundleError(
            f"--max_batch={FLAGS.max_batch} is more than --max_waiting={FLAGS.max_waiting}: a request of"
            " that size would always be refused."
        )
    listening = _bound(FLAGS.host, FLAGS.port)
    host, port = listening.getsockname()[:2]
    try:
        import uvicorn

        from export.service.app import create_app
        from export.service.connections import ConnectionLimits, LimitedConnection
        from export.service.logs import LOGGER, JsonLog
        from export.service.service import Service
    except ImportError as error:
        raise BundleError(
            f"The service needs more packages ({error}): pip install -e '.[service,serving]' in the checkout."
        ) from error

    # CPython gives a waiting thread its turn only after an interval in which the event loop has kept the
    # interpreter. Beside a client that never pauses the loop lets go every .2 ms: with an interval of 5 ms,
    # as Python has it, the thread that encodes and searches hardly ever gets its turn.
    sys.setswitchinterval(_SWITCH_SECONDS)
    log = JsonLog()
    named = {field.name: getattr(FLAGS, field.name) for field in dataclasses.fields(Options)}
    named |= {"bundle": Path(FLAGS.bundle), "allowed_hosts": _allowed_hosts(host)}
    service = Service(Options(**named), after_loading=_spare_the_collector)
    limits = ConnectionLimits(service.options)
    _allow_open_files(FLAGS.max_connections)
    config = uvicorn.Config(
        create_app(service, log_requests=FLAGS.log_requests, page=FLAGS.page),
        http=functools.partial(LimitedConnection, limits=limits),  # type: ignore[arg-type]
        ws="none",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=FLAGS.drain_seconds,
    )
    server = uvicorn.Server(config)
    _stop_on_signals(server)
    about = {"address": f"http://{host}:{port}", "version": service.catalogue.version}
    # Not earlier: who comes while it loads is turned away at once.
    listening.listen(config.backlog)
    LOGGER.info("serving", extra={"fields": about})
    server.run(sockets=[listening])
    LOGGER.info("stopped")
    ended = service.close(seconds=0.0)
    if not log.close(_LOG_SECONDS) or not ended:
        # A thread that is loading a version, in native code, would not survive the end of the interpreter;
        # and one that writes a log which nobody reads would not let it end.
        os._exit(0)


def _stop_on_signals(server: "uvicorn.Server") -> None:
    """Has the three signals that end a service end it in the same way: with an answer to all under way.

    The server handles SIGTERM and SIGINT while it runs, and then raises them again, which would look like a
    failure. SIGHUP comes when a terminal is closed; whoever started the service by nohup does not want it.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: setattr(server, "should_exit", True))


def _spare_the_collector() -> None:
    """Takes what a version has brought out of the sight of Python's garbage collector.

    What stays for hours would be gone through again and again, by the hundred thousand, while a large
    request is read: half a second in which nobody else is answered.
    """
    gc.unfreeze()
    gc.collect()  # the versions before
    gc.freeze()


def _allow_open_files(connections: int) -> None:
    """Raises the soft limit on open files, often 1,024, as far as connections need and the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(soft, 4 * connections)  # those that come at once are counted before any is closed
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard) if hard >= 0 else wanted, hard))


def _allowed_hosts(host: str) -> tuple[str, ...]:
    """The hosts that requests may name.

    Browsers of this machine reach a loopback address, too: a page from elsewhere, whose name is made to lead
    there, must not read the answers.
    """
    if FLAGS.allowed_hosts is not None:
        return tuple(FLAGS.allowed_hosts)
    if not ipaddress.ip_address(host).is_loopback:
        return ("*",)
    return ("localhost", f"[{host}]" if ":" in host else host, FLAGS.host)


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

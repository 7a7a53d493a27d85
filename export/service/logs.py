"""Log lines as JSON objects, one a line, on the standard output.

The standard error is not ours alone: TensorFlow writes its own lines there. Whoever reads the standard output
may be slow, or have stopped: a thread writes it, and lines for which it has no place are dropped and counted.
"""

import datetime
import json
import logging
import queue
import sys
import threading
from logging.handlers import QueueHandler, QueueListener
from typing import Any

from prometheus_client import Counter

LOGGER = logging.getLogger("causerec.service")
DROPPED_LINES = Counter(
    "causerec_dropped_log_lines", "Log lines that nobody read in time.", registry=None
)  # of the process, as the log is
_MOST_WAITING = 10_000


class JsonFormatter(logging.Formatter):
    """Gives time, level, logger and message, and what was passed as `extra={"fields": {...}}`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line; a traceback is a field of it.

        It is ASCII: what a client sent, control characters of every kind among it, is escaped.
        """
        time = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        line: dict[str, Any] = {
            "time": time.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


class Log:
    """The log of a process: a queue, and the thread that writes what is in it."""

    def __init__(self, most_waiting: int = _MOST_WAITING) -> None:
        """Sends what this service and the web server log to the standard output, as JSON.

        Args:
          most_waiting: lines that may wait to be written.
        """
        lines: queue.Queue[logging.LogRecord] = queue.Queue(most_waiting)
        handler = _Droppable(lines)
        handler.setFormatter(JsonFormatter())
        self._listener = _Listener(lines, logging.StreamHandler(sys.stdout))
        self._listener.start()
        self._ending = threading.Thread(target=self._listener.stop, daemon=True)
        for name in (LOGGER.name, "uvicorn", "asyncio"):
            logger = logging.getLogger(name)
            logger.handlers = [handler]
            logger.setLevel(logging.INFO)
            logger.propagate = False

    def close(self, seconds: float) -> bool:
        """Writes what waits, and tells whether that was possible.

        Args:
          seconds: how long to wait for whoever reads the log.
        """
        if self._ending.ident is None:  # not the second call
            self._ending.start()
        self._ending.join(seconds)
        return not self._ending.is_alive()


class _Droppable(QueueHandler):
    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            DROPPED_LINES.inc()


class _Listener(QueueListener):
    def enqueue_sentinel(self) -> None:
        self.queue.put(None)  # type: ignore[attr-defined]  # waits for a place

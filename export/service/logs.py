"""Log lines as JSON objects, one a line, on the standard output.

The standard error is not ours alone: TensorFlow writes its own lines there. Whoever reads the standard output
may be slow, or have stopped: a thread writes it, and lines for which it has no place are dropped and counted.
"""

import contextlib
import datetime
import json
import logging
import queue
import sys
import threading
import time
from typing import Any

from prometheus_client import Counter

LOGGER = logging.getLogger("causerec.service")
DROPPED_LINES = Counter(
    "causerec_dropped_log_lines", "Log lines that nobody read in time.", registry=None
)  # of the process, as the log is
_MOST_WAITING = 10_000
_TOGETHER_SECONDS = 0.02


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


class JsonLog:
    """The log of a process: a queue, and the thread that writes what is in it."""

    def __init__(self, most_waiting: int = _MOST_WAITING) -> None:
        """Sends what this service and the web server log to the standard output, as JSON.

        Args:
          most_waiting: lines that may wait to be written.
        """
        self._lines: queue.Queue[str | None] = queue.Queue(most_waiting)
        handler = _Queued(self._lines)
        for name in (LOGGER.name, "uvicorn", "asyncio"):
            logger = logging.getLogger(name)
            logger.handlers = [handler]
            logger.setLevel(logging.INFO)
            logger.propagate = False
        self._thread = threading.Thread(target=self._write, daemon=True, name="log")
        self._thread.start()

    def close(self, seconds: float) -> bool:
        """Writes what waits, and tells whether that was possible.

        Args:
          seconds: how long to wait for whoever reads the log.
        """
        with contextlib.suppress(queue.Full):
            self._lines.put(None, timeout=seconds)
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _write(self) -> None:
        """Writes what has come together: woken for every line, it would be in the way of those who answer."""
        lines: list[str | None] = []
        while None not in lines:
            lines = [self._lines.get()]
            time.sleep(_TOGETHER_SECONDS)
            lines += [self._lines.get() for _ in range(self._lines.qsize())]
            try:
                sys.stdout.write("".join(f"{line}\n" for line in lines if line is not None))
                sys.stdout.flush()
            except OSError:  # a full disk, or the reader has gone
                DROPPED_LINES.inc(len(lines))


class _Queued(logging.Handler):
    """Puts lines into a queue, and never waits for a place there."""

    def __init__(self, lines: queue.Queue):
        super().__init__()
        self.setFormatter(JsonFormatter())
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.put_nowait(self.format(record))
        except queue.Full:
            DROPPED_LINES.inc()
        except Exception:
            self.handleError(record)

"""Log lines as JSON objects, one a line, on the standard output.

The standard error is not ours alone: TensorFlow writes its own lines there.
"""

import datetime
import json
import logging
import sys
from typing import Any

LOGGER = logging.getLogger("causerec.service")


class JsonFormatter(logging.Formatter):
    """Gives time, level, logger and message, and what was passed as `extra={"fields": {...}}`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line; a traceback is a field of it."""
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
        return json.dumps(line, ensure_ascii=False)


def log_as_json() -> None:
    """Sends what this service and the web server log to the standard output, as JSON."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter())
    for name in (LOGGER.name, "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(logging.INFO)
        logger.propagate = False

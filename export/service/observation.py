"""Counts, times and logs every request, and gives it an id."""

import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from export.service.headers import HEADERS
from export.service.logs import LOGGER
from export.service.prometheus import Metrics

_ID = "x-request-id"
_LONGEST_ID = 100
# Asked every few seconds by machines; a line for each would bury the rest.
_NOT_LOGGED = ("/healthz", "/readyz", "/metrics")


class Observation:
    """Middleware: metrics, a log line, the headers of every answer, and an id, which a client may choose."""

    def __init__(self, app: ASGIApp, metrics: Metrics, log_requests: bool):
        self._app = app
        self._metrics = metrics
        self._log_requests = log_requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = Headers(scope=scope).get(_ID, "")[:_LONGEST_ID]
        if not (request_id.isascii() and request_id.isprintable() and request_id):
            request_id = uuid.uuid4().hex
        status = 500  # unless an answer begins

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[_ID] = request_id
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._app(scope, receive, observed)
        finally:
            self._observe(scope, request_id, status, time.perf_counter() - started)

    def _observe(self, scope: Scope, request_id: str, status: int, seconds: float) -> None:
        # The path as the application names it: one that a client made up would be a metric for ever.
        path = getattr(scope.get("route"), "path", "unknown")
        self._metrics.requests.labels(path, status).inc()
        self._metrics.request_seconds.labels(path).observe(seconds)
        if self._log_requests and path not in _NOT_LOGGED:
            fields = {
                "request_id": request_id,
                "method": scope["method"],
                "path": scope["path"],
                "status": status,
                "ms": round(1e3 * seconds, 3),
            }
            LOGGER.info("request", extra={"fields": fields})

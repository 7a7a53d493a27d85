"""The web server's connections: none is held for nothing, and no head is longer or slower than it may be.

httptools, the fastest of uvicorn's parsers, puts the pieces of an unfinished header together again with each
piece that comes, so that a head of many megabytes takes seconds; and uvicorn waits for ever for a head that
was never begun, or for a client that does not take its answer.
"""

import asyncio
import json
from dataclasses import dataclass, field

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from export.service.headers import HEADERS
from export.service.options import Options

# Requests that a client may send ahead, without waiting for its answers.
_MOST_AHEAD = 32


@dataclass(frozen=True)
class ConnectionLimits:
    """What connections may take; one object for all of a server.

    `max_head_seconds` go from the opening of a connection, or from its last answer, to the end of the next
    head; and for a client to take the part of an answer that is due. `awaiting` are the connections that wait
    for their client, the longest first: for the rest of a request, or for the client to take an answer. All
    others are worked for, and the queues of the service limit those.
    """

    options: Options
    awaiting: dict["LimitedConnection", None] = field(default_factory=dict)


class _RefusedError(Exception):
    """Ends the parsing of what a client sends."""


class LimitedConnection(HttpToolsProtocol):
    """A connection within limits."""

    def __init__(self, *args, limits: ConnectionLimits, **kwargs):
        """Takes what uvicorn gives to a protocol, and the limits of all connections."""
        super().__init__(*args, **kwargs)
        self._limits = limits
        self._ending: asyncio.TimerHandle | None = None
        self._refusal = (400, "This is no HTTP request.")
        self._head_bytes = 0  # of the url and the headers that are whole
        self._raw_bytes: int | None = 0  # since the head began; None: no head is awaited

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Takes the place of the one that has waited longest where there are too many."""
        super().connection_made(transport)
        self._await_client()
        if len(self.connections) > self._limits.options.max_connections:
            next(iter(self._limits.awaiting))._end()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets the connection."""
        self._limits.awaiting.pop(self, None)
        self._set_end(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parses what came; an unfinished head may not grow without end."""
        if self._raw_bytes is not None:
            self._raw_bytes += len(data)
        super().data_received(data)
        if self._raw_bytes is not None and self._raw_bytes > self._limits.options.max_head_bytes:
            self._refusal = self._head_too_large()
            self.send_400_response("")

    def on_message_begin(self) -> None:
        """Refuses a client that sends request after request without waiting for an answer."""
        if len(self.pipeline) >= _MOST_AHEAD:
            self._refuse(429, f"More than {_MOST_AHEAD} requests were sent ahead; wait for their answers.")
        self._head_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Counts it."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Counts it; those that follow a body in parts, too."""
        self._count(len(name) + len(value) + len(": \r\n"))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """From here on it is the application that limits the time."""
        self._raw_bytes = None
        self._set_end(None)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request is whole; the next byte begins a head."""
        super().on_message_complete()
        self._raw_bytes = 0
        if not self.cycle.response_complete:
            self._limits.awaiting.pop(self, None)

    def on_response_complete(self) -> None:
        """Waits for the next head, unless it has come already."""
        super().on_response_complete()
        if self.cycle.response_complete:
            self._await_client()

    def pause_writing(self) -> None:
        """The client does not take its answer as fast as it is made."""
        super().pause_writing()
        self._await_client()

    def resume_writing(self) -> None:
        """It has taken what was due."""
        super().resume_writing()
        if not self.cycle.response_complete:
            self._limits.awaiting.pop(self, None)
            self._set_end(None)

    def send_400_response(self, msg: str) -> None:
        """Refuses what the parser cannot take, in the form that every failure has."""
        if self.transport.is_closing():
            return
        status, message = self._refusal
        body = json.dumps({"error": message}).encode()
        headers = {"content-type": "application/json", "content-length": str(len(body))} | HEADERS
        lines = [f"{name}: {value}\r\n".encode() for name, value in headers.items()]
        self.transport.write(b"".join([STATUS_LINE[status], *lines, b"connection: close\r\n\r\n", body]))
        self.transport.close()

    def _count(self, num_bytes: int) -> None:
        self._head_bytes += num_bytes
        if self._head_bytes > self._limits.options.max_head_bytes:
            self._refuse(*self._head_too_large())

    def _refuse(self, status: int, message: str) -> None:
        self._refusal = (status, message)
        raise _RefusedError

    def _head_too_large(self) -> tuple[int, str]:
        return 431, f"The head of the request is larger than {self._limits.options.max_head_bytes} bytes."

    def _await_client(self) -> None:
        self._limits.awaiting.pop(self, None)  # to the end of those that wait
        self._limits.awaiting[self] = None
        self._set_end(self._limits.options.max_head_seconds)

    def _set_end(self, seconds: float | None) -> None:
        if self._ending is not None:
            self._ending.cancel()
        self._ending = None if seconds is None else self.loop.call_later(seconds, self._end)

    def _end(self) -> None:
        """Ends the connection, also where the client takes nothing any more."""
        self._limits.awaiting.pop(self, None)
        self._set_end(None)
        self.connections.discard(self)
        self.transport.abort()

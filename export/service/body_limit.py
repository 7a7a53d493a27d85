"""Refuses a request whose body is too large, before it fills the memory, or too long on its way.

A megabyte of JSON may be one long string or half a million values, and while they are read nobody else is
answered. So what stands between values is counted as the body arrives, in strings, too: that costs nothing.
"""

import asyncio

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_BEFORE_VALUES = (b",", b"[", b"{")


class BodyLimit:
    """Middleware: counts bytes and values of a body as they arrive, whatever the head says, and the time."""

    def __init__(self, app: ASGIApp, most_bytes: int, most_values: int, most_seconds: float):
        self._app = app
        self._most_bytes, self._most_values, self._most_seconds = most_bytes, most_values, most_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        received, values, is_whole = 0, 0, False
        ends = asyncio.get_running_loop().time() + self._most_seconds

        async def counted() -> Message:
            nonlocal received, values, is_whole
            try:
                # After the body it is the end of the connection that is waited for.
                async with asyncio.timeout_at(None if is_whole else ends):
                    message = await receive()
            except TimeoutError as error:
                raise HTTPException(
                    408,
                    f"Only {received} bytes came within {self._most_seconds:g} s and more were announced;"
                    " send the request whole.",
                ) from error
            is_whole = not message.get("more_body", False)
            body = message.get("body", b"")
            received += len(body)
            values += sum(map(body.count, _BEFORE_VALUES))
            if received > self._most_bytes:
                raise HTTPException(
                    413,
                    f"The request is larger than {self._most_bytes} bytes; send fewer histories at a time.",
                )
            if values > self._most_values:
                raise HTTPException(
                    413,
                    f"The request has more than {self._most_values} values, counted by its commas and"
                    " brackets; send fewer or shorter histories at a time.",
                )
            return message

        await self._app(scope, counted, send)

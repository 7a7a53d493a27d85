"""Refuses a request whose body is too large, before it fills the memory, or too long on its way."""

import asyncio

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class BodyLimit:
    """Middleware: counts the bytes of a body as they arrive, whatever the head says of them, and the time."""

    def __init__(self, app: ASGIApp, most_bytes: int, most_seconds: float):
        self._app = app
        self._most_bytes, self._most_seconds = most_bytes, most_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        received, is_whole = 0, False
        ends = asyncio.get_running_loop().time() + self._most_seconds

        async def counted() -> Message:
            nonlocal received, is_whole
            try:
                # After the body it is the end of the connection that is waited for.
                async with asyncio.timeout_at(None if is_whole else ends):
                    message = await receive()
            except TimeoutError as error:
                raise HTTPException(
                    408,
                    f"Of the request, {received} bytes came within {self._most_seconds:g} s and more were"
                    " announced; send it whole.",
                ) from error
            is_whole = not message.get("more_body", False)
            received += len(message.get("body", b""))
            if received > self._most_bytes:
                raise HTTPException(
                    413,
                    f"The request is larger than {self._most_bytes} bytes; send fewer histories at a time.",
                )
            return message

        await self._app(scope, counted, send)

"""Refuses a request that is too large before its body fills the memory."""

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class BodyLimit:
    """Middleware: counts the bytes of a body as they arrive, whatever the head says of them."""

    def __init__(self, app: ASGIApp, most_bytes: int):
        self._app = app
        self._most_bytes = most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on."""
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._most_bytes:
                raise HTTPException(
                    413,
                    f"The request is larger than {self._most_bytes} bytes; send fewer histories at a time.",
                )
            return message

        await self._app(scope, counted, send)

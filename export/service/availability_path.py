"""POST /unavailable: items that are out and items that are back, from whoever has the token."""

import hmac
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Header
from pydantic import field_validator
from starlette.exceptions import HTTPException

from export.service.messages import Unavailable, UnavailableRequest, counted
from export.service.service import Service
from export.store.bundle_errors import BundleError


def read_token(path: Path) -> bytes:
    """Reads the token, the whole file but for white space at its ends; raises BundleError without one."""
    try:
        token = path.read_bytes().strip()
    except OSError as error:
        raise BundleError(f"--unavailable_token_file={path} cannot be read ({error}).") from error
    if len(token) < 16:
        raise BundleError(f"--unavailable_token_file={path} has {len(token)} characters; wanted 16 or more.")
    return token


def add_availability(
    app: FastAPI, service: Service, token: bytes, failures: dict[int | str, dict[str, Any]]
) -> None:
    """Adds the path; `failures` describe the errors of every path."""
    most_ids = service.options.max_history_ids

    class LimitedUnavailableRequest(UnavailableRequest):
        """At most --max_history_ids each."""

        @field_validator("out", "back", mode="before")
        @classmethod
        def _counted(cls, ids: Any) -> Any:
            return counted(ids, 0, most_ids, "item ids (--max_history_ids)")

    @app.post("/unavailable", responses=failures | {401: failures[400]})
    def unavailable(
        request: LimitedUnavailableRequest,  # not async: it waits for the disk
        authorization: Annotated[str, Header(description="Bearer and the token.")] = "",
    ) -> Unavailable:
        """Takes items out or back, within a second for every process that follows the same file."""
        if not hmac.compare_digest(authorization.encode(errors="replace"), b"Bearer " + token):
            raise HTTPException(401, "authorization: wanted the header 'Authorization: Bearer TOKEN'.")
        try:
            return Unavailable(unavailable=service.change_unavailable(request.out, request.back))
        except BundleError as error:
            raise HTTPException(422, str(error)) from error

"""The middleware alone: a body that does not come, and one that came."""

import asyncio

import pytest

pytest.importorskip("starlette", reason="the extra `service` is not installed")

from starlette.exceptions import HTTPException

from export.service.body_limit import BodyLimit

PART = {"type": "http.request", "body": b"x" * 10, "more_body": True}
LAST = {"type": "http.request", "body": b"x" * 10, "more_body": False}
GONE = {"type": "http.disconnect"}


def received(messages, *, most_seconds, most_bytes=100, most_values=10, pause=0.0):
    """What an application receives behind the limit; the last message comes after a pause."""

    async def main():
        waiting = list(messages)
        got = []

        async def receive():
            if len(waiting) == 1:
                await asyncio.sleep(pause)
            return waiting.pop(0)

        async def app(_scope, receive, _send):
            got.extend([await receive() for _ in messages])

        await BodyLimit(app, most_bytes, most_values, most_seconds)({"type": "http"}, receive, None)
        return got

    return asyncio.run(main())


def test_a_body_that_is_too_long_on_its_way_is_refused_with_408():
    with pytest.raises(HTTPException, match=r"20 bytes came within 0\.02 s") as refused:
        received([PART, PART, LAST], most_seconds=0.02, pause=10)
    assert refused.value.status_code == 408


def test_the_end_of_the_connection_may_take_any_time():
    assert received([PART, LAST, GONE], most_seconds=0.02, pause=0.1) == [PART, LAST, GONE]


def test_a_body_that_is_too_large_is_refused_with_413():
    with pytest.raises(HTTPException, match="larger than 19 bytes") as refused:
        received([PART, LAST], most_seconds=10, most_bytes=19)
    assert refused.value.status_code == 413


def test_a_body_of_too_many_values_is_refused_with_413_before_it_is_read():
    parts = [PART | {"body": b'[{"a":1},[]'}, LAST | {"body": b',"b,[{"]'}]
    assert received(parts, most_seconds=10, most_values=8) == parts
    with pytest.raises(HTTPException, match="more than 7 values") as refused:
        received(parts, most_seconds=10, most_values=7)
    assert refused.value.status_code == 413

"""Other scores for a retrieved list, by a function or an endpoint of one's own, within a deadline.

A function is named `module:function` and called as

    function(histories, items, scores) -> scores

with B lists each: of item ids, of candidates, of their scores. An endpoint gets these as a JSON object by
POST and answers `{"scores": [...]}`. The scores are finite numbers, one for each candidate; the largest come
first.
"""

import http.client
import importlib
import json
import math
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from export.store.bundle_errors import BundleError

Lists = Sequence[Sequence[Any]]
Rescore = Callable[[Lists, Lists, Lists], Lists]

# Calls that are under way, those that were given up on included.
_MOST_CALLS = 8
_MOST_BYTES = 8 << 20


class Reranked(NamedTuple):
    """What a re-ranker gave: the scores, or None and why there are none.

    `outcome` is "used", "late" (no answer within the deadline), "busy" (too many calls are under way) or
    "failed"; then `error` says what was wrong.
    """

    scores: Lists | None
    outcome: str
    error: str = ""


class Reranker:
    """Asks for other scores; what fails or is late leaves the list as it was found."""

    def __init__(self, rescore: Rescore, seconds: float):
        """Takes what gives the scores, and the deadline."""
        self._rescore, self.seconds = rescore, seconds
        self._places = threading.BoundedSemaphore(_MOST_CALLS)

    @classmethod
    def named(cls, name: str, milliseconds: float) -> "Reranker":
        """Opens a re-ranker by `module:function` or by its http or https address.

        Raises:
          BundleError: there is no such function, or the address is none.
        """
        if not milliseconds > 0:
            raise BundleError(f"the re-ranker has {milliseconds} ms; wanted more than 0.")
        seconds = milliseconds / 1e3
        if "://" in name:
            return cls(_Endpoint(name, seconds), seconds)
        return cls(_function(name), seconds)

    def __call__(
        self, histories: Lists, items: Lists, scores: Lists, seconds: float | None = None
    ) -> Reranked:
        """Asks for the scores of B lists, within the deadline, and within `seconds` if those are fewer."""
        if not self._places.acquire(blocking=False):
            return Reranked(None, "busy")
        found: list[Lists] = []
        failed: list[str] = []
        done = threading.Event()

        def call() -> None:
            try:
                found.append(_checked(self._rescore(histories, items, scores), items))
            except Exception as error:  # whatever it is, the list as it was found will do
                failed.append(f"{type(error).__name__}: {error}"[:500])
            finally:
                self._places.release()
                done.set()

        # A thread of its own, since a function that hangs cannot be ended.
        threading.Thread(target=call, daemon=True, name="re-ranker").start()
        if not done.wait(min(self.seconds, math.inf if seconds is None else seconds)):
            return Reranked(None, "late")
        return Reranked(found[0], "used") if found else Reranked(None, "failed", failed[0])


class _Endpoint:
    def __init__(self, address: str, seconds: float):
        parts = urlsplit(address)
        try:
            port = parts.port
        except ValueError:
            port = -1
        if parts.scheme not in ("http", "https") or not parts.hostname or port == -1:
            raise BundleError(f"the re-ranker {address!r} is no address; wanted http://host:port/path.")
        self._host, self._port, self._seconds = parts.hostname, port, seconds
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._open: Any = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )

    def __call__(self, histories: Lists, items: Lists, scores: Lists) -> Lists:
        body = json.dumps({"histories": histories, "items": items, "scores": scores})
        connection = self._open(self._host, self._port, timeout=self._seconds)
        try:
            connection.request("POST", self._path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            data = response.read(_MOST_BYTES + 1)
        finally:
            connection.close()
        if response.status != 200:
            raise ValueError(f"the endpoint answers status {response.status}")
        if len(data) > _MOST_BYTES:
            raise ValueError(f"the endpoint answers more than {_MOST_BYTES:,} bytes")
        answer = json.loads(data)
        if not isinstance(answer, dict) or "scores" not in answer:
            raise ValueError("the endpoint answers no object with 'scores'")
        return answer["scores"]


def _function(name: str) -> Rescore:
    module, _, function = name.partition(":")
    if not module or not function:
        raise BundleError(f"the re-ranker is {name!r}; wanted module:function or http://host:port/path.")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise BundleError(
            f"the re-ranker {name!r} cannot be imported ({error}); is its folder on PYTHONPATH?"
        ) from error
    if not callable(found):
        raise BundleError(f"the re-ranker {name!r} is no function.")
    return found


def _checked(scores: Any, items: Lists) -> Lists:
    """The scores as lists of floats; raises ValueError unless there is a finite one for each candidate."""
    lists = [list(one) for one in scores]
    if [len(one) for one in lists] != [len(one) for one in items]:
        raise ValueError("there is not one score for each candidate")
    lists = [[float(score) for score in one] for one in lists]
    if not all(math.isfinite(score) for one in lists for score in one):
        raise ValueError("a score is not finite")
    return lists

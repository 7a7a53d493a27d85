"""A bounded queue between the event loop and the threads that answer, in batches of what waits.

A thread takes everything that has arrived while it answered the batch before: nothing waits for a batch
to fill, and the busier the service, the larger the batches.
"""

import asyncio
import contextlib
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Question = TypeVar("Question")
Answer = TypeVar("Answer")


class QueueFullError(RuntimeError):
    """More is waiting than can be answered in good time."""


class DeadlineError(TimeoutError):
    """The answer was not there in time."""


@dataclass(eq=False)  # two that ask the same are not one
class _Entry(Generic[Question, Answer]):
    questions: Sequence[Question]
    deadline: float
    loop: asyncio.AbstractEventLoop
    answered: "asyncio.Future[list[Answer]]"


class WorkQueue(Generic[Question, Answer]):
    """Answers questions of an event loop in threads of its own."""

    def __init__(
        self,
        answer: Callable[[list[Question], float], list[Answer]],
        *,
        most_waiting: int,
        most_together: int,
        threads: int,
        what: str = "histories",
    ):
        """Starts the threads.

        Args:
          answer: takes questions and the seconds that are left, and gives as many answers.
          most_waiting: questions that may wait; more are refused.
          most_together: questions that are answered in one go; those that are asked together stay so.
          threads: how many of them answer at the same time.
          what: the questions are, for the message that refuses one.
        """
        self._answer = answer
        self._most_waiting, self._most_together, self._what = most_waiting, most_together, what
        self._entries: deque[_Entry[Question, Answer]] = deque()
        self._waiting = 0
        self._closed = False
        self._changed = threading.Condition()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """How many questions no thread has taken yet."""
        return self._waiting

    async def ask(self, questions: Sequence[Question], seconds: float) -> list[Answer]:
        """Gives the answers, or raises within `seconds`.

        Raises:
          QueueFullError: too many questions are waiting.
          DeadlineError: the time is over.
          Exception: what `answer` raises.
        """
        loop = asyncio.get_running_loop()
        entry = _Entry[Question, Answer](questions, time.monotonic() + seconds, loop, loop.create_future())
        with self._changed:
            if self._closed or self._waiting + len(questions) > self._most_waiting:
                raise QueueFullError(
                    f"{self._waiting} {self._what} are waiting and at most {self._most_waiting} may; ask"
                    " again in a moment."
                )
            self._entries.append(entry)
            self._waiting += len(questions)
            self._changed.notify()
        try:
            async with asyncio.timeout(seconds):
                return await entry.answered
        except TimeoutError as error:
            self._forget(entry)
            raise DeadlineError(f"There was no answer within {1e3 * seconds:.0f} ms.") from error

    def close(self, seconds: float) -> bool:
        """Answers what is waiting, then ends the threads; tells whether they ended in so many seconds."""
        ends = time.monotonic() + seconds
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(max(0.0, ends - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _forget(self, entry: _Entry[Question, Answer]) -> None:
        """Frees the places of one that has given up, unless a thread has taken it."""
        with self._changed:
            if entry in self._entries:
                self._entries.remove(entry)
                self._waiting -= len(entry.questions)

    def _work(self) -> None:
        while entries := self._take():
            now = time.monotonic()
            # Whoever has given up is not answered: that time belongs to those who still wait.
            live = [one for one in entries if one.deadline > now and not one.answered.done()]
            if live:
                self._answer_together(live, max(one.deadline for one in live) - now)

    def _take(self) -> list[_Entry[Question, Answer]]:
        """Waits for work; nothing when the queue is closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._entries or self._closed)
            taken: list[_Entry[Question, Answer]] = []
            total = 0
            while self._entries:
                size = len(self._entries[0].questions)
                if taken and total + size > self._most_together:
                    break
                taken.append(self._entries.popleft())
                total += size
            self._waiting -= total
            return taken

    def _answer_together(self, entries: list[_Entry[Question, Answer]], seconds: float) -> None:
        questions = [question for entry in entries for question in entry.questions]
        try:
            answers = self._answer(questions, seconds)
        except Exception as error:  # belongs to those who asked, and the thread must go on
            outcomes: list[list[Answer] | Exception] = [error] * len(entries)
        else:
            rest = iter(answers)
            outcomes = [list(itertools.islice(rest, len(entry.questions))) for entry in entries]
        for entry, outcome in zip(entries, outcomes, strict=True):
            with contextlib.suppress(RuntimeError):  # the loop has ended, and with it whoever asked
                entry.loop.call_soon_threadsafe(_deliver, entry.answered, outcome)


def _deliver(answered: asyncio.Future, outcome: list | Exception) -> None:
    if answered.done():  # whoever asked has given up
        return
    if isinstance(outcome, Exception):
        answered.set_exception(outcome)
    else:
        answered.set_result(outcome)

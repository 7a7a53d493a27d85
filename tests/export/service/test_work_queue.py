"""The queue alone: order, batches, refusals, deadlines."""

import asyncio
import threading

import pytest

from export.service.work_queue import DeadlineError, QueueFullError, WorkQueue
from tests.export.service.waiting import PATIENCE


class Doubling:
    """Doubles numbers once the gate is open; remembers what came together."""

    def __init__(self):
        self.gate = threading.Event()
        self.batches = []

    def __call__(self, questions, seconds):
        assert seconds > 0
        self.gate.wait(PATIENCE)
        self.batches.append(list(questions))
        if "bad" in questions:
            raise ValueError("a bad question")
        return [2 * question for question in questions]


def queue(answer, **limits):
    return WorkQueue(answer, **({"most_waiting": 100, "most_together": 4, "threads": 1} | limits))


async def taken(work):
    """Waits until a thread holds all that was asked."""
    while work.waiting:
        await asyncio.sleep(0.001)


def test_what_waits_is_answered_together_and_in_its_order():
    async def main():
        answer = Doubling()
        work = queue(answer)
        asked = [asyncio.create_task(work.ask([0], PATIENCE))]
        await asyncio.sleep(0)
        await taken(work)
        questions = [[1], [2, 3], [4, 5, 6], [], [7] * 9, [8]]
        asked += [asyncio.create_task(work.ask(one, PATIENCE)) for one in questions]
        await asyncio.sleep(0)
        answer.gate.set()
        assert await asyncio.gather(*asked) == [[0], [2], [4, 6], [8, 10, 12], [], [14] * 9, [16]]
        assert work.close(PATIENCE)
        # At most four together, but never less than what one asked.
        assert answer.batches == [[0], [1, 2, 3], [4, 5, 6], [7] * 9, [8]]

    asyncio.run(main())


def test_more_than_may_wait_is_refused_at_once():
    async def main():
        answer = Doubling()
        work = queue(answer, most_waiting=3)
        first = asyncio.create_task(work.ask([1], PATIENCE))
        await asyncio.sleep(0)
        await taken(work)
        second = asyncio.create_task(work.ask([2, 3], PATIENCE))
        await asyncio.sleep(0)
        with pytest.raises(QueueFullError, match="2 histories are waiting and at most 3 may"):
            await work.ask([4, 5], PATIENCE)
        third = asyncio.create_task(work.ask([6], PATIENCE))
        await asyncio.sleep(0)
        answer.gate.set()
        assert await asyncio.gather(first, second, third) == [[2], [4, 6], [12]]
        assert work.close(PATIENCE)
        with pytest.raises(QueueFullError):
            await work.ask([7], PATIENCE)

    asyncio.run(main())


def test_who_has_given_up_is_told_in_time_and_not_answered_any_more():
    async def main():
        answer = Doubling()
        work = queue(answer)
        first = asyncio.create_task(work.ask([1], PATIENCE))
        await asyncio.sleep(0)
        await taken(work)
        with pytest.raises(DeadlineError, match="no answer within 20 ms"):
            await work.ask([2], 0.02)
        assert not answer.batches  # it was told before there was an answer
        answer.gate.set()
        assert await first == [2]
        assert await work.ask([3], PATIENCE) == [6]
        assert work.close(PATIENCE)
        assert answer.batches == [[1], [3]]

    asyncio.run(main())


def test_a_failure_reaches_those_who_asked_and_the_thread_goes_on():
    async def main():
        answer = Doubling()
        answer.gate.set()
        work = queue(answer)
        with pytest.raises(ValueError, match="a bad question"):
            await work.ask(["bad"], PATIENCE)
        assert await work.ask([1], PATIENCE) == [2]
        assert work.close(PATIENCE)

    asyncio.run(main())


def test_several_threads_answer_at_the_same_time():
    async def main():
        both = threading.Barrier(2, timeout=PATIENCE)

        def answer(questions, seconds):
            both.wait()
            return questions

        work = queue(answer, most_together=1, threads=2)
        assert await asyncio.gather(work.ask([1], PATIENCE), work.ask([2], PATIENCE)) == [[1], [2]]
        assert work.close(PATIENCE)

    asyncio.run(main())


def test_who_has_given_up_leaves_its_place_to_others():
    async def main():
        answer = Doubling()
        work = queue(answer, most_waiting=1)
        first = asyncio.create_task(work.ask([1], PATIENCE))
        await asyncio.sleep(0)
        await taken(work)
        with pytest.raises(DeadlineError):
            await work.ask([2], 0.02)
        assert work.waiting == 0
        third = asyncio.create_task(work.ask([3], PATIENCE))
        await asyncio.sleep(0)
        answer.gate.set()
        assert await asyncio.gather(first, third) == [[2], [6]]
        assert work.waiting == 0
        assert work.close(PATIENCE)

    asyncio.run(main())


def test_the_end_does_not_wait_longer_than_it_is_told_for_an_answer_that_does_not_come():
    answer = Doubling()
    work = queue(answer, threads=2)

    async def main():
        asked = asyncio.create_task(work.ask([1], PATIENCE))
        await asyncio.sleep(0)
        await taken(work)
        assert not work.close(0.02)
        assert not answer.batches
        with pytest.raises(QueueFullError):
            await work.ask([2], PATIENCE)
        asked.cancel()

    asyncio.run(main())
    # The loop has ended by now: the answer goes nowhere, and its thread ends all the same.
    answer.gate.set()
    assert work.close(PATIENCE)

"""Interleaved timing: every round times a block of each system, so that all meet the same weather."""

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence


def interleave(
    blocks: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    after_round: Callable[[], None] = lambda: None,
    say: Callable[[str], None] = lambda line: None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Times blocks of work in turn; each round starts with another of them.

    Args:
      blocks: name -> the work; it has returned only when it is done.
      rounds: how often each is timed.
      after_round: called, untimed, at the end of each round.
      say: told how the rounds go on.
      clock: `time.process_time` for work of one thread on a machine that others use: what they take is not
        counted.

    Returns:
      name -> [rounds] seconds, in the order of the rounds.
    """
    names = list(blocks)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            seconds[name].append(timed(blocks[name], clock))
        after_round()
        say(f"round {number + 1} of {rounds}")
    return seconds


def timed(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds that a piece of work takes, without pauses of Python's garbage collector."""
    gc.collect()
    gc.disable()
    try:
        started = clock()
        work()
        return clock() - started
    finally:
        gc.enable()


def per_second(count: float, seconds: Sequence[float]) -> list[float]:
    """Rates, round by round."""
    return [count / one for one in seconds]


def quotients(over: Sequence[float], under: Sequence[float]) -> list[float]:
    """Ratios, round by round: what slows a whole round down cancels."""
    return [a / b for a, b in zip(over, under, strict=True)]


def summary(values: Sequence[float]) -> dict:
    """Median and spread of the rounds, for JSON."""
    return {
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "rounds": list(values),
    }

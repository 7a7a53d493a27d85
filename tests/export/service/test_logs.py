"""The log: lines that nobody can read wrongly, and a reader that nobody waits for."""

import json
import logging
import sys
import threading

import pytest

pytest.importorskip("prometheus_client", reason="the extra `service` is not installed")

from export.service.logs import DROPPED_LINES, LOGGER, JsonFormatter, JsonLog

# C0, DEL, C1, the separators of lines and paragraphs, a reversal of the direction, half of a pair.
CONTROLS = [*map(chr, range(32)), *map(chr, range(127, 160)), "\u2028", "\u2029", "\u202e", "\ud800"]


def test_no_control_character_reaches_the_log_as_it_is():
    text = "".join(CONTROLS) + 'a"é'
    record = logging.makeLogRecord({"msg": "%s", "args": (text,), "fields": {"path": text}})
    line = JsonFormatter().format(record)
    assert all(" " <= character <= "~" for character in line)
    assert (json.loads(line)["message"], json.loads(line)["path"]) == (text, text)


class Unread:
    """A pipe that is full until it is read."""

    def __init__(self):
        self.reading, self.begun, self.lines = threading.Event(), threading.Event(), []

    def write(self, text):
        self.begun.set()
        assert self.reading.wait(300)
        self.lines.append(text)

    def flush(self):
        pass


def dropped():
    (metric,) = DROPPED_LINES.collect()
    return next(one.value for one in metric.samples if one.name.endswith("_total"))


@pytest.fixture
def loggers():
    """Puts back what a log changes of the process."""
    named = [logging.getLogger(name) for name in (LOGGER.name, "uvicorn", "asyncio")]
    before = [(one, one.handlers, one.level, one.propagate) for one in named]
    yield
    for one, one.handlers, level, one.propagate in before:
        one.setLevel(level)


def test_lines_that_nobody_reads_are_dropped_and_counted(monkeypatch, loggers):
    unread = Unread()
    monkeypatch.setattr(sys, "stdout", unread)
    log, before = JsonLog(most_waiting=3), dropped()
    LOGGER.info("line %d", 0)
    assert unread.begun.wait(300)  # it is out of the queue
    for number in range(1, 11):
        LOGGER.info("line %d", number)
    assert dropped() - before == 7
    assert not log.close(0.01)
    unread.reading.set()
    assert log.close(300)
    messages = [json.loads(line)["message"] for line in "".join(unread.lines).splitlines()]
    assert messages == [f"line {number}" for number in range(4)]

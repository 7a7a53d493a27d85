"""Waiting for what must come, however busy the machine is; only what never comes is a failure."""

import time

PATIENCE = 300  # seconds


def until(condition):
    """Waits until a condition holds."""
    limit = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < limit, f"it did not come about within {PATIENCE} s"
        time.sleep(0.005)

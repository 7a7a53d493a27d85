"""The steps of a script's work on the screen."""

import time


class Steps:
    """Prints each step of the work, what came of it and how long it took."""

    def __init__(self):
        self._started = self._last = time.monotonic()

    def begin(self, what: str) -> None:
        """Announces a step."""
        self._last = time.monotonic()
        print(what, flush=True)

    def end(self, result: str) -> None:
        """Says what came of it."""
        print(f"  {result} ({time.monotonic() - self._last:.1f} s)", flush=True)

    @property
    def seconds(self) -> float:
        """Since the first step."""
        return time.monotonic() - self._started

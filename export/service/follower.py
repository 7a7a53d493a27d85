"""Follows a bundle while newer versions are published."""

import threading
from collections.abc import Callable
from pathlib import Path

from export.store.layout import resolve_number

_AFTER_FAILURE = 30.0


class Follower(threading.Thread):
    """Looks again and again for a newer version."""

    def __init__(
        self,
        bundle: Path,
        number: int | None,
        load: Callable[[], int],
        *,
        seconds: float,
        on_failure: Callable[[Exception], None],
    ):
        """Does not start yet.

        `number` is that of the version that is loaded, if one is; `load` loads the newest one, and gives its
        number. Between two looks are so many seconds, after a failure at least 30; `on_failure` is told why
        the newest version cannot be used, and it is tried again.
        """
        super().__init__(daemon=True, name="follower")
        self._bundle, self._number, self._load = bundle, number, load
        self._seconds, self._on_failure = seconds, on_failure
        self._stopped = threading.Event()

    def run(self) -> None:
        """Looks until `stop` is called."""
        seconds = self._seconds
        while not self._stopped.wait(seconds):
            seconds = self._seconds
            try:
                if resolve_number(self._bundle, None) != self._number:
                    self._number = self._load()
            except Exception as error:  # whatever it is, the version in use goes on
                self._on_failure(error)
                seconds = max(seconds, _AFTER_FAILURE)

    def stop(self, seconds: float) -> bool:
        """Ends the thread, and tells whether it has ended.

        Args:
          seconds: how long to wait for a look that has begun; the loading of a version cannot be stopped.
        """
        self._stopped.set()
        self.join(seconds)
        return not self.is_alive()

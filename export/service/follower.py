"""Follows a bundle while something in it, its versions or the attributes of its items, is published anew."""

import threading
from collections.abc import Callable

_AFTER_FAILURE = 30.0


class Follower(threading.Thread):
    """Looks again and again for what is newer."""

    def __init__(
        self,
        newest: Callable[[], int | None],
        number: int | None,
        load: Callable[[], int | None],
        *,
        seconds: float,
        on_failure: Callable[[Exception], None],
    ):
        """Does not start yet.

        `newest` gives the number of the newest there is; `number` is that of what is loaded, if anything is;
        `load` loads the newest, and gives its number. Between two looks are so many seconds, after a failure
        at least 30; `on_failure` is told why the newest cannot be used, and it is tried again.
        """
        super().__init__(daemon=True, name="follower")
        self._newest, self._number, self._load = newest, number, load
        self._seconds, self._on_failure = seconds, on_failure
        self._stopped = threading.Event()

    def run(self) -> None:
        """Looks until `stop` is called."""
        seconds = self._seconds
        while not self._stopped.wait(seconds):
            seconds = self._seconds
            try:
                if self._newest() != self._number:
                    self._number = self._load()
            except Exception as error:  # whatever it is, what is in use goes on
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

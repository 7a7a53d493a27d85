"""The progress of recommendations in batch on the screen."""

import sys
import time
from types import TracebackType

from tqdm import tqdm


class RetrievalProgress:
    """A bar over the bytes of the inputs with the time left, and beside it users and items a second."""

    def __init__(self, num_bytes: int):
        """Sets its length.

        Args:
          num_bytes: of all inputs.
        """
        self._num_bytes = num_bytes
        self._users = self._items = 0

    def __enter__(self) -> "RetrievalProgress":
        """Shows the bar."""
        self._started = time.perf_counter()
        self._bar = tqdm(
            total=self._num_bytes,
            unit="B",
            unit_scale=True,
            desc="retrieve",
            dynamic_ncols=True,
            # A log file gets a line now and then, a screen a bar that moves.
            mininterval=0.5 if sys.stderr.isatty() else 30.0,
        )
        return self

    @property
    def seconds(self) -> float:
        """Since the bar was shown."""
        return time.perf_counter() - self._started

    def read(self, num_bytes: int) -> None:
        """Moves the bar."""
        self._bar.update(num_bytes)

    def answered(self, users: int, items: int) -> None:
        """Counts users and the items that were recommended to them."""
        self._users += users
        self._items += items
        seconds = self.seconds
        rates = {
            "users": f"{self._users:,}",
            "users/s": f"{self._users / seconds:,.0f}",
            "items/s": f"{self._items / seconds:,.0f}",
        }
        self._bar.set_postfix(rates, refresh=False)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leaves the screen in order."""
        self._bar.close()

"""The progress of recommendations in batch on the screen."""

import sys
import time

from tqdm import tqdm


class RetrievalProgress(tqdm):
    """A bar over the bytes of the inputs with the time left, and beside it users and items a second."""

    def __init__(self, num_bytes: int):
        """Shows the bar; `num_bytes` are those of all inputs."""
        self._started = time.perf_counter()
        self._users = self._items = 0
        super().__init__(
            total=num_bytes,
            unit="B",
            unit_scale=True,
            desc="retrieve",
            dynamic_ncols=True,
            # A log file gets a line now and then, a screen a bar that moves.
            mininterval=0.5 if sys.stderr.isatty() else 30.0,
        )

    @property
    def seconds(self) -> float:
        """Since the bar was shown."""
        return time.perf_counter() - self._started

    def step(self, num_bytes: int, users: int, items: int) -> None:
        """Counts bytes that were read, users, and the items that were recommended to them."""
        self._users += users
        self._items += items
        rates = {
            "users": f"{self._users:,}",
            "users/s": f"{self._users / self.seconds:,.0f}",
            "items/s": f"{self._items / self.seconds:,.0f}",
        }
        self.set_postfix(rates, refresh=False)
        self.update(num_bytes)

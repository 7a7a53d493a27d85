"""The bundle's newest tower, replaced while it serves when a newer one is published."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from export.index.catalogue_cache import CatalogueCache
from export.store.layout import read_tower, resolve_number, tower_directory
from export.towers.answers import TowerAnswer
from export.towers.local import LocalTower

_AFTER_FAILURE = 30.0


class NewestTower:
    """A tower in this process; see `export.towers.answers.Tower`.

    A call that has begun ends with the tower with which it began, and names that one's version.
    """

    def __init__(self, bundle: Path, catalogues: CatalogueCache):
        """Loads the newest tower; raises BundleError when it cannot be used."""
        self._bundle, self._catalogues = bundle, catalogues
        self.number, self._tower = LocalTower.load_newest(bundle, catalogues)

    def __call__(self, histories: Sequence[Sequence[str]], timeout: float | None = None) -> TowerAnswer:
        """Answers with the tower of the moment."""
        return self._tower(histories, timeout)

    def refresh(self) -> int | None:
        """Changes to the newest tower; gives its number if it was another one.

        Raises:
          BundleError: it cannot be used; the one in use stays.
        """
        if resolve_number(self._bundle, None) == self.number:
            return None
        self.number, self._tower = LocalTower.load_newest(self._bundle, self._catalogues)
        return self.number


class IndexAhead:
    """For a tower elsewhere: opens the newest index before the first answer that names it arrives."""

    def __init__(self, bundle: Path, catalogues: CatalogueCache):
        """Opens nothing yet."""
        self._bundle, self._catalogues = bundle, catalogues
        self.number: int | None = None

    def refresh(self) -> int | None:
        """Opens the newest tower's index; gives its number if it was another one.

        Raises:
          BundleError: it cannot be used.
        """
        number = resolve_number(self._bundle, None)
        if number == self.number:
            return None
        self._catalogues.get(read_tower(tower_directory(self._bundle, number))["version"])
        self.number = number
        return number


class Follower(threading.Thread):
    """Looks again and again for a newer version."""

    def __init__(
        self,
        refresh: Callable[[], int | None],
        seconds: float,
        on_change: Callable[[int], None],
        on_failure: Callable[[Exception], None],
    ):
        """Does not start yet.

        Args:
          refresh: changes to the newest version, and gives its number if it did.
          seconds: between two looks; after a failure at least 30.
          on_change: told the number.
          on_failure: told why the newest version cannot be used; it is tried again.
        """
        super().__init__(daemon=True, name="follower")
        self._refresh, self._seconds = refresh, seconds
        self._on_change, self._on_failure = on_change, on_failure
        self._stopped = threading.Event()

    def run(self) -> None:
        """Looks until `stop` is called."""
        seconds = self._seconds
        while not self._stopped.wait(seconds):
            seconds = self._seconds
            try:
                number = self._refresh()
            except Exception as error:  # whatever it is, the version in use goes on
                self._on_failure(error)
                seconds = max(seconds, _AFTER_FAILURE)
                continue
            if number is not None:
                self._on_change(number)

    def stop(self, seconds: float) -> bool:
        """Ends the thread, and tells whether it has ended.

        Args:
          seconds: how long to wait for a look that has begun; the loading of a version cannot be stopped.
        """
        self._stopped.set()
        self.join(seconds)
        return not self.is_alive()

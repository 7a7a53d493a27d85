"""The catalogues of a bundle, opened when a tower first names them.

During a roll-out old and new towers answer side by side, so more than one is kept.
"""

import threading
from collections import OrderedDict
from pathlib import Path

from export.index.catalogue import Catalogue
from export.store.bundle_errors import MissingVersionError
from export.store.layout import index_directory

_KEPT = 3


class CatalogueCache:
    """Gives the catalogue of a version; safe to call from many threads."""

    def __init__(self, bundle: Path | str, keep: int = _KEPT):
        """Opens nothing yet; of what is opened, the `keep` that were asked for last stay in memory."""
        self._bundle = Path(bundle)
        self._keep = keep
        self._opened: OrderedDict[str, Catalogue] = OrderedDict()
        self._lock = threading.Lock()
        # Whoever asks for an open catalogue does not wait for one that is being opened.
        self._opening = threading.Lock()

    def get(self, version: str) -> Catalogue:
        """Gives a version's catalogue, from memory or from the bundle.

        Raises:
          BundleError: the bundle has no index of that name (MissingVersionError), or one that cannot be used.
        """
        catalogue = self._held(version)
        if catalogue is not None:
            return catalogue
        with self._opening:
            catalogue = self._held(version)  # another thread may just have opened it
            if catalogue is not None:
                return catalogue
            catalogue = Catalogue.load(self._directory(version))
            with self._lock:
                self._opened[version] = catalogue
                while len(self._opened) > self._keep:
                    self._opened.popitem(last=False)
            return catalogue

    def _held(self, version: str) -> Catalogue | None:
        with self._lock:
            if version in self._opened:
                self._opened.move_to_end(version)
            return self._opened.get(version)

    def _directory(self, version: str) -> Path:
        directory = index_directory(self._bundle, version)
        # A version comes from another machine: it must not lead out of the bundle.
        if not version.isalnum() or not directory.is_dir():
            raise MissingVersionError(
                f"The tower answers version {version!r:.50}, which is not in {directory.parent}; publish the"
                " run again, or copy that index there. An index goes out before its tower does."
            )
        return directory

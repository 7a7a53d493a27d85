"""The catalogues of a bundle, opened when a tower first names them.

During a roll-out old and new towers answer side by side, so more than one is kept.
"""

import threading
from pathlib import Path

from export.index.catalogue import Catalogue
from export.index.engine import OpenEngine
from export.index.engines import open_best
from export.store.bundle_errors import MissingVersionError
from export.store.layout import index_directory

_KEPT = 3


class CatalogueCache:
    """Gives the catalogue of a version; safe to call from many threads."""

    def __init__(self, bundle: Path | str, keep: int = _KEPT, *, open_engine: OpenEngine = open_best):
        """Opens nothing yet; the `keep` that were opened last stay in memory."""
        self._bundle = Path(bundle)
        self._keep = keep
        self._open_engine = open_engine
        self._opened: dict[str, Catalogue] = {}  # replaced, not changed, while others look into it
        self._opening = threading.Lock()

    def get(self, version: str) -> Catalogue:
        """Gives a version's catalogue, from memory or from the bundle.

        Raises:
          BundleError: the bundle has no index of that name (MissingVersionError), or one that cannot be used.
        """
        catalogue = self._opened.get(version)
        if catalogue is None:
            with self._opening:  # whoever asks for another one, which is open, does not wait
                catalogue = self._opened.get(version)  # another thread may just have opened it
                if catalogue is None:
                    catalogue = Catalogue.load(self._directory(version), self._open_engine)
                    self._opened = dict([*self._opened.items(), (version, catalogue)][-self._keep :])
        return catalogue

    def _directory(self, version: str) -> Path:
        directory = index_directory(self._bundle, version)
        # A version comes from another machine: it must not lead out of the bundle.
        if not version.isalnum() or not directory.is_dir():
            raise MissingVersionError(
                f"The tower answers version {version!r:.50}, which is not in {directory.parent}; publish the"
                " run again, or copy that index there. An index goes out before its tower does."
            )
        return directory

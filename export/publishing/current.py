"""What the latest version of a bundle answers with, to be held against what is published next."""

from pathlib import Path

from export.index.catalogue import Catalogue
from export.store.bundle_errors import BundleError
from export.store.layout import index_directory, read_tower, resolve_number, tower_directory


def current_catalogue(bundle: Path) -> tuple[int, Catalogue] | None:
    """The number of the latest version, and its items.

    None where there is no version yet, or the latest cannot be read: publishing mends that.
    """
    try:
        number = resolve_number(bundle, None)
        version = read_tower(tower_directory(bundle, number))["version"]
        return number, Catalogue.load(index_directory(bundle, version))
    except BundleError:
        return None

"""What the latest version of a bundle answers with, to be held against what is published next."""

from dataclasses import dataclass
from pathlib import Path

from export.index.catalogue import Catalogue
from export.store.bundle_errors import BundleError
from export.store.layout import index_directory, read_tower, tower_directory, tower_numbers


@dataclass(frozen=True)
class CurrentCatalogue:
    """The items of the latest version.

    Attributes:
      number: of the version.
      item_ids: what can be answered: with items added to its index later, without those withdrawn.
      is_updated: whether export/update_index.py changed them.
    """

    number: int
    item_ids: frozenset[str]
    is_updated: bool


def current_catalogue(bundle: Path) -> CurrentCatalogue | None:
    """Reads the items of the latest version.

    Args:
      bundle: the bundle's directory.

    Returns:
      The items; None where there is no version yet, or the latest cannot be read: publishing mends that.
    """
    for number in tower_numbers(bundle)[-1:]:
        try:
            version = read_tower(tower_directory(bundle, number))["version"]
            catalogue = Catalogue.load(index_directory(bundle, version))
        except BundleError:
            return None
        return CurrentCatalogue(number, frozenset(catalogue.answered_ids), catalogue.is_updated)
    return None

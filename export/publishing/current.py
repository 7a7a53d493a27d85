"""What the latest version of a bundle answers with, to be held against what is published next."""

from dataclasses import dataclass
from pathlib import Path

from export.errors import BundleError
from export.index.changes import CHANGES, Changes
from export.item_index import read_description, read_ids
from export.publishing.layout import index_directory, read_tower, tower_directory, tower_numbers


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
            index = index_directory(bundle, read_tower(tower_directory(bundle, number))["version"])
            description, item_ids = read_description(index), read_ids(index)
            withdrawn = Changes.load(index / CHANGES).withdrawn_rows if description["format"] == 2 else ()
        except BundleError:
            return None
        answered = frozenset(item_ids) - {item_ids[row] for row in withdrawn}
        return CurrentCatalogue(number, answered, "update" in description)
    return None

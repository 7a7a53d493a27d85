"""What `index.json` must say for an index to be searched, measured and built again."""

from pathlib import Path
from typing import Any

from export.index.index_options import INDEX_MEMORIES, INDEX_METHODS, MOST_PARTS
from export.store.bundle_errors import BundleError
from export.store.descriptions import FINGERPRINT, POSITIVE, check, one_of, read_description, share, whole

DESCRIPTION = "index.json"

_CHECKS = {
    # 2: with changes.npz, so that a reader of format 1 does not take slots for rows. 3, 4: the same in parts.
    "format": one_of(1, 2, 3, 4),
    "fingerprint": FINGERPRINT,
    "method": one_of("exact", "tree"),
    "requested_method": one_of(*INDEX_METHODS),
    "memory": one_of(*INDEX_MEMORIES),
    "similarity": one_of("dot", "cosine"),
    "items": POSITIVE,
    "dimension": whole(1, 1 << 16),
    "k": POSITIVE,
    "target_recall": ("a number from 0 to 1", share),
    "recall": ("a number from 0 to 1, or null", lambda one: one is None or share(one)),
    "queries": whole(0, (1 << 31) - 1),
    "searched_bytes": whole(0, 1 << 50),
    "settings": ("an object", lambda one: isinstance(one, dict)),
}
_OPTIONAL = {
    "vocabulary_size": POSITIVE,
    "parts": whole(1, MOST_PARTS),
    "requested_parts": whole(0, MOST_PARTS),
}
_OF_TREE = {"num_leaves": POSITIVE, "leaves_to_search": POSITIVE, "reorder": POSITIVE}


def read_index(directory: Path) -> dict[str, Any]:
    """Reads `index.json`; raises BundleError when it is missing, has changed, or is not ours."""
    description = read_description(directory, DESCRIPTION, _CHECKS, _OPTIONAL)
    settings, place = description["settings"], f"{directory / DESCRIPTION}:"
    if description["method"] == "tree":
        check(settings, f"{place} settings", _OF_TREE, {})
        if settings["leaves_to_search"] > settings["num_leaves"]:
            raise BundleError(f"{place} settings search more leaves than there are; publish again.")
    if (description["format"] > 2) != (description.get("parts", 1) > 1):
        raise BundleError(f"{place} format and 'parts' do not belong together; publish again.")
    if has_changes(description) and "vocabulary_size" not in description:
        raise BundleError(f"{place} 'vocabulary_size' is missing; publish again.")
    return description


def format_of(description: dict[str, Any], *, has_changes: bool) -> int:
    """The format that an index is saved in."""
    return (3 if description.get("parts", 1) > 1 else 1) + has_changes


def has_changes(description: dict[str, Any]) -> bool:
    """Whether an index was saved with what has changed since it was built."""
    return description["format"] in (2, 4)

"""What `index.json` may say, and what the other files of an index must be to agree with it."""

from pathlib import Path
from typing import Any

from export.index.index_options import INDEX_MEMORIES, INDEX_METHODS
from export.store import checksums, descriptions
from export.store.bundle_errors import BundleError
from export.store.descriptions import list_of, mapping, number, one_of, or_null, record, text, whole
from export.store.layout import FINGERPRINT

DESCRIPTION = "index.json"
MOST_DIMENSIONS = 1 << 16

_COUNT, _POSITIVE = whole(0, (1 << 31) - 1), whole(1, (1 << 31) - 1)
_RECALL = or_null(number(-2, 1))  # the mean less two standard errors may be below zero
_AMOUNT = number(0, 1e12)
_SEARCHED = {"leaves_to_search": _POSITIVE, "reorder": _POSITIVE}
_SHA256 = text(64)
_CHECK = record(
    {
        # 2: with changes.npz, so that a reader of format 1 does not take slots for rows.
        "format": one_of(1, 2),
        "fingerprint": FINGERPRINT,
        "method": one_of("exact", "tree"),
        "metric": one_of("dot_product"),
        "settings": record({}, {"num_leaves": _POSITIVE, "soar_lambda": _AMOUNT, **_SEARCHED}),
        "items": _POSITIVE,
        "dimension": whole(1, MOST_DIMENSIONS),
        "k": _POSITIVE,
        "recall": _RECALL,
        "target_recall": number(0, 1),
        "milliseconds_per_query": or_null(_AMOUNT),
        "queries": _COUNT,
        "build_seconds": _AMOUNT,
        "curve": list_of(
            record(
                {"recall": _RECALL, "milliseconds": or_null(_AMOUNT)}, {"recall_low": _RECALL, **_SEARCHED}
            ),
            most=10_000,
        ),
    },
    {
        "memory": one_of(*INDEX_MEMORIES),
        "similarity": one_of("dot", "cosine"),
        "requested_method": one_of(*INDEX_METHODS),
        "recall_low": _RECALL,
        "searched_bytes": whole(0, 1 << 50),
        "vocabulary_size": _POSITIVE,
        "update": record({"of": FINGERPRINT, "digest": text(64)}),
        "now": record(
            {
                "recall": _RECALL,
                "milliseconds_per_query": or_null(_AMOUNT),
                "searched_beside": _COUNT,
                "withdrawn": _COUNT,
                "changed_share": _AMOUNT,
                "rebuild_advised": list_of(text(1_000), 10),
            },
            {"recall_low": _RECALL, "hidden": _COUNT},
        ),
        # What earlier releases wrote in place of a list of checksums.
        "ids_sha256": _SHA256,
        "bytes": mapping(text(255), whole(0, 1 << 50)),
        "sha256": mapping(text(255), _SHA256),
    },
)


def read_description(directory: Path) -> dict[str, Any]:
    """Reads `index.json`; raises BundleError when it is missing, has changed, or is not ours."""
    description = descriptions.read_description(directory, DESCRIPTION, _CHECK)
    settings = description["settings"]
    if description["method"] == "tree":
        missing = {"num_leaves", "leaves_to_search", "reorder"} - settings.keys()
        if missing or settings["leaves_to_search"] > settings["num_leaves"]:
            raise BundleError(
                f"{directory / DESCRIPTION}: settings are {settings}; wanted those of a tree. Publish again."
            )
    if description["format"] == 2 and "vocabulary_size" not in description:
        raise BundleError(f"{directory / DESCRIPTION} has no vocabulary_size; publish again.")
    # Neither was written when there was but one, or nothing depended on it.
    return {"memory": "full", "similarity": "dot"} | description


def file_digests(directory: Path, description: dict[str, Any]) -> dict[str, str | None]:
    """Names the files of an index, each with its SHA-256 when it was published, if that was recorded."""
    sums = checksums.recorded(directory)
    if sums is not None:
        return dict(sums)
    digests = description.get("sha256", {})
    return {name: digests.get(name) for name in description.get("bytes", {})}


def verify(directory: Path) -> dict[str, Any]:
    """Gives the description of an index all of whose files are as they were published.

    Raises:
      BundleError: a file is missing, or has changed; or the description is not of an index.
    """
    description = read_description(directory)
    if checksums.verify(directory):
        return description
    if "bytes" not in description:
        raise BundleError(f"{directory / DESCRIPTION} does not tell the sizes of its files; publish again.")
    digests = description.get("sha256", {})
    for name, size in description["bytes"].items():
        file = checksums.inside(directory, name)
        try:
            length = file.stat().st_size
        except OSError as error:
            raise BundleError(f"{file} cannot be read ({error}); publish again.") from error
        if length != size:
            raise BundleError(f"{file} is not {size} bytes long; publish again.")
        if name in digests and checksums.sha256(file) != digests[name]:
            raise BundleError(f"{file} has changed since it was published; publish again.")
    return description

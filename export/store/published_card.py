"""The model card of a published tower: what it was trained on and with, and its figures beside baselines.

It lies where TensorFlow Serving ignores it. It is one of the tower's files and goes where the tower goes:
into roll-backs, updates and copies.
"""

import json
from pathlib import Path
from typing import Any

from export.store import checksums
from export.store.bundle_errors import BundleError
from export.store.descriptions import check, one_of, read_description, share, whole
from export.store.layout import TOWER_EXTRA

MODEL_CARD = f"{TOWER_EXTRA}/model_card.json"
_FORMAT = 1
_MOST_BYTES = 1 << 20
_CHECKS = {
    "format": one_of(_FORMAT),
    "system": ("a text", lambda one: isinstance(one, str)),
    "figures": ("a list of objects", lambda one: isinstance(one, list) and all(type(x) is dict for x in one)),
}
_SHARES = ("a list of numbers from 0 to 1", lambda one: isinstance(one, list) and all(map(share, one)))
_HISTORIES = {"histories": whole(0, (1 << 63) - 1), "popularity": _SHARES, "lengths": _SHARES}


def write_model_card(tower: Path, card: dict[str, Any]) -> None:
    """Writes the card of a tower that is not published yet; raises BundleError if it is too large."""
    text = json.dumps({"format": _FORMAT} | card, indent=2) + "\n"
    if len(text.encode()) > _MOST_BYTES:
        raise BundleError(f"The model card has {len(text):,} letters; wanted at most {_MOST_BYTES:,} bytes.")
    (tower / MODEL_CARD).write_text(text, encoding="utf-8")


def read_model_card(tower: Path) -> dict[str, Any] | None:
    """Reads the card of a published tower; None: it was published without.

    Raises:
      BundleError: it cannot be read, has changed, or says what it may not say.
    """
    if MODEL_CARD not in checksums.recorded(tower):
        return None
    card = read_description(tower, MODEL_CARD, _CHECKS)
    if "histories" in card:
        check(card["histories"], f"{tower / MODEL_CARD}: histories", _HISTORIES, {})
    return card


def is_card_of(tower: Path, card: dict[str, Any]) -> bool:
    """Whether a published tower has this very card."""
    try:
        return read_model_card(tower) == json.loads(json.dumps({"format": _FORMAT} | card))
    except BundleError:
        return False

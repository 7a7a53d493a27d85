"""Pictures with texts in any script: matplotlib tries its default font alone unless it is told of others."""

import re
import unicodedata
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# It has a sign for everything, which stands for a missing glyph.
_LAST_RESORT = "Last Resort"
_SHOWN = 8  # characters in the note


def save(figure: "Figure", path: Path, *, dpi: int) -> set[str]:
    """Saves a picture whose texts are drawn by installed fonts that have their characters.

    Args:
      figure: with all its texts.
      path: of the picture.
      dpi: pixels an inch.

    Returns:
      The characters that no installed font has: they are empty boxes. `note` says so.
    """
    from matplotlib import font_manager
    from matplotlib.text import Text

    missing = _drawn(figure, path, dpi)
    if missing:
        _learn_of_new_fonts()
        families = {entry.name for entry in font_manager.fontManager.ttflist}
        others = sorted(name for name in families if not name.startswith(_LAST_RESORT))
        for text in figure.findobj(Text):
            if not missing.isdisjoint(text.get_text()):
                text.set_fontfamily([*text.get_fontfamily(), *others])
        missing = _drawn(figure, path, dpi)
    return missing


def note(missing: set[str]) -> str:
    """What to print of characters that no installed font has.

    Args:
      missing: from `save`; at least one.
    """
    some = " ".join(sorted(missing)[:_SHOWN])
    more = f" and {len(missing) - _SHOWN:,} other characters" if len(missing) > _SHOWN else ""
    return (
        f"note: no installed font has {some}{more}: empty boxes in the pictures. Install one that has, such"
        " as Noto's (Debian: the packages fonts-noto-core and fonts-noto-cjk), and run this again."
    )


def _drawn(figure: "Figure", path: Path, dpi: int) -> set[str]:
    """Saves a picture, and gives the characters that matplotlib had no glyph for."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        figure.savefig(path, dpi=dpi)
    missing = set()
    for one in said:
        if found := re.match(r"Glyph (\d+) ", str(one.message)):
            missing.add(chr(int(found[1])))
        else:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    return set(filter(_is_drawn, missing))


def _learn_of_new_fonts() -> None:
    """Adds fonts that were installed after matplotlib made its list of them."""
    from matplotlib import font_manager

    known = {entry.fname for entry in font_manager.fontManager.ttflist}
    for path in font_manager.findSystemFonts():
        if path not in known:
            try:
                font_manager.fontManager.addfont(path)
            except Exception:  # matplotlib's own list passes over them, too: it cannot draw by such a font
                continue


def _is_drawn(character: str) -> bool:
    """Whether it is a sign of its own: not a control or format character, nor a variation selector."""
    is_selector = unicodedata.name(character, "").startswith("VARIATION SELECTOR")
    return unicodedata.category(character) not in ("Cc", "Cf") and not is_selector

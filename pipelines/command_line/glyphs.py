"""Pictures with texts in any script: matplotlib tries its default font alone unless it is told of others."""

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
    from matplotlib.text import Text

    texts = figure.findobj(Text)
    foreign = _not_in_default_fonts("".join(text.get_text() for text in texts))
    families, missing = _families(foreign)
    for text in texts:
        if not foreign.isdisjoint(text.get_text()):
            text.set_fontfamily([*text.get_fontfamily(), *families])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)  # one at each character
        figure.savefig(path, dpi=dpi)
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


def _not_in_default_fonts(text: str) -> set[str]:
    import matplotlib
    from matplotlib import font_manager, ft2font

    default = [font_manager.FontProperties(family=[one]) for one in matplotlib.rcParams["font.family"]]
    fonts = [ft2font.FT2Font(font_manager.findfont(properties)) for properties in default]
    return {
        character
        for character in set(text)
        if _is_drawn(character) and not any(font.get_char_index(ord(character)) for font in fonts)
    }


def _families(foreign: set[str]) -> tuple[list[str], set[str]]:
    """The families to try after the default ones for some characters, and those that none has."""
    missing = set(foreign)
    families = _found(missing)
    if missing and _learn_of_new_fonts():
        families += _found(missing)
    return families, missing


def _found(missing: set[str]) -> list[str]:
    """Takes from `missing` what installed fonts have, and gives their families, the most useful first."""
    from matplotlib import font_manager, ft2font

    families: list[str] = []
    if not missing:
        return families
    has: dict[str, set[str]] = {}
    for entry in font_manager.fontManager.ttflist:
        if entry.name not in has and not entry.name.startswith(_LAST_RESORT):
            font = ft2font.FT2Font(entry.fname)
            has[entry.name] = {one for one in missing if font.get_char_index(ord(one))}
    while missing:
        # Of several as good, the first by name: the same picture on every machine with these fonts.
        family = max(sorted(has), key=lambda name: len(has[name] & missing))
        if not has[family] & missing:
            break
        families.append(family)
        missing -= has[family]
    return families


def _learn_of_new_fonts() -> bool:
    """Adds fonts that were installed after matplotlib made its list of them; tells whether any were."""
    from matplotlib import font_manager

    known = {entry.fname for entry in font_manager.fontManager.ttflist}
    before = len(known)
    for path in font_manager.findSystemFonts():
        if path not in known:
            try:
                font_manager.fontManager.addfont(path)
            except Exception:  # matplotlib's own list passes over them, too: it cannot draw by such a font
                continue
            known.add(path)
    return len(known) > before


def _is_drawn(character: str) -> bool:
    """Whether it is a sign of its own: not a control or format character, nor a variation selector."""
    is_selector = unicodedata.name(character, "").startswith("VARIATION SELECTOR")
    return unicodedata.category(character) not in ("Cc", "Cf") and not is_selector

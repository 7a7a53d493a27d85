"""Pictures with texts in any script: matplotlib tries its default font alone unless it is told of others."""

import re
import unicodedata
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# It has a sign for everything, which stands for a missing glyph.
_LAST_RESORT = "Last Resort"
_SHOWN = 8  # characters in the note


def save(figure: "Figure", path: Path, *, dpi: int) -> None:
    """Saves a picture, with all installed fonts to draw its texts by; notes characters that none of them has.

    Args:
      figure: with all its texts.
      path: of the picture.
      dpi: pixels an inch.
    """
    from matplotlib import font_manager
    from matplotlib.text import Text

    fonts = font_manager.fontManager
    # Those that were installed after matplotlib made its list.
    for found in set(font_manager.findSystemFonts()) - {entry.fname for entry in fonts.ttflist}:
        with suppress(Exception):  # matplotlib's own list, too, passes over what it cannot draw by
            fonts.addfont(found)
    upright = [entry for entry in fonts.ttflist if entry.weight in (400, "normal", "regular")]
    others = sorted({entry.name for entry in upright if not entry.name.startswith(_LAST_RESORT)})
    for text in figure.findobj(Text):
        if not text.get_text().isascii():
            text.set_fontfamily([*text.get_fontfamily(), *others])
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        figure.savefig(path, dpi=dpi)
    missing = set()
    for one in said:
        if glyph := re.match(r"Glyph (\d+) ", str(one.message)):
            missing.add(chr(int(glyph[1])))
        else:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    # Controls, formats and variation selectors are no signs of their own.
    missing = {one for one in missing if unicodedata.category(one) not in ("Cc", "Cf", "Mn")}
    if missing:
        some = " ".join(sorted(missing)[:_SHOWN])
        more = f" and {len(missing) - _SHOWN:,} other characters" if len(missing) > _SHOWN else ""
        print(
            f"note: no installed font has {some}{more}: empty boxes in {path.name}. Install one that has,"
            " such as Noto's (Debian: the packages fonts-noto-core and fonts-noto-cjk), and run this again."
        )

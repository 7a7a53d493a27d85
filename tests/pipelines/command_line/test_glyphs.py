"""Texts in any script on pictures, with fonts that are made here: what is installed does not matter."""

import warnings

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="the pictures need matplotlib, of the extra `plots`")

from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.image import imread

from pipelines.command_line import glyphs

BUNDLED = [one for one in font_manager.fontManager.ttflist if "mpl-data" in str(one.fname)]


def make_font(path, family, characters):
    """A font whose glyphs are black squares."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 900), (900, 900), (900, 0)):
        pen.lineTo(corner)
    pen.closePath()
    square, empty = pen.glyph(), TTGlyphPen(None).glyph()
    names = {f"u{ord(one):04X}": one for one in characters}
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", *names])
    builder.setupCharacterMap({ord(one): name for name, one in names.items()})
    builder.setupGlyf({".notdef": empty} | dict.fromkeys(names, square))
    builder.setupHorizontalMetrics(dict.fromkeys([".notdef", *names], (1000, 0)))
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": family, "styleName": "Regular"})
    builder.setupOS2(sTypoAscender=900, sTypoDescender=-100)
    builder.setupPost()
    builder.save(path)
    return str(path)


@pytest.fixture
def installed(monkeypatch):
    """The paths of fonts that matplotlib does not know yet; it knows those that it brings itself."""
    paths = []
    monkeypatch.setattr(font_manager.fontManager, "ttflist", list(BUNDLED))
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: paths)
    font_manager.fontManager._findfont_cached.cache_clear()
    yield paths
    font_manager.fontManager._findfont_cached.cache_clear()


def picture(path, text):
    """The text, drawn: pixels, and the characters that no font has."""
    figure = Figure(figsize=(2.0, 0.5))
    figure.text(0.0, 0.2, text, parse_math=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a missing glyph would be one
        missing = glyphs.save(figure, path, dpi=50)
    return imread(path), missing


def test_a_font_that_has_the_characters_is_found_also_when_it_is_new(tmp_path, installed):
    before, missing = picture(tmp_path / "before.png", "a日本ก")
    assert missing == {"日", "本", "ก"}
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    installed += [
        str(tmp_path / "broken.ttf"),
        make_font(tmp_path / "one.ttf", "A Part", "日"),
        make_font(tmp_path / "two.ttf", "Both", "日本"),
    ]
    after, missing = picture(tmp_path / "after.png", "a日本ก")
    assert missing == {"ก"}
    assert not np.array_equal(before, after)
    figure = Figure()
    text, latin = (figure.text(0.0, 0.2, one) for one in ("a日本ก", "a"))
    glyphs.save(figure, tmp_path / "again.png", dpi=50)
    assert {"A Part", "Both"} < set(text.get_fontfamily())
    assert latin.get_fontfamily() == text.get_fontfamily()[:1]
    assert picture(tmp_path / "full.png", "日日")[0].min() == 0.0


def test_what_the_default_font_has_is_drawn_as_ever(tmp_path, installed):
    make_font(tmp_path / "all.ttf", "Everything", "Aé✓")
    installed.append(str(tmp_path / "all.ttf"))
    figure = Figure()
    text = figure.text(0.0, 0.2, "Aé✓\n\u200b\ufe0f")  # neither what is no sign of its own needs another
    families = text.get_fontfamily()
    assert glyphs.save(figure, tmp_path / "a.png", dpi=50) == set()
    assert text.get_fontfamily() == families


def test_the_note_is_one_line_and_says_what_to_install():
    assert glyphs.note({"日"}) == (
        "note: no installed font has 日: empty boxes in the pictures. Install one that has, such as Noto's"
        " (Debian: the packages fonts-noto-core and fonts-noto-cjk), and run this again."
    )
    assert "has 0 1 2 3 4 5 6 7 and 1,992 other characters: " in glyphs.note(set(map(chr, range(48, 2048))))

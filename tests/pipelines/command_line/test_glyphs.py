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


@pytest.fixture
def picture(tmp_path, capsys):
    """Draws a text: pixels, and the note."""

    def draw(text):
        figure = Figure(figsize=(2.0, 0.5))
        figure.text(0.0, 0.2, text, parse_math=False)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a missing glyph would be one
            glyphs.save(figure, tmp_path / "a.png", dpi=50)
        return imread(tmp_path / "a.png"), capsys.readouterr().out

    return draw


def test_a_font_that_has_the_characters_is_found_also_when_it_is_new(tmp_path, installed, picture):
    before, note = picture("a日本ก")
    assert note == (
        "note: no installed font has ก 日 本: empty boxes in a.png. Install one that has, such as Noto's"
        " (Debian: the packages fonts-noto-core and fonts-noto-cjk), and run this again.\n"
    )
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    installed += [
        str(tmp_path / "broken.ttf"),
        make_font(tmp_path / "one.ttf", "A Part", "日"),
        make_font(tmp_path / "two.ttf", "Both", "日本"),
    ]
    after, note = picture("a日本ก")
    assert "no installed font has ก: empty" in note
    assert not np.array_equal(before, after)
    pixels, note = picture("日日")
    assert (pixels.min(), note) == (0.0, "")


def test_what_the_default_font_has_is_drawn_as_ever(tmp_path, installed, picture):
    text = "Aé✓\n\u200b\ufe0f"  # neither what is no sign of its own needs another
    before, note = picture(text)
    installed.append(make_font(tmp_path / "all.ttf", "Everything", "Aé✓"))
    assert note == ""
    assert np.array_equal(picture(text)[0], before)


def test_of_many_characters_a_few_are_named(installed, picture):
    _, note = picture("".join(map(chr, range(0x4E00, 0x4E64))))
    assert "has 一 丁 丂 七 丄 丅 丆 万 and 92 other characters: " in note

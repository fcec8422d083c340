"""Figures have glyphs for what they show: no box in any file, a code point where no installed font has a character."""

from dataclasses import replace

import matplotlib
import numpy as np
import pytest
from matplotlib.font_manager import fontManager

from tests import samples
from visualizers import draw
from visualizers.export import fonts_mpl
from visualizers.export.canvas_mpl import readable, short
from visualizers.export.files import export
from visualizers.export.words_mpl import cut, directions, lines, placed

SCRIPTS = ("plain é ß Ω ж", "東京 海の上", "🎉 👩\u200d👩\u200d👧 🇩🇪 👍🏽", "שלום עולם", "مرحبا",
           "한국어", "ไทย", "हिन्दी", "e\u0301 o\u0308\u0323",
           "𝕬 𐍈", "\ue000 \U0010ffff", "↵⋯␀●", "\x00\u202e\ud83d")


@pytest.fixture
def only_dejavu(monkeypatch):
    """A machine with no font but Matplotlib's own."""
    monkeypatch.setattr(fonts_mpl, "installed", lambda: (fonts_mpl.FIRST,))
    monkeypatch.setattr(fonts_mpl, "_families", [fonts_mpl.FIRST])
    monkeypatch.setitem(matplotlib.rcParams, "font.family", [fonts_mpl.FIRST])
    fonts_mpl.has_font.cache_clear()
    fonts_mpl.ruled.cache_clear()
    yield
    fonts_mpl.has_font.cache_clear()
    fonts_mpl.ruled.cache_clear()


def story(text: str):
    """A text trace whose labels are words of this text."""
    trace = samples.long_text(12, 1)
    words = (text + " ").split(" ")
    labels = tuple(words[i % len(words)] + " " for i in range(trace.canvas.size))
    return replace(trace, canvas=replace(trace.canvas, labels=labels, ids=None), sentence=f"It read: {text}",
                   steps=tuple(replace(step, ids=None, note=text[:20]) for step in trace.steps))


@pytest.mark.filterwarnings("error:Glyph")
@pytest.mark.parametrize("kind", ["png", "svg", "pdf", "gif"])
def test_no_file_shows_a_box(kind, only_dejavu):
    """Matplotlib warns of every glyph that it draws as a box. Mutant: the text as it is."""
    export(story(" ".join(SCRIPTS).encode("utf-8", "ignore").decode()), kind)


@pytest.mark.parametrize("text", SCRIPTS)
def test_every_character_has_a_glyph_or_its_code_point(text, only_dejavu):
    shown = readable(text)
    assert all(fonts_mpl.draws(fonts_mpl.FIRST, char) for char in shown)
    assert all(char in shown for char in text if char in "éßΩжשלוםمرحبا")
    assert readable(shown) == shown  # what is written out is written once


def test_code_points_are_written_as_one_reads_them(only_dejavu):
    assert readable("the 🎉 sea") == "the ‹U+1F389› sea" and readable("東京") == "‹U+6771 U+4EAC›"
    assert short("東京", 6) == "‹U+67…"


def test_a_font_of_this_machine_is_used_where_it_has_the_glyph(only_dejavu, monkeypatch):
    """Mutants: a fixed list of names; a font without outlines; one that draws a box for anything."""
    lacking = next(char for char in map(chr, range(0x2500, 0x1D800)) if char.isprintable()
                   and not fonts_mpl.draws(fonts_mpl.FIRST, char) and fonts_mpl.draws("STIXGeneral", char))
    assert readable(lacking).startswith("‹U+")
    monkeypatch.setattr(fonts_mpl, "installed", lambda: (fonts_mpl.FIRST, "STIXGeneral"))
    fonts_mpl.has_font.cache_clear()
    assert readable(lacking) == lacking and "STIXGeneral" in fonts_mpl.families() == matplotlib.rcParams["font.family"]
    assert fonts_mpl.Ruler(9.5)(lacking) > 0


def test_the_font_that_draws_boxes_is_never_used():
    assert any("Last Resort" in font.name for font in fontManager.ttflist)
    assert fonts_mpl.installed() and not any("Last Resort" in name for name in fonts_mpl.installed())


def test_right_to_left_lines_run_to_the_left():
    line = [(0, "שלום"), (1, " עולם"), (2, " ab"), (3, "cd"), (4, "אב")]
    assert [(token, x) for token, _, x, _ in placed(line, 0, 20, len)] == [(4, 4), (2, 6), (3, 9), (1, 11), (0, 16)]
    line = [(0, "the "), (1, "של"), (2, "ום"), (3, " sea")]
    assert [(token, x) for token, _, x, _ in placed(line, 5, 20, len)] == [(0, 5), (2, 9), (1, 11), (3, 13)]
    assert [x for _, _, x, _ in placed([(0, "ab"), (1, "c")], 5, 20, len)] == [5, 7]
    assert directions([(0, "1. "), (1, "⋯"), (2, "ש"), (3, "!")]) == [False, False, True, True]
    assert directions([(0, "“"), (1, "ש")]) == [True, True]


def test_a_token_wider_than_the_panel_is_cut():
    found = lines(["a" * 25, " bb", None, "one two three four"], 10, len)
    assert all(len("".join(piece for _, piece in line)) <= 10 for line in found)
    assert "".join(piece for line in found for _, piece in line).replace(" ", "") == "a" * 25 + "bbonetwothreefour"
    assert list(cut("one two three", 8, len)) == ["one two", " three"] or "".join(cut("one two three", 8, len)) == (
        "one two three")


def test_text_lies_under_its_own_colour_in_every_script():
    from visualizers.export.figure import FigurePage
    page = FigurePage([draw(story("שלום 東京 the sea"))], 0, "state", False)
    middles = page.middles(0, 0.3, 0.6)
    assert len(middles) == 12 and all(np.isfinite(place).all() for place in middles.values())
    assert all(0.2 < x < page.panel + 0.6 for x, _ in middles.values())

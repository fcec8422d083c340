"""Which installed fonts can draw a text, and what stands for a character that none has: its code point, U+1F389.

DejaVu Sans, which comes with Matplotlib, is asked first, then every font of this machine in turn, once for each
character that was missing so far; Matplotlib then takes each glyph from the first family that has it. Nothing is
downloaded.

Not covered: coloured emoji, whose fonts have no outlines to draw.
"""

from __future__ import annotations

import logging
import re
from functools import cache

import matplotlib
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.ft2font import LoadFlags

FIRST = "DejaVu Sans"
# Fonts that draw a box for anything, and Matplotlib's own for formulas, whose glyphs have other code points
STAND_INS = re.compile("last ?resort|adobe blank|^cm[a-z]+10$|^STIX(Size|NonUnicode)", re.IGNORECASE)
BREAK = "\n"
_families = [FIRST]


def families() -> list[str]:
    """The families in the order in which a glyph is looked for."""
    return list(_families)


def drawable(text: str) -> str:
    """The text with the code points of what no font of this machine can draw."""
    if text.isascii():
        return text
    written = "".join(char if char == BREAK or has_font(char) else f"‹U+{ord(char):04X}›" for char in text)
    return written.replace("›‹U+", " U+")


@cache
def has_font(char: str) -> bool:
    """Whether a family that is used already, or one of this machine, has it in regular and bold."""
    if any(draws(name, char) for name in _families):
        return True
    found = next((name for name in installed() if name not in _families and draws(name, char)), None)
    if found:
        _families.append(found)
        matplotlib.rcParams["font.family"] = families()
        ruled.cache_clear()
    return bool(found)


@cache
def installed() -> tuple[str, ...]:
    """All families here, upright sans serifs first."""
    upright = {font.name for font in fontManager.ttflist if font.style == "normal" and not STAND_INS.search(font.name)}
    return tuple(sorted(upright, key=lambda name: ("sans" not in name.lower(), "mono" in name.lower(), name)))


def draws(name: str, char: str) -> bool:
    """Whether a family has an outline for the character, or a place for one that has none, such as a space."""
    return all(_outlined(path, char) for path in faces(name))


@cache
def faces(name: str) -> tuple[str, ...]:
    """The files of a family's regular and bold face."""
    log = logging.getLogger("matplotlib.font_manager")
    before = log.level
    log.setLevel(logging.ERROR)  # it may have one weight only, which is no news to a visitor
    try:
        return tuple(findfont(FontProperties(family=name, weight=weight)) for weight in ("normal", "bold"))
    finally:
        log.setLevel(before)


def _outlined(path: str, char: str) -> bool:
    try:
        font = get_font(path)
        if not font.get_char_index(ord(char)):
            return False
        font.set_size(12, 72)
        font.load_char(ord(char), flags=LoadFlags.NO_HINTING)
        return char.isspace() or not char.isprintable() or len(font.get_path()[0]) > 0
    except Exception:  # a damaged font, or one of bitmaps only, draws nothing
        return False


class Ruler:
    """Advance widths in inches of text at one size, kerning included."""

    def __init__(self, size: float):
        self.size, self.known = size, {}

    def __call__(self, text: str) -> float:
        if text not in self.known:
            self.known[text] = self._advance(text + "|") - self._advance("|")
        return self.known[text]

    def _advance(self, text: str) -> float:
        font = ruled()
        font.set_size(self.size, 1152)
        font.set_text(text, 0.0, flags=LoadFlags.NO_HINTING)
        return font.get_width_height()[0] / 64 / 1152


@cache
def ruled():
    """The regular faces of all families, as Matplotlib falls back from one to the next."""
    return get_font([faces(name)[0] for name in _families])

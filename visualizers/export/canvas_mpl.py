"""A sheet of paper in inches, y downwards: shapes and lines are collected and laid down in a few Matplotlib batches.

One axes for the whole page and one collection per layer keep a page of 500 cells under a fifth of a second. Text is
written literally: no mathtext, no markup. Nothing here knows a drawing.
"""

from __future__ import annotations

import re
from collections import defaultdict

import matplotlib
import numpy as np
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.text import Text

from visualizers.drawing import palette
from visualizers.export.fonts_mpl import drawable, families, has_font

# Set once: the same trace gives the same file, and text is as wide on paper as it was measured.
matplotlib.rcParams.update({"svg.hashsalt": "tokenscope", "pdf.fonttype": 42, "text.hinting": "no_hinting",
                            "font.family": families()})
DASHES = {"solid": "solid", "dotted": (0, (1, 1.4)), "dashed": (0, (2.4, 1.6))}


class MplCanvas:
    """Collects fills, lines, text and pictures; `figure()` lays them down, lowest layer first."""

    def __init__(self, width: float, height: float, colour: str):
        self.width, self.height = width, height
        self._figure = Figure(figsize=(width, height), facecolor=colour)
        self.axes = self._figure.add_axes((0, 0, 1, 1))
        self.axes.set_xlim(0, width)
        self.axes.set_ylim(height, 0)
        self.axes.set_axis_off()
        self._fills, self._lines = defaultdict(list), defaultdict(list)

    def fill(self, points, colour: str, share: float = 1.0, layer: int = 3) -> None:
        self._fills[layer].append((points, (*unit(colour), share)))

    def box(self, x: float, y: float, w: float, h: float, colour: str, share: float = 1.0, layer: int = 3) -> None:
        self.fill(rectangle(x, y, w, h), colour, share, layer)

    def line(self, points, colour: str, width: float, style: str = "solid", layer: int = 7) -> None:
        self._lines[layer, style].append((points, unit(colour), width))

    def ring(self, x: float, y: float, w: float, h: float, colour: str, width: float, style: str = "solid",
             layer: int = 7, round: float = 0.0) -> None:
        """A frame just inside the box."""
        inset = width / 144
        points = rounded(x + inset, y + inset, w - 2 * inset, h - 2 * inset, max(0.0, round - inset))
        self.line([*points, points[0], points[1]], colour, width, style, layer)

    def text(self, x: float, y: float, words: str, colour: str, size: float, **options) -> None:
        options = {"va": "center", "zorder": 9, **options}
        self.axes.add_artist(Text(x, y, drawable(words), color=colour, fontsize=size, parse_math=False, **options))

    def picture(self, pixels: np.ndarray, x: float, y: float, w: float, h: float) -> None:
        self.axes.imshow(pixels, extent=(x, x + w, y + h, y), interpolation="nearest", aspect="auto", zorder=1)
        self.axes.set_xlim(0, self.width)
        self.axes.set_ylim(self.height, 0)

    def plot(self, x: float, y: float, w: float, h: float):
        """A further axes for a curve, given in inches."""
        axes = self._figure.add_axes((x / self.width, 1 - (y + h) / self.height, w / self.width, h / self.height))
        axes.set_facecolor("none")
        return axes

    def figure(self) -> Figure:
        for layer, found in self._fills.items():
            shapes, colours = zip(*found)
            self.axes.add_collection(PolyCollection(shapes, facecolors=colours, linewidths=0, zorder=layer))
        for (layer, style), found in self._lines.items():
            points, colours, widths = zip(*found)
            self.axes.add_collection(LineCollection(points, colors=colours, linewidths=widths,
                                                    linestyles=DASHES[style], zorder=layer))
        return self._figure


def rectangle(x: float, y: float, w: float, h: float) -> list[tuple[float, float]]:
    return [(x, y), (x + w, y), (x + w, y + h), (x, y + h)]


def rounded(x: float, y: float, w: float, h: float, radius: float) -> list[tuple[float, float]]:
    """A box with round corners."""
    if radius <= 0:
        return rectangle(x, y, w, h)
    turns = np.linspace(0, np.pi / 2, 6)
    corners = [(x + w - radius, y + h - radius), (x + radius, y + h - radius), (x + radius, y + radius),
               (x + w - radius, y + radius)]
    return [(cx + radius * np.cos(t + quarter * np.pi / 2), cy + radius * np.sin(t + quarter * np.pi / 2))
            for quarter, (cx, cy) in enumerate(corners) for t in turns]


def circle(x: float, y: float, radius: float) -> list[tuple[float, float]]:
    turns = np.linspace(0, 2 * np.pi, 33)[:-1]
    return [(x + radius * np.cos(t), y + radius * np.sin(t)) for t in turns]


def unit(colour: str) -> tuple[float, float, float]:
    return tuple(part / 255 for part in palette.rgb(colour))


def readable(text: str) -> str:
    """Control and direction characters made visible, as in the player, and whatever no font here can draw; line breaks
    stay."""
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\t", "    ")
    return drawable("".join(_shown(c) for c in text))


UNSEEN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")


def _shown(char: str) -> str:
    if not UNSEEN.match(char):
        return char
    picture = chr(0x2400 + ord(char))  # ␀ and its kin
    return picture if ord(char) < 32 and has_font(picture) else f"‹U+{ord(char):04X}›"


def short(text: str, limit: int) -> str:
    text = readable(text).replace("\n", " ")
    return text if len(text) <= limit else text[:limit - 1] + "…"

"""What says a token's state on paper: on the edge and in the corner of a cell, under or through a word.

The same shapes as in the browser (visualizers/player/cues.js). Sizes are inches; `sheet` is a MplCanvas.
"""

from __future__ import annotations

import numpy as np

from visualizers.drawing.marks import Mark
from visualizers.export.canvas_mpl import MplCanvas, circle

STYLES = {"dotted": "dotted", "dashed": "dashed"}
WIDE = {"outline": 1.25, "double": 1.0, "given": 0.5, "check": 0.55}  # of a frame, in usual widths
SIGNS = {"check": [[(0.44, 0.24), (0.6, 0.42), (0.88, 0.1)]], "strike": [[(0.5, 0.1), (0.9, 0.5)]],
         "cross": [[(0.52, 0.1), (0.9, 0.48)], [(0.9, 0.1), (0.52, 0.48)]], "corner": []}


def draw_cue(sheet: MplCanvas, mark: Mark, x: float, y: float, w: float, h: float, colours: dict,
             round: float = 0.0) -> None:
    """The second sign of a state on a cell, or on a node with round corners."""
    s = min(w, h)
    line, gap = max(0.6, min(2.4, s * 7.2)), max(0.03, s / 6)
    if mark.cue == "hatch":
        for d in np.arange(gap - max(0.0, w - h), h, gap):
            sheet.line([(x + max(0.0, -d), y + max(0.0, d)), (x + h - d, y + h)], colours["soft"], line * 0.35)
    elif mark.cue == "dot":
        sheet.fill(circle(x + w / 2, y + h / 2, s * 0.08), colours["soft"], 1.0, 7)
    else:
        frame(sheet, mark, (x, y, w, h), line, colours, round)
    if mark.cue in SIGNS:
        corner(sheet, mark, x + w - s, y, s)


def frame(sheet: MplCanvas, mark: Mark, box: tuple[float, float, float, float], line: float, colours: dict,
          round: float) -> None:
    """A frame just inside the cell, and a thin line of paper inside it."""
    def ring(inset: float, colour: str, width: float, style: str = "solid", layer: int = 7) -> None:
        x, y, w, h = box
        sheet.ring(x + inset, y + inset, w - 2 * inset, h - 2 * inset, colour, width, style, layer, round - inset)

    wide = line * WIDE.get(mark.cue, 0.8)
    ring(wide / 72, colours["panel"], line * 0.4)
    if mark.cue in STYLES:
        ring(0, colours["panel"], wide)
    ring(0, mark.edge, wide, STYLES.get(mark.cue, "solid"), 8)
    if mark.cue == "double":
        ring((wide * 1.6 + line * 0.4) / 72, mark.edge, line * 0.6, layer=8)


def corner(sheet: MplCanvas, mark: Mark, x: float, y: float, s: float) -> None:
    """The upper right corner in the state's colour, with a white sign in it."""
    c, right = s * 0.4, x + s
    sheet.fill([(right - c, y), (right, y), (right, y + c)], mark.edge, 1.0, 8)
    for sign in SIGNS[mark.cue]:
        sheet.line([(right - c + u * c, y + v * c) for u, v in sign], "#ffffff", max(0.4, c * 8), layer=9)


def draw_word_cue(sheet: MplCanvas, mark: Mark, x: float, y: float, w: float, h: float, ends: bool) -> None:
    """The second sign of a state on a word; ends: the last of a run, which alone takes a tick."""
    if mark.cue in ("outline", "double"):
        sheet.ring(x, y, w, h, mark.edge, 1.4)
    if mark.cue == "double":
        sheet.ring(x - 0.025, y - 0.025, w + 0.05, h + 0.05, mark.edge, 0.7)
    style = {"dotted": "dotted", "dashed": "dashed", "strike": "solid", "cross": "solid", "check": "solid",
             "dot": "dotted"}.get(mark.cue)
    if style:
        for level in {"strike": (0.52,), "cross": (0.47, 0.58)}.get(mark.cue, (0.93,)):
            sheet.line([(x, y + h * level), (x + w, y + h * level)], mark.edge, 1.3, style)
    if mark.cue == "hatch":
        for d in np.arange(-h, w, 0.06):
            first, last = max(0.0, -d), min(h, w - d)
            sheet.line([(x + d + first, y + h - first), (x + d + last, y + h - last)], "#9a9a9a", 0.3, layer=2)
    if mark.cue == "corner" or (mark.cue == "check" and ends):
        sheet.text(x + w, y, {"check": "✓", "corner": "▴"}[mark.cue], mark.edge, 6.5, ha="right")

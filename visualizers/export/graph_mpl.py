"""A graph on paper: its links beneath, the step's own edges over them, then the nodes with their words.

The same sizes and ends as in the browser (visualizers/player/graph.js); both read visualizers/drawing/graph.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from visualizers.drawing import graph, palette
from visualizers.drawing.marks import Drawing, Mark
from visualizers.export.canvas_mpl import MplCanvas, readable, rounded
from visualizers.export.cues_mpl import draw_cue

MANY = 80  # nodes from which lines are thin and pale
LETTERS = 0.12  # inches: height of a node from which its words can be read


def draw_graph(sheet: MplCanvas, drawing: Drawing, step: int, marks: Sequence[Mark], left: float, top: float,
               panel: float, colours: dict, looks: Sequence[tuple[int, int, float]] = (), bare: bool = False) -> None:
    """One step's graph in a panel of this width; looks: further lines over it, as those of the one who looks."""
    def place(point) -> tuple[float, float]:
        return left + point[0] * panel, top + point[1] * panel

    many, here = drawing.layout.size > MANY, graph.present(drawing, step)
    for start, end in graph.beneath(drawing, step, bare):
        colour = palette.mix(colours["soft"], colours["paper"], 0.45 if many else 0.75)
        _line(sheet, drawing, (start, end, here), place, colour, 0.5 if many else 0.9, 1)
    for start, end, share in [*graph.edges(drawing, step, bare), *looks]:
        colour = palette.mix(colours["accent"], colours["paper"], 0.35 + 0.65 * share)
        _line(sheet, drawing, (start, end, here), place, colour, 1.0 + 1.7 * share, 2)
    for mark in marks:
        if here[mark.token]:
            _node(sheet, drawing, mark, place(drawing.layout.xy[mark.token]), panel, colours)


def _line(sheet: MplCanvas, drawing: Drawing, pair: tuple[int, int, np.ndarray], place, colour: str, width: float,
          layer: int) -> None:
    points = [np.array(place(point)) for point in graph.path(drawing.layout, *pair)]
    if not points:
        return
    end = points[-1]
    if drawing.layout.directed:
        way = end - points[-2]
        far = float(np.hypot(*way)) or 1.0
        size = min(0.035 + 0.03 * width, float(np.hypot(*(end - points[0]))))
        neck, side = end - size * way / far, 0.46 * size * np.array([-way[1], way[0]]) / far
        sheet.fill([tuple(end), tuple(neck + side), tuple(neck - side)], colour, 1.0, layer)
        points = [*(point for point in points[:-1] if np.hypot(*(end - point)) > size), neck]
    if len(points) > 1:
        sheet.line([tuple(point) for point in points], colour, width, layer=layer)


def _node(sheet: MplCanvas, drawing: Drawing, mark: Mark, middle: tuple[float, float], panel: float,
          colours: dict) -> None:
    layout = drawing.layout
    w, h = layout.wide[mark.token] * panel, layout.cell * panel
    x, y, fill = middle[0] - w / 2, middle[1] - h / 2, mark.fill or colours["chip"]
    shape = rounded(x, y, w, h, h * 0.26)
    sheet.fill(shape, palette.mix(fill, colours["panel"], mark.share) if mark.fill else fill, 1.0, 4)
    sheet.line([*shape, shape[0], shape[1]], palette.mix(colours["soft"], colours["panel"], 0.55), 0.6, layer=5)
    if mark.cue:
        draw_cue(sheet, mark, x, y, w, h, colours, h * 0.26)
    if h >= LETTERS and mark.text:
        dark = colours is palette.PAGE["dark"]
        ink = palette.ink_on(mark.fill, mark.share, dark) if mark.fill else colours["ink"]
        ink = palette.mix(ink, colours["panel"], 0.5) if mark.fade < 1 else ink
        words = graph.fitted(readable(mark.text), layout.wide[mark.token], layout.cell)
        sheet.text(middle[0], middle[1], words, ink, h * 72 * 0.52, ha="center", va="center_baseline")

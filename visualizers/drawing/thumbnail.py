"""A drawing as a small picture: its canvas half-way, words as bars; transparent, for light and dark pages."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageDraw

from visualizers.drawing import graph, palette
from visualizers.drawing.marks import Drawing, Mark, cells

SIDE = 152  # pixels; shown at about half of it
WORD = "#9a9ea5"  # grey that reads on both themes
LINE, LETTER, LEAST = 12, 3.4, 6  # pixels: height of a line, width of a letter, narrowest word


def thumbnail(drawing: Drawing) -> bytes:
    """WebP of the step that the tab opens on, or one half-way."""
    step = min(int(drawing.view.get("start", len(drawing.frames) // 2)), len(drawing.frames) - 1)
    marks = cells(drawing, step, str(drawing.view.get("by", "state")))
    paint = {"text": _words, "grid": _grid, "graph": _graph}.get(drawing.layout.kind, _places)
    made, out = Image.new("RGBA", (SIDE, SIDE)), io.BytesIO()
    paint(made, drawing, step, marks)
    made.save(out, "WEBP", quality=50, method=4)
    return out.getvalue()


def _filled(mark: Mark, plain: str | None = None) -> tuple[int, int, int, int] | None:
    """The colour over a token's own picture, with its opacity."""
    if mark.fill is None:
        return None if plain is None else (*palette.rgb(plain), int(255 * mark.fade))
    return (*palette.rgb(mark.fill), int(255 * (mark.share if plain is None else max(0.55, mark.share))))


def _grid(made: Image.Image, drawing: Drawing, step: int, marks: list[Mark]) -> None:
    layout, picture = drawing.layout, drawing.picture(step)
    side = SIDE / max(layout.rows, layout.columns, 1)
    boxes = [(c * side, r * side) for r in range(layout.rows) for c in range(layout.columns)]
    if picture is not None:
        whole = int(layout.columns * side), int(layout.rows * side)
        made.paste(Image.fromarray(picture).resize(whole, Image.Resampling.BOX), (0, 0))
    _squares(made, marks, boxes, side)


def _places(made: Image.Image, drawing: Drawing, step: int, marks: list[Mark]) -> None:
    layout = drawing.layout
    side = max(6.0, layout.cell * SIDE)
    boxes = [tuple(xy * (SIDE - side)) for xy in np.asarray(layout.xy)]
    if drawing.picture(step) is not None and layout.cell:
        made.paste(Image.fromarray(drawing.picture(step)).resize((SIDE, SIDE), Image.Resampling.BOX), (0, 0))
    _squares(made, marks, boxes, side)


def _graph(made: Image.Image, drawing: Drawing, step: int, marks: list[Mark]) -> None:
    layout, over = drawing.layout, Image.new("RGBA", made.size)
    pen, side, here = ImageDraw.Draw(over), SIDE / max(1.0, layout.high), graph.present(drawing, step)
    top = (SIDE - layout.high * side) / 2
    for colour, width, pairs in ((WORD, 1, graph.links(drawing, step)),
                                 (palette.PAGE["light"]["accent"], 3, graph.edges(drawing, step))):
        for start, end, *_ in pairs:
            pen.line([(x * side, top + y * side) for x, y in layout.xy[[start, end]]], colour, width)
    for mark in marks:
        if here[mark.token]:
            (x, y), tall = layout.xy[mark.token] * side, layout.cell * side * 0.75  # apart, though small
            wide = tall + (layout.wide[mark.token] - layout.cell) * side * 0.8
            edge = mark.edge if mark.cue not in ("", "dot", "given") else None
            pen.rounded_rectangle((x - wide / 2, top + y - tall / 2, x + wide / 2, top + y + tall / 2), 2,
                                  fill=_filled(mark, WORD), outline=edge, width=2)
    made.alpha_composite(over)


def _squares(made: Image.Image, marks: list[Mark], boxes, side: float) -> None:
    over = Image.new("RGBA", made.size)
    pen, gap = ImageDraw.Draw(over), 1 if side > 5 else 0
    for mark, (x, y) in zip(marks, boxes):
        box = (x, y, x + side - 1 - gap, y + side - 1 - gap)
        edge = mark.edge if mark.cue not in ("", "dot") and side > 8 else None
        pen.rectangle(box, fill=_filled(mark), outline=edge, width=2)
    made.alpha_composite(over)


def _words(made: Image.Image, drawing: Drawing, step: int, marks: list[Mark]) -> None:
    over = Image.new("RGBA", made.size)
    pen = ImageDraw.Draw(over)
    for mark, box in zip(marks, _flow(mark.text for mark in marks)):
        if box[3] > SIDE:
            break
        pen.rectangle(box, fill=_filled(mark, WORD))
    made.alpha_composite(over)


def _flow(texts: Iterator[str]) -> Iterator[tuple[float, float, float, float]]:
    """Boxes of words on lines, left to right; a line break in a text begins a new line."""
    x = y = 0.0
    for text in texts:
        wide = max(LEAST, LETTER * len(text.strip()))
        if x + wide > SIDE or (text.endswith("\n") and x):
            x, y = 0.0, y + LINE
        yield x, y, min(SIDE - 1.0, x + wide - 2), y + LINE - 4
        x += wide + (2 if text[:1].isspace() else 0)

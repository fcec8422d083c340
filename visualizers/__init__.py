"""Trace -> figure. `draw` turns a trace into one declarative Drawing; the player and the exporter paint it.

    draw(trace, title="ReCAP")          the Drawing of a trace of any tab; payload.pack makes JSON data of it
    player.player(value)                the browser component; value = player.scene(left, right, ...)
    curves.figures(trace, twin)         Plotly figures for the charts that are not lines over steps
    export.export(trace, "png")         PNG, SVG, PDF, GIF or a self-contained HTML page

Nothing here imports torch, and importing this package imports neither gradio nor matplotlib.
"""

from __future__ import annotations

from models.trace import Trace
from visualizers.drawing import attend, mask, prune, sample, unmask
from visualizers.drawing.marks import Drawing

VIEWERS = {"mask": mask.draw, "attend": attend.draw, "prune": prune.draw, "unmask": unmask.draw, "sample": sample.draw}


def draw(trace: Trace, **view) -> Drawing:
    """The Drawing of a trace. View options: title, by ("state" or a field) and those of the tab's viewer."""
    return VIEWERS[trace.tab](trace, **view)

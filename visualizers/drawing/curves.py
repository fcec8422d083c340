"""Plotly figures for the charts of a trace that are not lines over its steps (those the player draws itself).

Bars, scatters, matrices and plain lines, with the baseline's series beside the method's. Plotly reads some markup in
labels, so every text is escaped here. Large matrices are sent as 8-bit codes. Colours come from theme.py.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from functools import partial

import numpy as np
import plotly.graph_objects as go

from models.trace import Chart, Trace
from visualizers.drawing import palette
from visualizers.drawing.axes import (
    COLUMN,
    ROOM,
    UPRIGHT,
    broken,
    columns,
    escape,
    labels,
    room_of,
    runs_of,
    shared_word,
    turned_or_thinned,
)

ENTRY = 30  # characters of an entry of the legend
NEAR = 1e-3  # dots nearer to 0 than this are drawn there
LARGE = 4096  # cells from which a matrix is sent as uint8
MARKERS = ("circle", "diamond-open", "square", "x", "triangle-up", "cross")
TWINS = ("x", "triangle-up-open", "cross-thin-open", "star-open")  # of the baseline's series, which share one colour


def figures(trace: Trace, twin: Trace | None = None, *, dark: bool = False,
            names: tuple[str, str] | None = None) -> list[go.Figure]:
    """One figure per chart that the player does not draw; a twin's chart of the same title joins its figure. names: how
    the two are called, their ids where nothing is said."""
    beside = {} if twin is None else {(chart.kind, chart.title): chart for chart in twin.charts}
    names = names or (trace.method, twin.method if twin else "")
    drawn = [chart for chart in trace.charts if not (chart.kind == "line" and chart.by_step)]
    return [figure(chart, beside.get((chart.kind, chart.title)), names, dark, len(drawn)) for chart in drawn]


def figure(chart: Chart, other: Chart | None = None, names: tuple[str, str] = ("", ""),
           dark: bool = False, many: int = 3) -> go.Figure:
    """The figure of one of `many` charts; `other` is the baseline's of the same title, `names` the two methods."""
    names_of = dict(zip(chart.ticks, columns(chart, len(chart.ticks), room_of(chart, many))))  # the baseline's as well
    make = {"bar": partial(_bars, names_of), "scatter": _points, "line": _lines,
            "matrix": partial(_matrix, many)}[chart.kind]
    drawn = go.Figure(list(make(chart, dark)), {"template": "none"})
    if other is not None and chart.kind != "matrix":
        shared = _shared(chart, other)
        apart = [one for one, name in zip(make(other, dark), other.series) if name not in shared]
        for one, name in zip(drawn.data, chart.series):
            one.name += " (both)" * (name in shared)
        drawn.add_traces([_as_twin(one, names[1], dark, i) for i, one in enumerate(apart)])
    for one in drawn.data:
        one.name = one.name and "<br>".join(textwrap.wrap(one.name, ENTRY, break_long_words=False))
    _dress(drawn, chart, dark, many)
    both = [("", chart)] if other is None else [(f"{names[0]} ", chart), (f"{names[1]} ", other)]
    upright = f"{chart.y} down" if chart.y and chart.kind == "matrix" else chart.y
    under = " · ".join(part for part in (upright, chart.caption) if part)
    drawn.layout.meta = {"alt": ". ".join([chart.title, *(spoken(one, name) for name, one in both)]) + ".",
                         "title": chart.title, "under": under}  # the page writes both above the figure, where they wrap
    return drawn


def _shared(chart: Chart, other: Chart) -> set[str]:
    """The series of a baseline that are the method's as well: they are drawn once."""
    return {name for name, values in other.series.items() if chart.ticks == other.ticks and name in chart.series
            and np.array_equal(values, chart.series[name], equal_nan=True)}


def spoken(chart: Chart, name: str = "") -> str:
    """The chart in words: the extent of each series, and where it has them the place of its largest value."""
    return "; ".join(f"{name}{series}: {_extent(chart, np.asarray(values, np.float64))}"
                     for series, values in chart.series.items())


def _extent(chart: Chart, values: np.ndarray) -> str:
    heights = values[:, 1] if chart.kind in ("line", "scatter") else values
    if not np.isfinite(heights).any():
        return "no values"
    top = int(np.nanargmax(heights))
    at = f" at {chart.ticks[top]}" if chart.kind == "bar" and top < len(chart.ticks) else ""
    return f"{np.nanmin(heights):.3g} to {np.nanmax(heights):.3g} {chart.y}{at}".strip()


def _series(chart: Chart, dark: bool) -> Iterator[tuple[int, str, np.ndarray, str]]:
    accent = palette.PAGE["dark" if dark else "light"]["accent"]
    for number, (name, values) in enumerate(chart.series.items()):
        colour = accent if number == 0 else palette.SERIES[(number - 1) % len(palette.SERIES)]
        yield number, escape(name), np.asarray(values, np.float64), colour


def _bars(names: dict[str, str], chart: Chart, dark: bool) -> Iterator[go.Bar]:
    for _, name, values, colour in _series(chart, dark):
        ticks = [names.get(tick, broken(tick)) for tick in chart.ticks] or list(range(1, len(values) + 1))
        yield go.Bar(x=ticks, y=_plain(values), name=name, marker_color=colour,
                     hovertemplate=f"%{{x}}: %{{y:.3g}} {_safe(chart.y)}<extra>{_safe(name)}</extra>")


def _points(chart: Chart, dark: bool) -> Iterator[go.Scatter]:
    for number, name, values, colour in _series(chart, dark):
        yield go.Scatter(x=_plain(values[:, 0]), y=_plain(values[:, 1]), name=name, mode="markers",
                         marker={"color": colour, "size": 7, "opacity": 0.75, "symbol": MARKERS[number % len(MARKERS)]},
                         hovertemplate=f"{_safe(chart.x)} %{{x:.3g}}<br>{_safe(chart.y)} %{{y:.3g}}<extra></extra>")


def _lines(chart: Chart, dark: bool) -> Iterator[go.Scatter]:
    dashes = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
    for number, name, values, colour in _series(chart, dark):
        mode = "lines+markers" if len(values) < 25 else "lines"
        yield go.Scatter(x=_plain(values[:, 0]), y=_plain(values[:, 1]), name=name, mode=mode,
                         line={"color": colour, "width": 2.2, "dash": dashes[number % len(dashes)]},
                         hovertemplate=f"{_safe(chart.x)} %{{x:.3g}}: %{{y:.3g}} {_safe(chart.y)}<extra></extra>")


def _matrix(many: int, chart: Chart, dark: bool) -> Iterator[go.Heatmap]:
    values = np.asarray(next(iter(chart.series.values())), np.float64)
    name = _safe(next(iter(chart.series)))
    low, high = _range(values)
    shown = values if values.size < LARGE else low + np.round((values - low) / (high - low) * 255) / 255 * (high - low)
    scale = [[i / 254, palette.hexed(c)] for i, c in enumerate(palette.ramp(low < 0 < high)) if i % 2 == 0]
    z = {"z": _plain(np.round(shown, 5))} if values.size < LARGE else {"z": _coded(values, low, high)}
    ticks = {} if values.size < LARGE else {
        "tickvals": [0, 127, 254], "ticktext": [f"{low + t * (high - low):.3g}" for t in (0, 0.5, 1)]}
    limits = {"zmin": low, "zmax": high} if values.size < LARGE else {"zmin": 0, "zmax": 254}
    yield go.Heatmap(**z, **limits, y=labels(chart.rows, values.shape[0]),
                     x=columns(chart, values.shape[1], room_of(chart, many)),
                     colorscale=scale, xgap=1 if values.size < 900 else 0, ygap=1 if values.size < 900 else 0,
                     colorbar={"title": {"text": name, "side": "right"}, "thickness": 10, "outlinewidth": 0, **ticks},
                     hovertemplate=f"%{{y}}, {_safe(shared_word(chart))}%{{x}}"
                                   f"{': %{z:.3g}' * (values.size < LARGE)}<extra></extra>")


def _coded(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """uint8 codes 0..254, an eighth of the size of numbers in the page."""
    return np.round(np.nan_to_num((values - low) / (high - low)) * 254).astype(np.uint8)


def _range(values: np.ndarray) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if low < 0 < high:
        reach = max(-low, high)
        return -reach, reach
    return low, high if high > low else low + 1.0


def _as_twin(one, name: str, dark: bool, number: int):
    """The baseline's series: the quiet colour, told apart by pattern or dash as well."""
    quiet = palette.PAGE["dark" if dark else "light"]["twin"]
    one.name = f"{escape(name)}" + (f": {one.name}" if one.name else "")
    if isinstance(one, go.Bar):
        one.marker = {"color": quiet, "pattern": {"shape": "/x.-"[number % 4], "solidity": 0.3, "size": 7,
                                                  "fgcolor": "rgba(255,255,255,0.65)", "fillmode": "overlay"}}
    else:
        one.marker = {**one.marker.to_plotly_json(), "color": quiet, "symbol": TWINS[number % len(TWINS)]}
        dash = ("dash", "dot", "dashdot", "longdash")[number % 4]
        one.line = {"color": quiet, "dash": dash, "width": 1.8} if "lines" in one.mode else None
    return one


def _keys(drawn: go.Figure, many: int) -> int:
    """Lines of the legend under a figure: none for one series; a key is its name and its sign. On a wide card three are
    enough for all, and more would leave a gap."""
    lines, left = 0, 0
    for one in drawn.data if len(drawn.data) > 1 else ():
        parts = (one.name or "").split("<br>")
        wide = max(map(len, parts)) + 6
        lines, left = (lines, left - wide) if wide <= left else (lines + len(parts), ROOM[min(many, 3)] - wide)
    return lines if many > 2 else min(lines, 3)


def _dress(drawn: go.Figure, chart: Chart, dark: bool, many: int) -> None:
    keys = 11 * bool(lines := _keys(drawn, many)) + 19 * lines
    page = palette.PAGE["dark" if dark else "light"]
    axis = {"gridcolor": page["line"], "linecolor": page["line"], "zeroline": False, "automargin": True,
            "tickfont": {"color": page["soft"], "size": 11}, "tickangle": 0}
    few = {"dtick": 1} if chart.kind == "line" and _counted(drawn) else {}
    matrix = chart.kind == "matrix"
    places = _places(drawn)
    below = turned_or_thinned(places, room_of(chart, many), COLUMN if matrix else UPRIGHT)
    long = max(map(len, places)) - UPRIGHT if matrix and "autotickangles" in below else 0
    tall = 6 * max(0, long)  # pixels that upright names need
    drawn.layout = go.Layout(  # at once: update_layout takes ten times as long
        template="none", height=(330 if matrix and len(chart.rows) > 14 else 246) + keys + tall,
        paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", barmode=_beside(drawn), bargap=0.25,
        font={"family": palette.FONT, "size": 12, "color": page["soft"]},
        margin={"l": 54, "r": 18, "t": 12, "b": 46 + keys},
        xaxis={**axis, **few, **_named(drawn.data[0].x), **below,
               "title": {"text": broken(chart.x, ENTRY), "standoff": 6, "font": {"size": 12}}},
        showlegend=lines > 0,
        yaxis={**axis, **(_downwards(drawn.data[0].y) if matrix else _level(drawn))},
        legend={"orientation": "h", "y": 0, "yref": "container", "yanchor": "bottom", "x": 0.06},
        modebar={"remove": ["zoom", "pan", "select", "lasso", "autoscale"]})
    if chart.reference is not None and not matrix:
        drawn.add_hline(y=chart.reference, line={"color": page["soft"], "dash": "dot", "width": 1.5})


def _beside(drawn: go.Figure) -> str:
    """Bars of several series share a place, unless every place has one bar alone: that takes all of its room."""
    bars = [one for one in drawn.data if isinstance(one, go.Bar)]
    alike = len({tuple(one.x) for one in bars}) == 1
    return "overlay" if alike and np.isfinite([one.y for one in bars]).sum(0).max() < 2 else "group"


def _counted(drawn: go.Figure) -> bool:
    """Whether a few things are counted along the axis: there is nothing at 1.5 layers."""
    at = np.concatenate([np.asarray(one.x, np.float64) for one in drawn.data])
    return bool(len(at)) and bool(np.all(at == np.round(at))) and np.ptp(at) <= 8


def _places(drawn: go.Figure) -> list:
    """What stands along the axis, of all series: the baseline may have names that the method has not."""
    return list(dict.fromkeys(x for one in drawn.data if one.x is not None for x in one.x))


def _level(drawn: go.Figure) -> dict:
    """A line that hardly moves is not blown up to look like news: its axis begins at zero. Nor are dots at 0."""
    dots = [np.asarray(one.y, np.float64) for one in drawn.data if getattr(one, "mode", "") == "markers"]
    if dots and np.nanmax(np.abs(np.concatenate(dots)), initial=0) < NEAR:
        return {"range": [-NEAR, 10 * NEAR]}
    lines = [np.asarray(one.y, np.float64) for one in drawn.data if isinstance(one, go.Scatter) and "lines" in one.mode]
    heights = np.concatenate(lines) if lines else np.zeros(0)
    heights = heights[np.isfinite(heights)]
    if not len(heights) or np.ptp(heights) >= 0.02 * np.abs(heights).max():
        return {}
    return {"rangemode": "tozero"}


def _downwards(rows) -> dict:
    """The rows of a matrix, the first on top."""
    runs = runs_of([one for one in rows if isinstance(one, str)])
    return _named(rows) | {"autorange": "reversed"} | ({"tickmode": "array", "tickvals": runs} if runs else {})


def _named(places) -> dict[str, str]:
    """An axis of names is told so: Plotly would take words such as "2" and "3" for numbers, and drop the others."""
    return {"type": "category"} if places is not None and any(isinstance(one, str) for one in places) else {}


def _plain(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, np.float32)


def _safe(text: str) -> str:
    """Escaped, and without the braces that a hover template would read."""
    return escape(text).replace("%{", "% {")

"""The Attend tab's viewer: one query's attention over its canvas, and statistics of every layer and head.

View options: layer, head (-1: mean over heads), query (a token), quantity ("row", "entropy", "peak", "span" or
"received"). All of them are answered from the trace; rows that were not stored are asked for by the player.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from models.trace import CODE, AttendTrace, Field
from visualizers.drawing import palette
from visualizers.drawing.canvas import Wording, assemble, scale_from, steps_text, unit_of, where
from visualizers.drawing.marks import HIDES, ROW, Attention, Drawing, Scale

WORDS = {"known": "token", "visible": "token", "new": "the query", "context": "given", "accepted": "chosen",
         "dropped": "left out", "merged": "attacked"}
TITLES = {"entropy": ("Attention entropy", "nats"), "peak": ("Largest weight", "probability"),
          "span": ("Span", ""), "received": ("Attention received", "sum over queries")}


MEAN = ", mean over heads"  # what a field of all heads says and one of a single head must not


def describe(trace: AttendTrace) -> str:
    """The picture in words: layers and heads, and the mean entropy of the first and the last layer."""
    text = f"{where(trace.canvas).capitalize()} in {steps_text(trace)}."
    if trace.heads is None:
        return text
    entropy = np.nanmean(trace.heads.entropy.astype(np.float64), axis=(1, 2))  # [L]
    layers, heads, _ = trace.heads.entropy.shape
    return (f"{text} {layers} layers with {heads} heads; mean attention entropy {entropy[0]:.2f} nats in the first "
            f"and {entropy[-1]:.2f} nats in the last.")


def attention(trace: AttendTrace) -> Attention | None:
    """Head statistics and stored rows in the form both painters read, or None if there are neither."""
    heads, rows = trace.heads, trace.rows
    if heads is None and rows is None:
        return None
    layers, number = (heads.entropy if heads is not None else rows.weights).shape[:2]
    names = tuple(heads.layers) if heads is not None and heads.layers else tuple(range(layers))
    before = len(trace.steps) - layers  # steps that come first and are no layers
    linked = before >= 0 and all((step.level == "layer") == (at >= before) for at, step in enumerate(trace.steps))
    unit = unit_of(trace.canvas)
    own = {name: spec for name, spec in trace.fields.items() if name in TITLES}
    stats = {} if heads is None else {name: _statistic(getattr(heads, name), own.get(name), name, unit)
                                      for name in own or TITLES}
    told = () if heads is None else tuple(heads.names)
    if rows is None:
        return Attention(names, number, linked, stats, before=max(0, before), names=told)
    plain = not trace.fields or "entropy" in trace.fields or "received" not in trace.fields
    return Attention(names, number, linked, stats, np.asarray(rows.queries), *packed(rows.weights, rows.scale),
                     rows.title or (ROW if plain else "What the marked cell hears"), max(0, before), rows.unit, told)


def packed(weights: np.ndarray, scale: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Rows as uint8 with the value of code 255 in `peaks`, both [L, H, R, ...]."""
    if scale is not None:
        return weights, np.asarray(scale, np.float32)
    peaks = weights.max(-1).astype(np.float32)
    return np.round(weights / np.maximum(peaks, 1e-12)[..., None] * 255).astype(np.uint8), peaks


def _statistic(values: np.ndarray, spec: Field | None, name: str, unit: str) -> tuple[Scale, np.ndarray]:
    title, own = TITLES[name] if spec is None else (spec.title.removesuffix(MEAN), spec.unit)
    scale = scale_from(values.astype(np.float64), title, own or unit, low=0.0)
    return scale, scale.code(values)


def queried(trace: AttendTrace, stored: list[int]) -> int:
    """The token whose row is shown at first: the trace's own query if it marks one, else the last stored row."""
    marked = trace.steps[start(trace)].where("new")
    return int(marked[0]) if len(marked) == 1 else (stored[-1] if stored else 0)


def start(trace: AttendTrace) -> int:
    """The step shown at first: the last that marks a query, so that a trace may say where to look; of a board that
    fills up the last with a quarter still hidden, because who looks at whom is about both; else the last."""
    last, asked = len(trace.steps) - 1, [len(step.where("new")) for step in trace.steps]
    if max(asked) == 1:
        return max(n for n, count in enumerate(asked) if count)
    hidden = [float(HIDES[step.state].mean()) for step in trace.steps]
    return max(n for n, share in enumerate(hidden) if share >= 0.25) if hidden[0] > 0.5 and hidden[-1] < 0.25 else last


def words(trace: AttendTrace) -> dict[str, str]:
    """`new` means the query only where exactly one token is marked, and where rows of it can be asked for."""
    asked = WORDS if attends(trace) else WORDS | {"new": "where this step looks"}
    return asked if marks_query(trace) else {name: text for name, text in WORDS.items() if name != "new"}


def attends(trace: AttendTrace) -> bool:
    return trace.heads is not None or trace.rows is not None


def marks_query(trace: AttendTrace) -> bool:
    return all(len(step.where("new")) <= 1 for step in trace.steps)


def captioned(drawing: Drawing, noun: str) -> Drawing:
    """What a layer did, where the method says nothing: over how many others a token spreads its attention."""
    def words(values: np.ndarray) -> str:
        count = f"{np.exp(np.nanmean(values.astype(float))):.0f}"
        return f"a token spreads its attention over about {count} {noun.removesuffix('s') if count == '1' else noun}"

    return replace(drawing, frames=tuple(
        frame if frame.note or "entropy" not in frame.values or np.isnan(frame.values["entropy"]).all()
        else replace(frame, note=words(frame.values["entropy"])) for frame in drawing.frames))


def with_query(drawing: Drawing) -> Drawing:
    """The query is no state: its mark moves with the pointer, so no step keeps one on the token it began with."""
    frames = tuple(replace(frame, state=np.where(frame.state == CODE["new"], CODE["visible"], frame.state)
                           .astype(np.uint8)) for frame in drawing.frames)
    legend = tuple(pair for pair in drawing.legend if pair[0] != "new")
    return replace(drawing, frames=frames, legend=(*legend, (palette.QUERY, WORDS["new"])))


def draw(trace: AttendTrace, *, layer: int | None = None, head: int = -1, query: int | None = None,
         quantity: str | None = None, by: str | None = None, **view) -> Drawing:
    found = attention(trace)
    tint = next(iter(trace.fields)) if found is None and trace.fields else "state"  # without rows a number shows it
    drawing = assemble(trace, Wording(describe, words(trace), by=lambda trace: tint, start=start), by=by, **view)
    drawing = captioned(drawing, unit_of(trace.canvas))
    if found is None:
        return drawing
    stored = [] if found.queries is None else [int(q) for q in found.queries]
    chosen = {"layer": len(found.layers) - 1 if layer is None else min(max(layer, 0), len(found.layers) - 1),
              "head": max(-1, min(head, found.heads - 1)), "query": queried(trace, stored) if query is None else query}
    by = by if by in ("state", *drawing.fields) or (by or "").startswith("attention:") else None
    quantity = quantity or ("row" if stored else "entropy")
    first = next(iter(drawing.fields), "")
    moving = len(trace.steps) > 1 and not found.linked  # the steps show something else
    unasked = first not in TITLES and not any(len(step.where("new")) for step in trace.steps)  # no token is asked about
    by = by or (first if first and (moving or unasked) else f"attention:{quantity}")
    if marks_query(trace) and stored:
        drawing = with_query(drawing)
    return replace(drawing, attention=found, view={**drawing.view, **chosen, "by": by})

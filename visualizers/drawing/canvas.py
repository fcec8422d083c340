"""From a trace to a Drawing: what all five viewers share. A viewer adds only its words and its own extras.

The facts become finished text, numbers get one range over all steps, the legend keeps only states that occur.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from models.trace import CODE, STATES, Canvas, Cost, Distribution, Field, Step, Trace
from models.trace.photo import sharp
from visualizers.drawing import graph, palette
from visualizers.drawing.layout import Layout
from visualizers.drawing.marks import HIDES, Candidates, Curve, Drawing, Frame, Scale
from visualizers.drawing.units import fact_text

WRAP = 32  # columns of a list that has no shape of its own
FEW = 20  # numbers from which an outlier can be told
SHOWN = 8  # candidates of a place
SPOKEN = 4  # facts that the text alternative repeats


@dataclass(frozen=True)
class Wording:
    """A tab's own words. states: legend words that differ from the theme's; describe(trace) -> the text alternative.

    unseen: how hidden text shows ("box" or "gone"); by(trace) -> what colours the picture at first; start(trace) ->
    the step shown at first;
    about(trace) -> per step the field it is about ("": the states).
    """

    describe: Callable[[Trace], str]
    states: Mapping[str, str] = field(default_factory=dict)
    unseen: str = "box"
    by: Callable[[Trace], str] = lambda trace: "state"
    start: Callable[[Trace], int] = lambda trace: len(trace.steps) - 1
    about: Callable[[Trace], list[str]] = lambda trace: [""] * len(trace.steps)


def assemble(trace: Trace, wording: Wording, *, title: str = "", by: str | None = None,
             says: Mapping[str, str] | None = None, **view) -> Drawing:
    """The Drawing of a trace; `title` is the method's readable name, `says` its own words for states, further `view`
    options travel to the player."""
    wording = replace(wording, states={**wording.states, **(says or {})})
    scales = {name: scale_of(trace, name, spec) for name, spec in trace.fields.items()
              if any(name in step.fields for step in trace.steps)}
    chosen = by if by in ("state", "auto", *scales) else wording.by(trace)
    about = wording.about(trace)
    return Drawing(
        tab=trace.tab, method=trace.method, title=title or trace.method,
        layout=layout(trace.canvas, wording.unseen, longest(trace)),
        frames=(*(_frame(trace.canvas, step, scales, name) for step, name in zip(trace.steps, about)),
                *finished(trace, scales)),
        fields=scales, legend=legend(trace, wording),
        facts=tuple(trace.facts.values()), asked=question(trace.canvas),
        curves=tuple(Curve(c.title, c.y, {name: np.asarray(line, float) for name, line in c.series.items()},
                           c.reference, c.caption) for c in trace.charts if c.kind == "line" and c.by_step),
        vocabulary=dict(trace.vocabulary), sentence=trace.sentence, alt=spoken(trace, wording),
        view={"by": chosen, "start": wording.start(trace), **view})


def question(canvas: Canvas) -> str:
    """The question of a text that asks one, to be shown outside the long text."""
    return "".join(label for label, role in zip(canvas.labels, canvas.roles) if role == "asked").strip()


def own_cells(canvas: Canvas, picture: np.ndarray | None) -> np.ndarray | None:
    """bool [N]: the cells of a grid in which a step's picture (None: the canvas's) is the visitor's, not painted."""
    if canvas.photo is None or canvas.picture is None or canvas.shape is None:
        return None
    if picture is None:
        return np.ones(canvas.size, bool)
    rows, columns = canvas.shape
    height, width = (side // count for side, count in zip(canvas.picture.shape, canvas.shape))
    if picture.shape != canvas.picture.shape or (height * rows, width * columns) != picture.shape[:2]:
        return np.zeros(canvas.size, bool)
    same = (picture == canvas.picture).all(-1).reshape(rows, height, columns, width)
    return same.all((1, 3)).ravel()


def spoken(trace: Trace, wording: Wording) -> str:
    """The text alternative: what the picture shows, and its main figures."""
    facts = [f"{fact.title}: {fact_text(fact)}." for fact in trace.facts.values()]
    return " ".join([wording.describe(trace), *facts[:SPOKEN]])


def longest(trace: Trace) -> list[int]:
    """Letters of the longest word that every node of a graph holds at any step; of other canvases nothing."""
    if trace.canvas.kind != "graph":
        return []
    words = {number: graph.columns(text) for number, text in trace.vocabulary.items()}
    held = [[words.get(int(one), 0) for one in step.ids] for step in trace.steps if step.ids is not None]
    return np.max([[graph.columns(label) for label in trace.canvas.labels], *held], 0).tolist()


def layout(canvas: Canvas, unseen: str = "box", lengths: Sequence[int] = ()) -> Layout:
    """Grid, flowing text, free places or a graph of nodes for labels of these lengths, whichever this canvas is."""
    extras = {"picture": canvas.picture, "photo": sharp(canvas), "roles": canvas.roles, "truth": canvas.truth,
              "ids": canvas.ids, "unseen": unseen}
    if canvas.kind == "text" or (canvas.kind == "list" and any(canvas.labels)):
        return Layout("text", canvas.labels, **extras)
    if canvas.shape is not None:
        return Layout("grid", canvas.labels, *canvas.shape, seamless=canvas.kind == "board", **extras)
    if canvas.kind == "graph" and canvas.positions is not None:
        xy, high, tall, wide = graph.nodes(canvas.positions, lengths or [0] * canvas.size)
        links = np.zeros((0, 2), np.int32) if canvas.links is None else canvas.links
        return Layout("graph", canvas.labels, xy=xy, cell=tall, wide=wide, high=high, links=links,
                      directed=canvas.directed, **extras)
    if canvas.kind == "pyramid" and canvas.positions is not None:
        xy, side = _squared(canvas.positions)
        return Layout("places", canvas.labels, xy=xy, cell=side, **extras)
    if canvas.positions is not None:
        return Layout("places", canvas.labels, xy=_placed(canvas.positions), **extras)
    columns = min(canvas.size, WRAP)
    return Layout("grid", canvas.labels, -(-canvas.size // max(columns, 1)), columns, **extras)


def _placed(positions: np.ndarray) -> np.ndarray:
    """[N, 2] in 0..1, aspect kept, with room at the border for the dots; a third coordinate is left out."""
    xy = np.asarray(positions, np.float64)[:, :2]
    low, span = xy.min(0), max(float(np.ptp(xy, axis=0).max()), 1e-9)
    middle = (1 - np.ptp(xy, axis=0) / span) / 2
    return 0.06 + 0.88 * ((xy - low) / span + middle)


def _squared(positions: np.ndarray) -> tuple[np.ndarray, float]:
    """[N, 2] in 0..1 and the side there of cells of side 1: the smallest square around all cells is the panel."""
    low, high = positions.min(0) - 0.5, positions.max(0) + 0.5
    side = float((high - low).max())
    return (np.asarray(positions, np.float64) - (low + high) / 2) / side + 0.5, 1 / side


def scale_of(trace: Trace, name: str, spec: Field) -> Scale:
    """The field's own range, or that of the data over all steps; symmetric about 0 if it diverges."""
    values = np.concatenate([step.fields[name] for step in trace.steps if name in step.fields]).astype(np.float64)
    return scale_from(values, spec.title, spec.unit, spec.low, spec.high, spec.diverging)


def scale_from(values: np.ndarray, title: str, unit: str, low=None, high=None, diverging: bool = False) -> Scale:
    finite = values[np.isfinite(values)]
    first, last = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    cap = float(np.quantile(finite, 0.98)) if high is None and len(finite) >= FEW else last
    capped = not diverging and cap > first and last - first > 2 * (cap - first)  # one outlier must not flatten the rest
    last = cap if capped else last
    low, high = first if low is None else float(low), last if high is None else float(high)
    if diverging:
        reach = max(abs(low), abs(high), 1e-12)
        low, high = -reach, reach
    whole = len(finite) > 0 and bool(np.all(finite == np.round(finite)))
    return Scale(title, unit, low, high if high > low else low + 1.0, diverging, whole, capped)


def _frame(canvas: Canvas, step: Step, scales: Mapping[str, Scale], about: str) -> Frame:
    return Frame(
        label=step.label, state=step.state, level=step.level, parent=step.parent, note=step.note, by=about,
        ids=step.ids, values={name: values for name, values in step.fields.items() if name in scales},
        picture=step.picture, own=own_cells(canvas, step.picture),
        candidates={name: candidates(d) for name, d in step.distributions.items() if len(d.positions)},
        edges=edges_of(step), cost=cost_of(step.cost))


def edges_of(step: Step) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    return {name: (e.query, e.key, e.weight) for name, e in step.edges.items()}


def finished(trace: Trace, scales: Mapping[str, Scale]) -> tuple[Frame, ...]:
    """The clean last step of a run that made a picture or a text; nothing while it still goes on, or where verdicts on
    the nodes of a graph are what was made."""
    seen = [step.picture for step in trace.steps if step.picture is not None]
    pictures = seen if any(not np.array_equal(one, seen[0]) for one in seen) or len(seen) < len(trace.steps) else []
    text = trace.canvas.kind == "text"
    if trace.tab == "prune" and not text and len(np.unique([step.state for step in trace.steps])) == 1:
        return ()  # nobody leaves: how the picture is cut is what is shown, and a picture without marks has no cuts
    made = trace.tab in ("unmask", "sample") or (trace.tab == "prune" and text) or pictures
    last = trace.steps[-1]
    if not made or not trace.sentence or (trace.canvas.kind == "graph" and len(last.where("accepted", "refused"))):
        return ()
    state = np.where(HIDES[last.state] | (last.state == CODE["context"]), last.state, CODE["known"]).astype(np.uint8)
    if pictures and trace.tab == "mask":
        state = np.full_like(state, CODE["known"])
    if text:  # what was refused in the last step, or stands beside the text, is no part of what was written
        apart = np.array([role == "beside" for role in trace.canvas.roles] or [False])
        state = np.where(apart | np.isin(last.state, [CODE["refused"], CODE["discarded"]]), CODE["unknown"], state)
    values = {name: _latest([step.fields[name] for step in trace.steps if name in step.fields]) for name in scales}
    words = "text" if text else "picture" if pictures else "result"
    end = Frame("finished", state, values, last.ids, note=f"The {words} as it is, without marks.", clean=True,
                picture=final_picture(trace), own=own_cells(trace.canvas, final_picture(trace)),
                edges=edges_of(last) if trace.canvas.kind == "graph" else {})  # a path or a tree is what was made
    if trace.tab != "mask" or trace.canvas.picture is None:
        return (end,)
    return replace(end, label="the original", note="What was given, to compare with.", picture=trace.canvas.picture,
                   own=own_cells(trace.canvas, None)), end


def final_picture(trace: Trace) -> np.ndarray | None:
    """The last picture a run made; what a Mask run rebuilt is the last picture in which something is new."""
    shown = [step for step in trace.steps if step.picture is not None]
    rebuilt = [step for step in shown if trace.tab == "mask" and len(step.where("new")) and len(step.where("visible"))]
    return (rebuilt or shown or [trace.steps[-1]])[-1].picture


def _latest(rows: list[np.ndarray]) -> np.ndarray:
    """The last defined number of every token."""
    found = rows[0].astype(np.float32)
    for row in rows[1:]:
        found = np.where(np.isnan(row), found, row)
    return found


def candidates(found: Distribution) -> Candidates:
    """The chosen id always stands among them; where its probability was not kept it is NaN."""
    ids, probs = found.top_ids, found.top_probs.astype(np.float32)
    if found.chosen is None:
        return Candidates(found.positions, ids, probs, found.entropy, None)
    ids, probs = ids[:, :SHOWN].copy(), probs[:, :SHOWN].copy()
    missing = np.flatnonzero((found.chosen >= 0) & ~(ids == found.chosen[:, None]).any(1))
    ids[missing, -1] = found.chosen[missing]
    probs[missing, -1] = np.nan
    if found.logits is not None and found.lse is not None:
        own = found.logits[missing, found.chosen[missing]].astype(np.float32)
        probs[missing, -1] = np.exp(own - found.lse[missing])
    return Candidates(found.positions, ids, probs, found.entropy, found.chosen)


def cost_of(cost: Cost) -> dict[str, float]:
    """Only what was counted."""
    every = {"calls": cost.calls, "rows": cost.rows, "macs": cost.macs, "cache_bytes": cost.cache_bytes}
    return {name: value for name, value in every.items() if value}


def legend(trace: Trace, wording: Wording) -> tuple[tuple[str, str], ...]:
    """(state, words) of the states that occur and can be seen, in the order of STATES; same words are said once."""
    words, gone = wording.states, wording.unseen == "gone" and trace.canvas.kind in ("text", "graph")
    seen = np.zeros(len(STATES), bool)
    for step in trace.steps:
        seen[step.state] = True
    found = {words.get(name, palette.LOOKS[name].title): name for code, name in reversed([*enumerate(STATES)])
             if seen[code] and not (gone and palette.LOOKS[name].hides)
             and not (name == "unknown" and trace.canvas.kind == "graph")}
    return tuple((name, said) for said, name in reversed(found.items()))


def counts(step: Step, words: Mapping[str, str]) -> str:
    """`40 known, 12 new in this step`: how many tokens are in each state."""
    number = np.bincount(step.state, minlength=len(STATES))
    parts = [f"{number[code]:,} {words.get(name, palette.LOOKS[name].title)}"
             for code, name in enumerate(STATES) if number[code]]
    return ", ".join(parts)


def unit_of(canvas: Canvas, others: str = "tokens") -> str:
    """What one token of a canvas is, in the plural."""
    return {"grid": "cells", "board": "cells", "graph": "nodes"}.get(canvas.kind, others)


def where(canvas: Canvas) -> str:
    """`a grid of 16 by 16 cells`: the canvas in words."""
    if canvas.shape is not None:
        return f"a {canvas.kind} of {canvas.shape[0]} by {canvas.shape[1]} cells"
    if canvas.links is not None:
        links = f"{len(canvas.links):,} {'directed ' * canvas.directed}link{'s' * (len(canvas.links) != 1)}"
        return f"a graph of {canvas.size:,} nodes and {links}"
    return f"a {canvas.kind} of {canvas.size:,} tokens"


def steps_text(trace: Trace) -> str:
    number = len(trace.steps)
    return "one step" if number == 1 else f"{number} steps"


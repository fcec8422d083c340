"""Attend: the one way to turn a model call into a record of who looks at whom.

    layout = text_layout(pieces)                       # or grid_layout((8, 8), picture, first=1)
    with observe(model, want={"stats", "qk"}) as seen:
        model(ids)
    looked = look(seen, layout, ask=query)             # head statistics, stored rows, and q, k for later questions
    yield from record(layout, looked)                  # Open, one Emit per layer, Close

Methods that already hold attention rows (a pruned prefill, a cached step) use `row_heads` and `edges` instead, and
`crossed` where queries and keys are different tokens. A model call is read in models/loops/attend/reading.py.
Letters: N canvas tokens, L layers, H heads, R queries, K keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from models.engine.method import Close, Emit, Event, Open
from models.loops.attend.reading import (
    KeptProjections,
    Looked,
    TokenLayout,
    grid_layout,
    keep,
    look,
    side_by_side,
    stored_queries,
    text_layout,
)
from models.trace import Canvas, Chart, Cost, Edges, Fact, Field, Heads, Rows, Step, states

__all__ = ["KeptProjections", "TokenLayout", "Looked", "at_memory", "closing", "crossed", "edges", "grid_layout",
           "head_charts", "head_facts", "keep", "layer_steps", "links", "look", "marked", "measure", "opening",
           "record", "row_heads", "side_by_side", "squared_distances", "stored_queries", "text_layout"]


def record(layout: TokenLayout, looked: Looked, *, sentence: str = "", facts: Mapping[str, Fact] | None = None,
           charts: Sequence[Chart] = (), costs: Sequence[Cost] = (),
           state: np.ndarray | None = None) -> Iterator[Event]:
    """The events of an Attend record with one step per layer; `opening`, `layer_steps` and `closing` are its parts, for
    methods that add steps of their own. state [N]: see `marked`."""
    yield opening(layout, len(looked.heads.layers), looked=looked)
    for step in layer_steps(layout, looked, costs, state):
        yield Emit("attend", step)
    yield closing(layout, looked, sentence, facts, charts)


def opening(layout: TokenLayout, total: int, extra: Mapping[str, Field] | None = None,
            looked: Looked | None = None) -> Open:
    """`extra` explains the fields of the caller's own steps. looked: known already, so that the picture can answer from
    its first step on."""
    known = (looked.heads, looked.rows) if looked else (None, None)
    return Open("attend", layout.canvas, {**layout.fields, **(extra or {})}, total, *known)


def closing(layout: TokenLayout, looked: Looked, sentence: str, facts: Mapping[str, Fact] | None = None,
            charts: Sequence[Chart] = ()) -> Close:
    """The caller's facts and charts come first, the heads' own follow."""
    return Close("attend", sentence, (*charts, *head_charts(looked.heads, layout.unit)),
                 {**(facts or {}), **head_facts(looked.heads, layout.unit)}, looked.heads, looked.rows, looked.path,
                 looked.kept)


def layer_steps(layout: TokenLayout, looked: Looked, costs: Sequence[Cost] = (),
                state: np.ndarray | None = None) -> Iterator[Step]:
    """One step per observed layer, with every statistic averaged over its heads. state [N]: visible by default."""
    heads = looked.heads
    state = states(*["visible"] * layout.canvas.size) if state is None else state
    for place, layer in enumerate(heads.layers):
        fields = {name: getattr(heads, name)[place].astype(np.float32).mean(0)
                  for name in ("entropy", "peak", "span", "received")}  # each [N]
        if layout.outside:
            fields["outside"] = looked.outside[place].mean(0)
        name = heads.names[place] if heads.names else f"layer {layer + 1}"
        yield Step(name, state, "layer", fields=fields, cost=costs[place] if costs else Cost())


def marked(count: int, query: int, name: str = "new", state: np.ndarray | None = None) -> np.ndarray:
    """State codes [N] with the query marked as `name`; the rest is visible, or as in `state`."""
    state = states(*["visible"] * count) if state is None else state.copy()
    state[query] = states(name)[0]
    return state


def head_charts(heads: Heads, unit: str) -> tuple[Chart, Chart]:
    """Two matrices, layers x heads: mean entropy and mean reach; NaN queries are left out."""
    rows = heads.names or tuple(f"layer {layer + 1}" for layer in heads.layers)
    columns = tuple(f"head {head + 1}" for head in range(heads.entropy.shape[1]))
    return (Chart("matrix", "Attention entropy by layer and head", "head", "layer",
                  {"entropy (nats)": _mean(heads.entropy)}, columns, rows,
                  caption="Low: one key takes nearly everything. High: the head averages over many tokens."),
            Chart("matrix", "Reach by layer and head", "head", "layer", {f"reach ({unit})": _mean(heads.span)}, columns,
                  rows, caption=f"Root mean square distance in {unit} between a token and what it looks at."))


def head_facts(heads: Heads, unit: str) -> dict[str, Fact]:
    return {"entropy": Fact("Mean attention entropy", float(_mean(heads.entropy).mean()), "nats"),
            "span": Fact("Mean reach", float(_mean(heads.span).mean()), unit)}


def row_heads(rows: np.ndarray, queries: Sequence[int], coords: np.ndarray, layers: Sequence[int] = ()) -> Heads:
    """Head statistics [L, H, N] from rows that a method computed itself, NaN for queries without a row.

    rows [L, H, R, N]: probabilities over the canvas, 0 for tokens that were not there; queries int [R]; coords [N, d].
    received sums the given rows only.
    """
    squared = squared_distances(coords[list(queries)], coords)  # [R, N]
    measured = dict(zip(("entropy", "peak", "span"), measure(rows, squared)))
    full = {name: np.full((*rows.shape[:2], rows.shape[3]), np.nan, np.float16) for name in measured}
    for name, value in measured.items():
        full[name][:, :, list(queries)] = value
    numbers = tuple(map(int, layers)) or tuple(range(len(rows)))
    return Heads(**full, received=rows.sum(2).astype(np.float16), layers=numbers)


def crossed(layout: TokenLayout, rows: np.ndarray, queries: Sequence[int], keys: Sequence[int],
            names: Sequence[str] = ()) -> Looked:
    """Rows [L, H, R, K] of queries that look at other tokens than themselves, as in cross-attention: queries int [R]
    and keys int [K] are places on one canvas, keys in the order of the rows, each once. Where no key stands is 0.
    names: of the L layers, where they are not simply numbered."""
    whole = np.zeros((*rows.shape[:3], layout.canvas.size), np.float32)
    whole[..., np.asarray(keys, int)] = rows
    heads = replace(row_heads(whole, queries, layout.coords), names=tuple(names))
    return Looked(heads, Rows.pack(np.asarray(queries), whole), None, "")


def at_memory(words: Sequence[str], memory: Sequence[str], rows: np.ndarray, *, sentence: str = "",
              charts: Sequence[Chart] = ()) -> Iterator[Event]:
    """The events of an Attend record in which words look at a memory and not at each other, as in cross-attention: rows
    [L, H, N, P] of N words at P places, both on one canvas, the memory in a line of its own behind the words."""
    n, p = rows.shape[2:]
    labels = (f"{' ' if place else 2 * chr(10)}[{name}]" for place, name in enumerate(memory))
    canvas = Canvas("text", (*words, *labels), roles=("sampled",) * n + ("memory",) * p)
    layout = TokenLayout(canvas, np.arange(n + p), np.arange(n + p, dtype=np.float32)[:, None], "places")
    looked = crossed(layout, rows, range(n), range(n, n + p))
    return record(layout, looked, sentence=sentence, charts=charts, state=states(*["new"] * n, *["context"] * p))


def measure(rows: np.ndarray, squared: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Entropy (nats), peak and span of rows [..., R, N] with squared distances [R, N]; each [..., R]."""
    rows = rows.astype(np.float64)
    entropy = -(rows * np.log(np.where(rows > 0, rows, 1.0))).sum(-1)
    mass = rows.sum(-1)
    span = np.sqrt((rows * squared).sum(-1) / np.where(mass > 0, mass, 1.0))
    return entropy, rows.max(-1), span


def squared_distances(queries: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """|x_i - x_j|^2 [R, N] of coordinates [R, d] and [N, d]."""
    return ((queries[:, None] - keys[None]) ** 2).sum(-1)


def edges(query: int, row: np.ndarray, top: int = 12) -> Edges:
    """The strongest links of one query: row [N] of attention, NaN or 0 for tokens it cannot see."""
    return links([query], np.asarray(row)[None], top)


def links(queries: Sequence[int], rows: np.ndarray, top: int) -> Edges:
    """The strongest links of several queries, rows [R, N]."""
    rows = np.nan_to_num(np.asarray(rows, np.float32))
    keys = np.argsort(-rows, 1, kind="stable")[:, :top]  # [R, top]
    weights, froms = np.take_along_axis(rows, keys, 1), np.repeat(np.asarray(queries, np.int32), keys.shape[1])
    seen = weights.ravel() > 0
    return Edges(froms[seen], keys.ravel()[seen].astype(np.int32), weights.ravel()[seen])


def _mean(values: np.ndarray) -> np.ndarray:
    return np.nanmean(values.astype(np.float32), axis=2)  # [L, H]

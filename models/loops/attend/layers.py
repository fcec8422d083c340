"""What a layer lens (models/backbones/layer_lens.py) finds, for Attend: what probes read before the first block and
behind each, features as maps, and tokens that stand where they belong and not in a line.

Letters: N canvas tokens, T of them in the sequence, L layers, H heads, F features, C classes.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from models.backbones.instrument import observe
from models.engine.method import Emit, Event
from models.engine.recording import array, line, table
from models.loops.attend import loop
from models.loops.attend.loop import Looked, TokenLayout, row_heads
from models.trace import CODE, Chart, Fact, Field, Rows, Step
from models.trace.percent import percent

WRONG = Field("Chance that the probe names something else than what is there", "probability", 0.0, 1.0)


def by_layer(layout: TokenLayout, looked: Looked, read: np.ndarray, true: np.ndarray, kinds: Mapping[str, np.ndarray],
             paint: Callable[[np.ndarray, np.ndarray], np.ndarray], query: int, layer: int,
             charts: Sequence[Chart] = ()) -> Iterator[Event]:
    """An Attend record whose steps show what probes read, as chances [L + 1, N, C], beside what is true [N].

    kinds: which tokens [N] are counted as what; the first kind is what the figures are of. paint(chances, wrong) ->
    the picture of a step. query: the token that looks. layer: the one of the run's other records.
    """
    count, state = len(true), np.full(len(true), CODE["visible"], np.uint8)
    steps = [Step("before the first block", state, "step"),
             *loop.layer_steps(layout, looked, state=loop.marked(count, query, state=state))]
    yield loop.opening(layout, len(steps), {"wrong": WRONG}, looked)
    right = read.argmax(-1) == true  # [L + 1, N]
    for step, chances, hits in zip(steps, read, right, strict=True):
        note = " and ".join(f"{hits[which].sum()} of {which.sum()} {name}" for name, which in kinds.items())
        yield Emit("attend", replace(step, picture=paint(chances, ~hits), note=f"{note} read right", fields={
            **step.fields, "wrong": 1 - chances[range(count), true]}))
    shares = {name: 100 * right[:, which].mean(-1) for name, which in kinds.items()}
    main, found = next(iter(shares.items()))
    best, title = int(found.argmax()), f"{main.capitalize()} read right"
    facts = {"best": Fact(f"{title}, best layer", float(found[best]), "%", "higher"),
             "first": Fact(f"{title}, before the first block", float(found[0]), "%", "higher"),
             "here": Fact(f"{title}, layer {layer}", float(found[layer]), "%", "higher")}
    later = f"{percent(found[best] / 100)} behind layer {best}" if best else "no more behind any"
    sentence = (f"A linear map reads {percent(found[0] / 100)} of the {main} right before the first block and {later}. "
                "What is read wrong has a small cross in its corner.")
    shown = line("What is read right, layer by layer", "%", shares, x="layer", by_step=False)
    yield loop.closing(layout, looked, sentence, facts, (shown, *charts))


def scattered(model, call: Callable[[], object], at: Sequence[int], coords: np.ndarray, first: int = 1) -> Looked:
    """A call on tokens, the T from place `first` on being the canvas tokens `at`; what looks before them is outside."""
    with torch.inference_mode(), observe(model, want={"qk"}) as seen:
        call()
    own = np.arange(first, first + len(at))
    rows = np.stack([array(one.rows_for(torch.from_numpy(own))[0]) for one in seen])  # [L, H, T, places]
    over = np.zeros((*rows.shape[:3], len(coords)), np.float32)
    over[..., at] = rows[..., own]
    return gathered(over, at, coords, seen.path)


def gathered(over: np.ndarray, at: Sequence[int], coords: np.ndarray, path: str) -> Looked:
    """Rows [L, H, T, N] of the canvas tokens `at`; what they miss to 1 went outside of the canvas."""
    outside = np.full((*over.shape[:2], len(coords)), np.nan, np.float32)
    outside[..., at] = 1 - over.sum(-1)
    return Looked(row_heads(over, at, coords), Rows.pack(np.asarray(at), over), None, path, outside)


def loudest(lens, state: torch.Tensor, layer: int, run: int, names: Sequence[str],
            rows: Sequence, columns: Sequence, most: int = 3) -> Iterator[Chart]:
    """The features [F] that speak loudest in one state [D] of a layer, each as a map of the class that it tells best.
    names: of the classes; rows, columns: what the board calls them."""
    with torch.no_grad():
        loud = array(lens.features(state, layer, run))
    for at in np.argsort(-loud, kind="stable")[:most]:
        found = 0.5 + array(lens.maps[run, layer, at])  # [N, C]
        kind = int(found.max(0).argmax())
        yield table(f"Feature {at} of layer {layer}, {loud[at]:.1f} strong: {names[kind]}", "column", "row",
                    found[:, kind].reshape(len(rows), len(columns)), columns, rows, unit="AUROC",
                    caption="Measured on other data. 0.5: it tells nothing of this place; 1: all of it.")

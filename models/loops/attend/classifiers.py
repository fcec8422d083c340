"""Attend for photo classifiers with a class token: its attention over the picture, the rank of the maps, a logit lens.

    seen = look(arm, pixels)                       # one pass: the attention that acted, and the answer of every layer
    yield from record(arm, view, seen, ...)        # Open, one Emit per step, Close

Maps are those that act on the values: after a mask that deletes weight their rows sum to less than 1. Pictures are
small, so all rows are held. Letters: L layers, H heads, P patches, N = P + 1 tokens, C classes, D width.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn

from models.backbones.instrument import observe
from models.checkpoints import store
from models.engine.method import Close, Emit, Event, Open
from models.engine.recording import line, numbered, table
from models.loops.attend import loop
from models.loops.attend.reading import costs
from models.trace import Chart, Cost, Fact, Field, Heads, Rows, Step, states
from models.trace.percent import percent

FIELDS = {"cls": Field("Class token's attention", "of its strongest patch", 0.0, 1.0),
          "place": Field("Place in the sequence, counted from 1", ""),
          "missing": Field("Attention deleted by the mask, mean over heads", "probability", 0.0, 1.0)}
MANY = 100  # patches: of more, the map of all tokens is not drawn and few rows are stored; the rest are asked for
SMALL = 1e-3  # of the largest singular value: below it a direction does not count


@dataclass(frozen=True, eq=False)
class ClassifierArm:
    """A classifier, and where its tokens stand.

    observed: the module to observe. states(pixels [1, 3, S, S]) -> hidden [1, N, D] after every layer. classify(hidden
    [1, N, D]) -> logits [1, C]. cls: place of the class token. places int [P]: place of every patch.
    """

    observed: nn.Module
    states: Callable[[Tensor], Sequence[Tensor]]
    classify: Callable[[Tensor], Tensor]
    labels: tuple[str, ...]
    cls: int
    places: np.ndarray


@dataclass(frozen=True, eq=False)
class ClassifierPass:
    """One pass over one photo: maps float [L, H, N, N] in sequence order, deleted [L, H, N] weight per row, answers
    [L, C] (probabilities, read after each layer), cost of each layer."""

    maps: np.ndarray
    deleted: np.ndarray
    answers: np.ndarray
    costs: list[Cost] = field(default_factory=list)

    def cls_row(self, arm: ClassifierArm) -> np.ndarray:
        """The class token's attention to every patch [L, H, P]."""
        return self.maps[:, :, arm.cls][..., arm.places]

    def painted(self, arm: ClassifierArm, layer: int | None = None) -> np.ndarray:
        """The class token's attention [P] in one layer, or in all, mean over heads, its strongest patch 1, because
        layers differ too much for one scale. All 0 if none falls on the picture."""
        row = self.cls_row(arm).mean(1)
        row = row.mean(0) if layer is None else row[layer]
        return row / max(float(row.max()), 1e-12)

    def best(self, layer: int = -1) -> tuple[int, float]:
        """The most probable class after a layer, and its probability."""
        found = int(self.answers[layer].argmax())
        return found, float(self.answers[layer, found])


@dataclass(frozen=True, eq=False)
class Held:
    """All rows of a pass [L, H, P, P] in half precision, for questions about those that are too many for a trace."""

    maps: np.ndarray

    def row(self, layer: int, head: int, query: int) -> np.ndarray:
        """Attention [P] float32 of one patch over the patches."""
        if min(layer, head, query) < 0:
            raise IndexError("layers, heads and patches are counted from 0")
        return self.maps[layer, head, query].astype(np.float32)


def watched(arm: ClassifierArm, pixels: Tensor) -> tuple[Sequence[Tensor], list, np.ndarray, float]:
    """Runs the network once, as it runs unobserved: hidden states, the queries and keys that every attention used, the
    answers [L, C] and milliseconds."""
    began = time.perf_counter()
    with torch.no_grad(), observe(arm.observed, want={"qk"}) as calls:
        hidden = arm.states(pixels)
    ms = (time.perf_counter() - began) * 1000
    with torch.no_grad():
        answers = torch.cat([arm.classify(one) for one in hidden]).float().softmax(-1).cpu().numpy()
    return hidden, list(calls), answers, ms


def look(arm: ClassifierArm, pixels: Tensor) -> ClassifierPass:
    """One pass, and the attention that acted in it."""
    hidden, calls, answers, ms = watched(arm, pixels)
    count = hidden[0].shape[1]
    rows = torch.stack([call.rows_for(torch.arange(count))[0].float() for call in calls]).cpu().numpy()  # [L, H, N, M]
    return ClassifierPass(rows[..., :count], rows[..., count:].sum(-1), answers, costs(arm, calls, ms))


def ranks(maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numerical and effective rank [...] of maps [..., N, N].

    Numerical: singular values above SMALL of the largest. Effective: exp of the entropy of the singular values divided
    by their sum. A triangular map without zeros on its diagonal has full numerical rank whatever it looks at, so the
    effective one is the fair measure.
    """
    values = np.linalg.svd(maps.astype(np.float64), compute_uv=False)  # [..., N]
    share = values / np.maximum(values.sum(-1, keepdims=True), 1e-300)
    entropy = -(share * np.log(np.where(share > 0, share, 1.0))).sum(-1)
    return (values > SMALL * values[..., :1]).sum(-1), np.exp(entropy)


def record(arm: ClassifierArm, shown: np.ndarray, seen: ClassifierPass, *, sentence: str, layer: int,
           first: Sequence[Step] = (),
           facts: Mapping[str, Fact] | None = None, curves: Mapping[str, str] | None = None) -> Iterator[Event]:
    """The events of an Attend record: the reading order, the caller's own steps, then one per layer.

    layer: whose map is drawn in full, counted from 1. curves: arm -> checkpoint, for the training curves.
    """
    layout = layout_of(arm, shown)
    looked = looked_at(arm, layout, seen)
    steps = [order_step(arm), *first, *(told(arm, seen, place, step) for place, step in
                                        enumerate(loop.layer_steps(layout, looked, seen.costs)))]
    yield Open("attend", layout.canvas, {**FIELDS, **layout.fields}, len(steps), looked.heads, looked.rows)
    for step in steps:
        yield Emit("attend", step)
    numerical, effective = ranks(seen.maps)
    shown_layer = min(layer, len(seen.maps)) - 1
    whole = [map_chart(seen, shown_layer)] if len(arm.places) <= MANY else []
    charts = (*whole, rank_chart(effective), lens_chart(arm, seen), *curve_charts(curves or {}))
    found = {**answer_facts(arm, seen), **(facts or {}),
             "rank": Fact("Mean effective rank of the maps", float(effective.mean()), f"of {seen.maps.shape[-1]}"),
             "numerical": Fact("Mean numerical rank", float(numerical.mean()), f"of {seen.maps.shape[-1]}")}
    closing = loop.closing(layout, looked, sentence, found, charts)
    yield Close(closing.tab, sentence, closing.charts, closing.facts, closing.heads, closing.rows, kept=looked.kept)


def layout_of(arm: ClassifierArm, shown: np.ndarray) -> loop.TokenLayout:
    """The patches on the picture; the class token has no place on it."""
    side = int(len(arm.places) ** 0.5)
    return replace(loop.grid_layout((side, side), shown, outside="the class token"), index=arm.places)


def looked_at(arm: ClassifierArm, layout: loop.TokenLayout, seen: ClassifierPass) -> loop.Looked:
    """Head statistics and rows over the canvas, from the maps."""
    queries = np.arange(len(arm.places))
    over = seen.maps[:, :, arm.places]  # [L, H, P, N]
    rows = over[..., arm.places]
    heads: Heads = loop.row_heads(rows, queries, layout.coords)
    wanted = loop.stored_queries(heads.received)
    wanted = wanted[:: max(1, len(wanted) // MANY) ** 3]  # rows are longer, too
    held = None if len(wanted) == len(queries) else Held(rows.astype(np.float16))
    return loop.Looked(heads, Rows.pack(wanted, rows[:, :, wanted]), held, "", over[..., arm.cls])


def order_step(arm: ClassifierArm) -> Step:
    """The photo before anything is computed: in which order its patches are read."""
    return Step("reading order", states(*["visible"] * len(arm.places)), fields={"place": arm.places + 1.0},
                note=f"The class token stands at place {arm.cls + 1} of {len(arm.places) + 1}.")


def told(arm: ClassifierArm, seen: ClassifierPass, layer: int, step: Step) -> Step:
    """A layer's step with the class token's attention, what the mask deleted, and what would be answered here."""
    kind, share = seen.best(layer)
    fields = {"cls": seen.painted(arm, layer), "missing": seen.deleted[layer].mean(0)[arm.places]}
    falls = seen.cls_row(arm)[layer].sum(-1).mean()
    return replace(step, fields={**fields, **step.fields},
                   note=f"class token: {percent(falls)} of its attention on patches, would say {arm.labels[kind]} "
                        f"({percent(share)})")


def answer_facts(arm: ClassifierArm, seen: ClassifierPass) -> dict[str, Fact]:
    kind, share = seen.best()
    return {"answer": Fact(f"Probability of its answer, {arm.labels[kind]}", share, "probability"),  # right or not
            "cls": Fact("Attention of the class token that falls on patches", float(seen.cls_row(arm).sum(-1).mean()),
                        "mean over layers and heads"),
            "missing": Fact("Attention deleted by the mask", float(seen.deleted.mean()), "mean over rows")}


def map_chart(seen: ClassifierPass, layer: int) -> Chart:
    return Chart("matrix", f"Who looks at whom: layer {layer + 1}, mean over heads", "key: place in the sequence",
                 "query: place in the sequence", {"weight": seen.maps[layer].mean(0)},
                 caption="One row per query, after the mask. Causal: everything right of the diagonal is zero.")


def rank_chart(effective: np.ndarray) -> Chart:
    layers, heads = effective.shape
    return table("Effective rank of every head's map", "head", "layer", effective, numbered("head", heads),
                 numbered("layer", layers), unit="effective rank",
                 caption="How many different patterns the rows of a map are made of. Every row the same: 1.")


def lens_chart(arm: ClassifierArm, seen: ClassifierPass, most: int = 3) -> Chart:
    """The final favourites' probabilities after every layer."""
    top = np.argsort(-seen.answers[-1], kind="stable")[:most]
    return line("What the class token would answer after each layer", "probability",
                {arm.labels[kind]: seen.answers[:, kind] for kind in top}, x="layer", first=1, by_step=False,
                caption="The last norm and head on the states of earlier layers, which were not trained for it.")


def curve_charts(names: Mapping[str, str]) -> tuple[Chart, ...]:
    """Held-out loss and accuracy of the arms while they were trained, and the soft mask's schedule; none if no curve is
    shipped."""
    found = {title: points for title, name in names.items() if (points := curve(name))}
    if not found:
        return ()
    loss, right = ({title: series(points, key) for title, points in found.items()} for key in ("loss", "accuracy"))
    soft = {f"a, {title}": series(points, "a") for title, points in found.items() if points[0].get("a")}
    return (Chart("line", "Held-out loss while training", "step", "nats", loss, reference=float(np.log(50)),
                  caption="Dashed: chance among 50 classes. In front, the class token cannot attend to the photo."),
            Chart("line", "Held-out accuracy and the soft mask", "step", "share of photos; a", {**right, **soft},
                  caption="On 256 photos. a = 1: everyone sees everyone; 0: causal."))


def curve(name: str) -> list[dict]:
    """The points that a shipped checkpoint's training left: step, loss, accuracy, a; none if there is no file."""
    path = store.SHIPPED / name / "curve.json"
    return json.loads(path.read_text("utf-8")) if path.is_file() else []


def series(points: list[dict], key: str) -> np.ndarray:
    """Steps and values [K, 2]."""
    return np.array([[point["step"], point[key]] for point in points])

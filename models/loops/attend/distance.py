"""How far attention goes and how evenly it is spread: mean distance and entropy of every layer, head and query.

    with observe(model, want={"qk"}) as seen:
        model(pixels)                                # the whole picture: of fewer tokens it says something else
    found = {"MAE": spread(seen, layout), ...}       # exact rows, so for small canvases
    charts, facts = spread_charts(found), spread_facts(found)

    yield from record({"MAE": mae, "LUT": lut}, view, ask=27)    # several encoders of one photo, layer by layer

Rows are renormalised over the canvas: what goes to other tokens ([CLS]) counts nowhere. Unlike a record's reach, which
is a root mean square, distance is sum_j a_ij |x_i - x_j|, as papers on vision transformers measure it.

Letters: B samples, L layers, H heads, N canvas tokens, D features.
"""
from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch

from models.backbones.instrument import observe
from models.engine.method import Close, Emit, Event, Open
from models.engine.recording import array, line, numbered, table
from models.engine.statistics import effective_rank
from models.loops.attend import features
from models.loops.attend.loop import look, marked, measure, side_by_side, squared_distances
from models.loops.attend.reading import Looked, TokenLayout, grid_layout
from models.loops.mask.loop import encoding
from models.loops.mask.photos import Photo, encode_whole
from models.trace import Chart, Cost, Fact, Field, Step

FIELDS = {"distance": Field("Attention distance, mean over heads", "patches", 0.0),
          "bits": Field("Attention entropy, mean over heads", "bits", 0.0)}
TITLES = {"distance": ("Attention distance", "patches"), "bits": ("Attention entropy", "bits")}


class AttentionSpread(NamedTuple):
    """distance, in cells of the grid, and entropy in bits, float [B, L, H, N] each."""

    distance: np.ndarray
    bits: np.ndarray

    def by_head(self, name: str) -> np.ndarray:
        """[L, H]"""
        return getattr(self, name).mean((0, 3))

    def late(self, name: str) -> float:
        """Mean over the last third of the layers."""
        return float(last_third(self.by_head(name), 0).mean())


def spread(seen, layout: TokenLayout) -> AttentionSpread:
    """Of a finished `observe(..., want={"qk"})` block, over all its layers and samples."""
    far, found = np.sqrt(squared_distances(layout.coords, layout.coords)), []
    for call in seen:
        rows = array(call.rows_for(torch.from_numpy(layout.index))[..., layout.index])  # [B, H, N, N]
        rows = rows / rows.sum(-1, keepdims=True)
        found.append(((rows * far).sum(-1), measure(rows, far)[0] / math.log(2)))
    return AttentionSpread(*(np.stack(one, 1) for one in zip(*found)))


def last_third(values: np.ndarray, axis: int) -> np.ndarray:
    """The last third of the layers, at least one."""
    layers = values.shape[axis]
    return values.take(range(layers - max(1, layers // 3), layers), axis)


def spread_charts(found: Mapping[str, AttentionSpread]) -> tuple[Chart, ...]:
    """By layer a line for each network, then every head."""
    made = []
    for name, (title, unit) in TITLES.items():
        heads = {who: one.by_head(name) for who, one in found.items()}
        most = f"An even look at all patches is {math.log2(next(iter(found.values())).bits.shape[-1]):.0f} bits."
        made.append(line(f"{title} by layer", unit, {who: one.mean(1) for who, one in heads.items()}, x="layer",
                         first=1, by_step=False, caption=most if unit == "bits" else "Mean over heads and patches."))
        rows = [f"{layer}, {who}" for who, one in heads.items() for layer in numbered("layer", len(one))]
        values = np.concatenate(list(heads.values()))
        made.append(table(f"{title} of every head", "head", "layer", values, numbered("head", values.shape[1]), rows,
                          unit=unit))
    return tuple(made)


def spread_facts(found: Mapping[str, AttentionSpread]) -> dict[str, Fact]:
    """The last network's first, under a title that it shares with a control shown alone."""
    *others, own = found
    said = {own: "", **{who: f", {who}" for who in others[::-1]}}
    return {f"{name} {who}": Fact(f"{title}, last third of the layers{one}", found[who].late(name), unit)
            for name, (title, unit) in TITLES.items() for who, one in said.items()}


# ---- a record of several encoders

class EncoderRead(NamedTuple):
    """One encoder's reading of a whole photo: heads and rows, their spread, the patches' states [L, N, D]."""

    looked: Looked
    spread: AttentionSpread
    tokens: np.ndarray
    cost: Cost

    @property
    def rank(self) -> float:
        return float(effective_rank(self.tokens[-1:])[0])


@torch.inference_mode()
def read(model, view: Photo, layout: TokenLayout) -> EncoderRead:
    """model: any with a ViTMAE in it. The last states are those behind the last norm, which others get to see."""
    began = time.perf_counter()
    with observe(model.vit, want={"qk", "stats"}) as seen:
        latents = encode_whole(model, view.pixels, layers := [])
    cost = replace(encoding(model, view.count, view.count), ms=1000 * (time.perf_counter() - began))
    tokens = torch.cat([*layers[:-1], latents])[:, 1:]
    return EncoderRead(look(seen, layout), spread(seen, layout), array(tokens), cost)


def record(models: Mapping[str, object], view: Photo, ask: int) -> Iterator[Event]:
    """The events of an Attend record: every layer of every encoder on the complete photo, one network behind the other.
    ask: the patch to which the likeness of the others is drawn."""
    layout = grid_layout(view.grid, view.shown, first=1, outside="[CLS]")
    found = {name: read(model, view, layout) for name, model in models.items()}
    places = [(name, layer) for name, one in found.items() for layer in range(len(one.tokens))]
    names = [f"layer {layer + 1}, {name}" for name, layer in places]
    both = side_by_side([one.looked for one in found.values()], names)
    yield Open("attend", layout.canvas, FIELDS | {"like": features.LIKE}, len(places), both.heads, both.rows)
    for label, (name, layer) in zip(names, places):
        fields = {key: getattr(found[name].spread, key)[0, layer].mean(0) for key in FIELDS}
        fields["like"] = features.likeness(found[name].tokens[layer])[ask]
        cost = Cost() if layer else found[name].cost
        yield Emit("attend", Step(label, marked(view.count, ask), "layer", fields=fields, cost=cost))
    spreads, ends = ({name: getattr(one, part) for name, one in found.items()} for part in ("spread", "tokens"))
    last = {name: one[-1] for name, one in ends.items()}
    ranks = line("Effective rank by layer", "dimensions", {name: effective_rank(one) for name, one in ends.items()},
                 x="layer", first=1, by_step=False, caption="In how many directions the patches of this photo differ.")
    each = (f"{name} looks {one.spread.late('distance'):.2f} patches far ({one.spread.late('bits'):.2f} bits), and its "
            f"final patch tokens have an effective rank of {one.rank:.1f}" for name, one in found.items())
    yield Close("attend", f"In the last third of its layers {'; '.join(each)}.",
                (*spread_charts(spreads), features.spectrum(last), ranks),
                spread_facts(spreads) | features.rank_facts(last), both.heads, both.rows, both.path, both.kept)

"""Who reaches whom in a convnet: the Attend record of a network without attention.

A row is the share of kernel paths that lead from each visible patch to the asked one: every kernel's weights set to 1,
shortcuts counted, norms and activations left out. It says who can be heard, not who is. Beside it stands the length of
the activations, layer by layer. Letters: L layers, f cells per side, N = f f patches, V visible ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from models.engine.method import Close, Emit, Event, Open
from models.engine.recording import line
from models.loops.attend import loop
from models.loops.mask.photos import Photo
from models.papers.spark.holes import Walk, by_cell, mosaic
from models.trace import Chart, Fact, Field, Heads, Rows, Step, states

FIELDS = {"norm": Field("Length of the activation", "activation", 0.0),
          "covered": Field("Positions that carry information", "% of the patch", 0.0, 100.0),
          "span": Field("Reach: RMS distance to who is heard", "cells", 0.0),
          "received": Field("Heard by others: sum of its shares", "queries' worth", 0.0)}


@torch.no_grad()
def shares(encoder, active: Tensor, sparse: bool) -> np.ndarray:
    """float [L, N, N]: row q holds the share of paths to patch q from every patch; 0 where there is none.

    active bool [1, 1, f, f]. Hidden patches are no sources: zeros, skipped or not, say nothing.
    """
    side, stride = active.shape[-1], 2 ** len(encoder.stages)
    visible = active.flatten().nonzero()[:, 0]
    sources = torch.eye(side * side, device=active.device)[visible].unflatten(1, (1, side, side))  # [V, 1, f, f]
    pixels = sources.repeat_interleave(stride, 2).repeat_interleave(stride, 3)
    found = np.zeros((len(encoder.names), side * side, side * side))
    for layer, ways in enumerate(encoder.paths(pixels, active if sparse else None)):
        for source, ways_of in zip(visible.tolist(), ways[:, 0].cpu().numpy(), strict=True):
            found[layer, :, source] = by_cell(ways_of, side)
    return found / np.maximum(found.sum(-1, keepdims=True), 1e-300)


def record(encoder, view: Photo, active: Tensor, found: Walk) -> Iterator[Event]:
    """Open, one step per layer, Close."""
    rows, visible = shares(encoder, active, found.sparse), active[0, 0].flatten().cpu().numpy()
    layout = loop.grid_layout(view.grid, view.shown)
    asked = np.flatnonzero(rows[-1].sum(-1))  # a patch that nobody reaches has no row
    chosen = rows[:, None, asked]  # [L, 1, R, N]
    heads = replace(loop.row_heads(chosen, asked, layout.coords), names=encoder.names)
    stored = Rows.pack(asked, chosen)
    yield Open("attend", layout.canvas, FIELDS, len(rows), heads, stored)
    holes = mosaic(view.shown, ~visible, np.zeros(view.grid, bool))
    for step in steps(encoder.names, heads, visible, found, holes):
        yield Emit("attend", step)
    reached = (rows > 0)[:, visible].sum(-1).mean(-1)  # [L]
    yield Close("attend", say(reached, visible, found.sparse), (reach_chart(reached, found.sparse),),
                facts(reached, heads), heads, stored, "kernel paths, counted (no statistics)")


def steps(names, heads: Heads, visible: np.ndarray, found: Walk, picture: np.ndarray) -> Iterator[Step]:
    """One per layer; the asked patch is the visible one nearest to the middle. picture: the photo with its holes."""
    side = int(len(visible) ** 0.5)
    state = loop.marked(len(visible), nearest(visible, side), state=states(
        *("visible" if seen else "masked-random" for seen in visible)))
    for layer, name in enumerate(names):
        own = {"norm": by_cell(found.norms[layer], side), "covered": 100 * by_cell(found.covered[layer], side),
               "span": heads.span[layer, 0].astype(np.float32), "received": heads.received[layer, 0].astype(np.float32)}
        yield Step(f"after {name}", state, "layer", fields=own, picture=picture)


def nearest(visible: np.ndarray, side: int) -> int:
    """The visible patch nearest to the middle."""
    places = np.argwhere(np.ones((side, side)))
    far = ((places - (side - 1) / 2) ** 2).sum(1)
    return int(np.where(visible, far, np.inf).argmin())


def reach_chart(reached: np.ndarray, sparse: bool) -> Chart:
    return line("Visible patches that a patch hears", "visible patches", x="layer (1: the stem)", first=1,
                by_step=False, series={"holes skipped" if sparse else "holes zero-filled": reached},
                caption="Mean over visible patches, itself included. Skipped holes interrupt the paths.")


def facts(reached: np.ndarray, heads: Heads) -> dict[str, Fact]:
    last = np.nanmean(heads.span[-1].astype(np.float32))
    return {"reached": Fact("Visible patches that a visible patch hears, last layer", float(reached[-1]), "patches"),
            "span": Fact("Mean reach, last layer", float(last), "cells")}


def say(reached: np.ndarray, visible: np.ndarray, sparse: bool) -> str:
    return (f"A convnet has no attention: a row is the share of kernel paths from each visible patch to the asked one. "
            f"After the last layer a visible patch hears {reached[-1]:.0f} of {visible.sum()} visible patches: "
            + ("paths go around the holes, never through." if sparse else "paths run straight through the holes."))

"""What becomes of the holes of a masked photo, layer by layer, in a convnet that skips them and in one that sees zeros.

Sparse: a position counts as covered where its activation is not zero, as measured. Dense: biases and norms fill every
position with something, so it counts where a path of kernels leads to a visible pixel. Letters: f cells per side,
L = f f cells, C channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.engine.recording import line
from models.loops.mask.photos import Photo
from models.trace import Chart, Step, states
from models.trace.percent import percent

EMPTY, LEAKED = (217, 214, 205), (204, 121, 167)  # colours of positions: nothing here, and filled from the side
BINS = 40


@dataclass(frozen=True, eq=False)
class Walk:
    """One encoder over one masked photo. covered: bool [h, w] after every layer; norms: float [h, w], the length of
    the activation; sparse: whether holes were skipped."""

    sparse: bool
    covered: list[np.ndarray]
    norms: list[np.ndarray]

    def shares(self) -> np.ndarray:
        """Covered share of all positions after every layer."""
        return np.array([found.mean() for found in self.covered])


@torch.no_grad()
def walk(encoder, pixels: Tensor, active: Tensor, sparse: bool) -> Walk:
    """pixels [1, 3, S, S] of the whole photo, active bool [1, 1, f, f]."""
    from models.papers.spark.network import at
    seen = at(active, pixels)
    layers = list(encoder.layers(pixels * seen, active if sparse else None))
    covered = [layer.abs().sum(1, keepdim=True) > 0 for layer in layers] if sparse else encoder.reach(seen)
    return Walk(sparse, [found[0, 0].cpu().numpy() for found in covered],
                [layer[0].float().norm(dim=0).cpu().numpy() for layer in layers])


def by_cell(values: np.ndarray, side: int) -> np.ndarray:
    """Mean [L] over the positions [h, w] of every cell."""
    size = len(values) // side
    return values.reshape(side, size, side, size).mean((1, 3)).ravel()


def layer_steps(names: Sequence[str], view: Photo, hidden: np.ndarray, found: Walk) -> Iterator[Step]:
    """After every layer: the photo where cells are visible, holes that are still empty, and what has leaked into them.
    hidden bool [L]."""
    side = view.grid[0]
    for name, covered, norm in zip(names, found.covered, found.norms, strict=True):
        share = by_cell(covered, side)
        state = np.where(hidden, np.where(share > 0, "recomputed", "masked-random"), "visible")
        yield Step(f"after {name}", states(*state), "layer", picture=mosaic(view.shown, hidden, covered),
                   fields={"covered": 100 * share, "norm": by_cell(norm, side)},
                   note=f"{percent(covered.mean())} of {len(covered)} x {len(covered)} positions covered")


def mosaic(shown: np.ndarray, hidden: np.ndarray, covered: np.ndarray) -> np.ndarray:
    """uint8 [S, S, 3]: the photo's visible cells, and the holes' positions in the colour of empty or leaked."""
    size = len(shown)
    grow = lambda values: np.kron(values, np.ones((size // len(values),) * 2, bool))[..., None]  # noqa: E731
    holes = grow(hidden.reshape((int(len(hidden) ** 0.5),) * 2))
    return np.where(holes, np.where(grow(covered), np.uint8(LEAKED), np.uint8(EMPTY)), shown)


def coverage_chart(found: Walk) -> Chart:
    """Covered share after every layer."""
    return line("Positions that carry information", "% of positions", x="layer (1: the stem)", first=1, by_step=False,
                series={"holes skipped" if found.sparse else "holes zero-filled": 100 * found.shares()},
                caption="Skipped: as measured. Zero-filled: by the kernels' reach. At 100 % no hole is left.")


@torch.no_grad()
def norm_values(encoder, pixels: Tensor, active: Tensor) -> dict[str, list[Tensor]]:
    """Inputs of the first norm of every layer, each [positions, C], for the three ways to feed the same weights."""
    from models.papers.spark.network import at
    masked = pixels * at(active, pixels)
    flat = lambda y: y.permute(0, 2, 3, 1).flatten(0, 2)  # noqa: E731
    kept = lambda y: y.permute(0, 2, 3, 1)[at(active, y)[:, 0]]  # noqa: E731
    return {"whole photo": [flat(y) for y in encoder.norm_inputs(pixels)],
            "holes skipped": [kept(y) for y in encoder.norm_inputs(masked, active)],
            "holes zero-filled": [flat(y) for y in encoder.norm_inputs(masked)]}


def shifts(values: dict[str, list[Tensor]]) -> dict[str, np.ndarray]:
    """How far each layer's channel means lie from those of the whole photo, in its standard deviations, mean over
    channels."""
    whole = values["whole photo"]
    return {name: np.array([float(((y.mean(0) - x.mean(0)).abs() / (x.std(0) + 1e-6)).mean())
                            for x, y in zip(whole, found, strict=True)])
            for name, found in values.items() if name != "whole photo"}


def shift_chart(shift: dict[str, np.ndarray]) -> Chart:
    return line("Shift of what the norms are given", "standard deviations", shift, x="layer (1: the stem)", first=1,
                by_step=False, caption="Distance of the channel means from those of the whole photo, same weights.")


def stem_chart(values: dict[str, list[Tensor]]) -> Chart:
    """Histogram of the stem's outputs before its norm, all channels."""
    stem = {name: found[0].flatten().float().cpu().numpy() for name, found in values.items()}
    whole = stem["whole photo"]
    low, high = np.quantile(whole, [0.005, 0.995])
    edges = np.linspace(low, high, BINS + 1)
    lines = {}
    for name, found in stem.items():
        count, _ = np.histogram(np.clip(found, low, high), edges)
        lines[name] = 100 * count / count.sum()
    return line("Stem outputs before the norm", "% of values", lines, x="value", at=(edges[1:] + edges[:-1]) / 2,
                by_step=False, caption="Zero-filled holes give every channel its bias: the peak. Ends: all beyond.")

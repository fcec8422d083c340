"""The control's claim: zero-filled holes dissolve; told by the kernels' reach, checked by changing visible pixels."""

from __future__ import annotations

import copy

import torch

from models.checkpoints.store import load
from models.claims import Lab
from models.claims.harness import Claim, Metric, Quantity, at_least, better, conclude, context
from models.claims.probe import held_out
from models.papers.spark.claim import SEEN, ZERO, cells, masks, painted
from models.papers.spark.network import at


def measure(lab: Lab) -> Claim:
    """Layers until no hole is left, whether reach is where changes arrive, and the error beside inpainting."""
    model = load(ZERO).model
    pixels, kept = held_out(lab, lab.size(500, 24))[0], masks(lab.size(1000, 24))
    errors = painted(model, pixels, kept)  # of the network and of two fills
    error = Metric("masked-patch error", "squared normalised pixels", "lower", floor=errors[2], ceiling=0.0)
    own, smooth, flat = (error.arm(name, values, budget=SEEN, checkpoints=source) for name, values, source in zip(
        ("zero-filled convnet", "bilinear inpainting", "mean visible colour"), errors, (ZERO, (), ())))
    gone, shares = coverage(model.encoder, kept)
    return conclude(
        "zero-fill",
        paper="SparK (arXiv 2301.03580) on zero-filling: dense convolutions carry visible information into the holes, "
              "so that after several layers the mask has vanished.",
        here="In at least 95 % of random masks (60 % hidden) every position carries visible information before the "
             "last stage; hidden patches are repainted 10 % better than by inpainting.",
        arms=(own, smooth, flat), trainings=1, controls=[better(smooth, flat)],
        expect=[at_least(Quantity("masks without a hole before the last stage", gone, "% of masks", floor=0.0,
                                  ceiling=100.0), 95, bar="ours"), better(own, smooth, least=10, by="percent")],
        context=[*(context(f"positions covered after {name}", 100 * share, "%") for name, share in shares.items()),
                 *arrivals(model.encoder, pixels[: lab.size(20, 4)], kept)])


def coverage(encoder, kept: torch.Tensor):
    """Whether a mask has no hole left before the last stage, in percent [K], and the share of positions covered after
    some layers, by the kernels' reach."""
    found = encoder.reach(at(cells(kept), torch.empty(1, 1, 64, 64)))
    before = len(found) - len(encoder.stages[-1]) - 1
    gone = 100 * found[before].all(-1).all(-1).flatten().double().numpy()
    return gone, {encoder.names[n]: float(found[n].float().mean()) for n in (0, 1, before)}


@torch.no_grad()
def arrivals(encoder, pixels: torch.Tensor, kept: torch.Tensor) -> list:
    """All visible pixels exchanged for another photo's: changed positions against those within reach.

    In double precision, where no algorithm of the library mixes neighbouring positions' roundings."""
    encoder, pixels = copy.deepcopy(encoder).double(), pixels.double()
    active = cells(kept[: len(pixels)])
    seen = at(active, pixels)
    pairs = zip(encoder.layers(pixels * seen), encoder.layers(pixels.roll(1, 0) * seen), encoder.reach(seen))
    outside = inside = total = 0
    for one, other, reach in pairs:
        changed = one.ne(other).any(1, keepdim=True)
        outside, inside = outside + int((changed & ~reach).sum()), inside + int((changed & reach).sum())
        total += int(reach.sum())
    return [context("changed positions out of reach", outside, "positions", "an identity"),
            context("positions within reach that changed", 100 * inside / total, "%", "an identity, but for rounding")]

"""The control's claim: zero-filled holes dissolve; told by the kernels' reach, checked by changing visible pixels."""

from __future__ import annotations

import copy

import torch

from models.baselines.mae.claim import below, held_out
from models.checkpoints.store import load
from models.claims import Claim, Lab, Row
from models.loops.mask.photos import inpaint
from models.papers.spark.claim import ZERO, cells, masks, painted
from models.papers.spark.network import at, masked_error


def measure(lab: Lab) -> Claim:
    """Layers until no hole is left, whether reach is where changes arrive, and the error beside inpainting."""
    model = load(ZERO).model
    pixels = held_out(lab, lab.size(500, 8))[0]
    kept = masks(lab.size(1000, 20))
    rows = (*coverage(model.encoder, kept), *arrivals(model.encoder, pixels[: lab.size(20, 4)], kept),
            error(model, pixels, kept[: len(pixels)]))
    good = [found.holds for found in rows if found.holds is not None]
    return Claim(
        method="zero-fill",
        paper="SparK (arXiv 2301.03580) on zero-filling: dense convolutions carry visible information into the holes, "
              "so that after several layers the mask has vanished.",
        here="In at least 95 % of random masks (60 % hidden) every position carries visible information before the "
             "last stage; changes of visible pixels arrive nowhere else.",
        metric="share of positions; MSE of hidden patches",
        baseline="bilinear inpainting of the visible patches",
        budget=f"{len(kept)} masks, {len(pixels)} photos, one training of {load(ZERO).card.get('steps', '?')} steps",
        rows=rows, verdict="mixed" if any(good) else "does not hold",
        reason=f"{sum(good)} of {len(good)} expectations met; one training, so it cannot read 'holds'.",
        control="Skipped holes stay, in the same code (see SparK's claim).")


def coverage(encoder, kept: torch.Tensor) -> tuple[Row, ...]:
    """After the last layer before the last stage, and after the stem, by the kernels' reach."""
    found = encoder.reach(at(cells(kept), torch.empty(1, 1, 64, 64)))
    before = len(found) - len(encoder.stages[-1]) - 1
    full = float(found[before].all(-1).all(-1).float().mean())
    shares = {encoder.names[n]: float(found[n].float().mean()) for n in (0, 1, before)}
    return (*(Row(f"positions covered after {name}", 100 * share, "%", len(kept)) for name, share in shares.items()),
            Row("masks without a hole before the last stage", 100 * full, "% of masks", len(kept),
                expected="at least 95", holds=full >= 0.95))


@torch.no_grad()
def arrivals(encoder, pixels: torch.Tensor, kept: torch.Tensor) -> tuple[Row, Row]:
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
    return (Row("changed positions out of reach", outside, "positions", len(pixels), expected="0", holds=outside == 0),
            Row("positions within reach that changed", 100 * inside / total, "%", len(pixels), expected="at least 99",
                holds=inside >= 0.99 * total))


@torch.no_grad()
def error(model, pixels: torch.Tensor, kept: torch.Tensor) -> Row:
    target = model.patchify(pixels)
    fill = masked_error(inpaint(model, target, (~kept).float()), target, kept).numpy()
    return below("error below bilinear inpainting", painted(model, pixels, kept), fill, 10)

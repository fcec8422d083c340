"""SparK's claim, small: what its stem is given, what it repaints, and what a probe makes of it.

Arms: photo-spark-1, its zero-filled control at equal steps, and the same encoder untrained; one training each. The
single-scale arm was not trained. Fine-tuning is not measured: after 1.7 epochs of pretraining 308 steps could not rank
the arms (from scratch 20.5 %, a probe of random features 17.9 %).
"""

from __future__ import annotations

import copy

import numpy as np
import torch

from models.checkpoints.store import load
from models.claims import Lab
from models.claims.harness import Budget, Claim, Metric, better, conclude, context
from models.claims.probe import held_out, linear, untrained
from models.loops.mask.photos import beside_fills
from models.papers.spark import claim_exact as exact
from models.papers.spark import holes
from models.papers.spark.method import WITHOUT
from models.papers.spark.network import at, kept_cells, kept_count

SPARK, ZERO = "photo-spark-1", "photo-spark-zero-1"
RATIO, SEED, LABELLED = 0.6, 11, 2458  # every tenth training photo is labelled
SEEN = Budget(kept_count(64, RATIO), "visible patches")


def measure(lab: Lab) -> Claim:
    """Spread at the stem, masked error, probes; exactness of the sparse layers as context."""
    sparse, zero = (load(name).model for name in (SPARK, ZERO))
    pixels, truth = held_out(lab, lab.size(2463, 64))
    kept, some = masks(len(pixels)), lab.size(500, 24)
    spread = Metric("distance of the stem's spread from a whole photo's", "share of it", "lower", floor=1.0,
                    ceiling=0.0)
    skipped, filled = (spread.arm(name, values, budget=SEEN, checkpoints=SPARK) for name, values in zip(
        ("holes skipped", "holes zero-filled, same weights"), stem_spread(sparse, pixels[:some], kept)))
    found, fill, flat = painted(sparse, pixels[:some], kept)
    error = Metric("masked-patch error", "squared normalised pixels", "lower", floor=flat, ceiling=0.0)
    own, control, plain = (error.arm(name, values, budget=SEEN, checkpoints=source) for name, values, source in (
        ("SparK", found, SPARK), ("zero-filled control", painted(zero, pixels[:some], kept)[0], ZERO),
        ("bilinear inpainting", fill, ())))
    encoders = {SPARK: sparse.encoder, ZERO: zero.encoder, "": untrained(sparse.encoder, SEED)}  # dense
    probes = linear(lab, {name: lambda part, encoder=encoder: encoder(part)[-1].mean((2, 3))
                          for name, encoder in encoders.items()}, lab.size(LABELLED, 64), pixels, truth)
    right = Metric("linear probe, 10 % of the labels", "% correct", floor=probes[""], ceiling=100.0)
    learned, learned_zero = (right.arm(name, probes[checkpoint], budget=Budget(LABELLED, "labelled photos"),
                                       checkpoints=checkpoint)
                             for name, checkpoint in (("SparK", SPARK), ("zero-filled control", ZERO)))
    return conclude(
        "spark",
        paper="SparK (arXiv 2301.03580): sparse, hierarchical masked modelling for convnets surpasses contrastive and "
              "transformer-based masked modelling by about 1.0 % on three tasks, up to 3.5 % on detection.",
        here="A 1.6 M encoder on 64 x 64 photos. Skipped holes leave the stem's spread nearer to a whole photo's than "
             "zeros do, by a tenth at least; hidden patches are repainted 10 % better than by inpainting; a probe with "
             "10 % of the labels is 1 point above the control's.",
        arms=(skipped, filled, own, control, plain, learned, learned_zero), trainings=1, seeds=(SEED,),
        controls=[better(control, plain, least=10, by="percent")],
        expect=[better(skipped, filled, least=0.1), better(own, plain, least=10, by="percent"),
                better(learned, learned_zero, least=1, bar="paper: about 1.0 %")],
        context=[*exactness(sparse, pixels[: lab.size(5, 2)], kept),
                 context("masked-patch error, control minus SparK", control.scores - own.scores, error.unit,
                         "the control's encoder sees across holes; repainting is no task of the paper"),
                 *(context(f"masked-patch error without the {name} map",
                           painted(sparse, pixels[:some], kept, scales)[0], error.unit, "no arm was trained so")
                   for name, scales in WITHOUT.items())],
        would_take="per-patch normalised targets, 90 minutes of pretraining for each arm, and fine-tuning for 20 "
                   "epochs with 3 seeds")


def masks(count: int) -> torch.Tensor:
    """The visible patches bool [K, 64]: the same for all arms."""
    noise = torch.rand(count, 64, generator=torch.Generator().manual_seed(SEED))
    return kept_cells(noise, kept_count(64, RATIO))


def cells(kept: torch.Tensor) -> torch.Tensor:
    """[K, 64] -> [K, 1, 8, 8]."""
    return kept.unflatten(1, (8, 8))[:, None]


@torch.no_grad()
def stem_spread(model, pixels: torch.Tensor, kept: torch.Tensor) -> np.ndarray:
    """How far the spread of what the stem's norm is given lies from a whole photo's, as a share of it, mean over
    channels: [2, K], holes skipped and holes zero-filled, same weights."""
    found = []
    for photo, own in zip(pixels.split(1), cells(kept).split(1)):
        whole, *fed = (values[0].std(0) for values in holes.norm_values(model.encoder, photo, own).values())
        found.append([float((spread / (whole + 1e-6) - 1).abs().mean()) for spread in fed])
    return np.array(found).T


@torch.no_grad()
def painted(model, pixels: torch.Tensor, kept: torch.Tensor, scales=None) -> np.ndarray:
    """Masked error [3, K]: the network's, inpainting's and the mean colour's."""
    parts = [beside_fills(model, some, model.patchify(model(some, seen, scales=scales)), (~seen).float())
             for some, seen in zip(pixels.split(100), kept[: len(pixels)].split(100))]
    return torch.cat(parts, 1).numpy()


@torch.no_grad()
def exactness(model, pixels: torch.Tensor, kept: torch.Tensor) -> list:
    """Of the trained encoder, in double precision: where its maps are not zero, and what they hold."""
    encoder, active = copy.deepcopy(model.encoder).double(), cells(kept[: len(pixels)])
    wrong = apart = 0.0
    for i, photo in enumerate(pixels.double()):
        own = active[i : i + 1]
        found = list(encoder.layers(photo[None] * at(own, photo[None]), own))
        wrong = max(wrong, *(float((y.ne(0).any(1, keepdim=True) != at(own, y)).double().mean()) for y in found))
        gathered = exact.layers(encoder, photo, active[i, 0])
        apart = max(apart, *(float((y[0] - z).abs().max()) for y, z in zip(found, gathered, strict=True)))
    return [context("positions of any map filled in a hole, or empty outside", 100 * wrong, "%", "an identity"),
            context("largest difference from a gathered submanifold convolution", apart, "activation", "an identity")]

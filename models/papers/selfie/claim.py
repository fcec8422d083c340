"""Selfie's claim, small: holes filled rightly on held-out photos, and what the patch network is worth with few labels.

Fine-tuning keeps P alone, as the paper does: every patch of the whole photo through P, one fresh layer of attention in
place of the ResNet's fourth stage, a classifier, all of it trained. Its control begins with an untrained P.
"""
from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn

from models.checkpoints.store import load
from models.claims import Lab, harness
from models.claims.harness import Budget, Claim, Metric, Quantity, at_least, context, ratio
from models.claims.probe import TRAIN, finetuned, held_out, hits, in_batches, untrained
from models.loops.mask.photos import by_borders, taken
from models.papers.selfie.network import SIZES, PoolingLayer, SelfieNet, hole_count, scores, split

NAME, SEEDS = "photo-selfie-1", (0, 1, 2)  # draws of holes
RUNS, LABELLED, CLASSES, EPOCHS = 5, 1229, 50, 8  # fine-tunings, each on its own 5 % of the labels, in patches of 16
NETWORK, BORDERS, AROUND = "Selfie", "border colours", "Selfie, another photo around"


def measure(lab: Lab) -> Claim:
    model = load(NAME).model
    pixels, truth = held_out(lab, lab.size(1000, 24))
    fine, coarse = (arms(model, pixels, size) for size in SIZES)
    tuned, chance = few_labels(lab, model, pixels, truth), np.full(len(pixels), fine[NETWORK].metric.floor)
    right = Metric("right classes, 5 % of the labels", "% correct", floor=100 / CLASSES, ceiling=100.0)
    learned, fresh = (right.arm(name, runs=tuned[name], budget=Budget(EPOCHS * LABELLED, "photos seen"),
                                checkpoints=source) for name, source in (("pretrained", NAME), ("untrained", ())))
    spread = Quantity("spread of the fine-tunings, pretrained over untrained",
                      np.concatenate([*tuned.values()]).T, "x", spreads, 0.0)
    return harness.conclude(
        "selfie",
        paper="Selfie (arXiv 1906.02940, abstract): with 5 % of ImageNet's labels at 224 pixels a ResNet-50 goes from "
              "35.6 % to 46.7 %, gains in all settings, and runs that differ less.",
        here="1.7 M weights on 64 x 64 photos. On 8 x 8 patches the right one of 16 is found at twice chance and 1.15 "
             "times as often as by border colours. With 5 % of the labels the pretrained patch network is 3 points "
             "above the same network untrained, in each of 5 fine-tunings, which differ less.",
        arms=(*fine.values(), learned, fresh), trainings=1, seeds=SEEDS,
        controls=[harness.more_than_chance(fine[BORDERS], chance)],
        expect=[at_least(ratio(fine[NETWORK], chance, "holes filled rightly, Selfie over chance"), 2),
                at_least(ratio(fine[NETWORK], fine[BORDERS], "holes filled rightly, Selfie over border colours"), 1.15),
                harness.better(learned, fresh, least=3), harness.at_most(spread, 1)],
        context=[context("Selfie, this photo's patches around minus another's", fine[NETWORK].scores
                         - fine[AROUND].scores, "points", "what the visible patches tell"),
                 *(context(f"4 x 4 patches, {arm.name}", arm, why="4 pieces a hole") for arm in coarse.values())],
        would_take="30,000 steps of 256 photos; fine-tuning with all labels was not measured")


@torch.no_grad()
def filled(model: SelfieNet, pixels: Tensor, size: int, seed: int) -> dict[str, np.ndarray]:
    """Percent of holes [K] filled rightly: by the network, by border colours, and by the network with the next photo's
    patches in place of the visible ones."""
    noise = torch.rand(len(pixels), (64 // size) ** 2, generator=torch.Generator().manual_seed(9000 + seed))
    visible, holes = split(noise)
    h = in_batches(lambda part: model.features(part, size), pixels)
    picks = {name: scores(model.queries(seen, visible, holes, size), taken(h, holes)).argmax(2)
             for name, seen in ((NETWORK, h), (AROUND, h.roll(1, 0)))}
    picks[BORDERS] = by_borders(pixels, visible, holes, size).argmin(2)
    return {name: 100 * (one == torch.arange(holes.shape[1])).double().mean(1).numpy() for name, one in picks.items()}


def arms(model: SelfieNet, pixels: Tensor, size: int) -> dict:
    draws, pieces = [filled(model, pixels, size, seed) for seed in SEEDS], hole_count((64 // size) ** 2)
    metric = Metric(f"holes filled rightly, {64 // size} x {64 // size} patches", "% of holes", floor=100 / pieces,
                    ceiling=100.0)
    return metric.arms({name: np.stack([one[name] for one in draws]) for name in draws[0]},
                       {NETWORK: NAME, AROUND: NAME}, Budget(pieces, "pieces to choose from"))


class TunedPatches(nn.Module):
    """P on every patch of the whole photo, one fresh layer of attention, and a classifier on the mean."""

    def __init__(self, model: SelfieNet):
        super().__init__()
        self.cut, width = model.patchify, len(model.start_embed)
        self.patch_network = copy.deepcopy(model.patch_network)
        self.place = nn.Parameter(0.02 * torch.randn((64 // SIZES[1]) ** 2, width))
        self.layer, self.norm = PoolingLayer(width, 2, 2 * width), nn.LayerNorm(width)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, pixels: Tensor) -> Tensor:
        found = self.patch_network(self.cut(pixels, SIZES[1])) + self.place  # [B, L, D]
        return self.head(self.norm(self.layer(found, 0)).mean(1))


def few_labels(lab: Lab, model: SelfieNet, pixels: Tensor, truth: np.ndarray) -> dict[str, np.ndarray]:
    """Percent right [T, K] of every fine-tuning, from the pretrained patch network and from an untrained one."""
    runs, some = lab.size(RUNS, 2), lab.size(LABELLED, 12)
    learn, labels = held_out(lab, runs * some, TRAIN)
    found = {"pretrained": [], "untrained": []}
    for run, at in enumerate(range(0, runs * some, some)):
        for name, start in (("pretrained", model), ("untrained", untrained(model, run))):
            torch.manual_seed(run)
            tuned = finetuned(TunedPatches(start), learn[at:at + some], labels[at:at + some],
                              max(1, lab.size(EPOCHS, 1) * some // 64), seed=run)
            found[name].append(100 * hits(tuned, pixels, truth))
    return {name: np.stack(rows) for name, rows in found.items()}


def spreads(rows: np.ndarray) -> float:
    """Standard deviation over fine-tunings of the first half of the columns over that of the second; rows [K, 2 T]."""
    first, second = rows.mean(0).reshape(2, -1).std(1)
    return float(first / max(second, 1e-9))

"""Patchification's claim, small: does the loss on photos nobody learned from fall at every halving of the patch?

One training of each size, equal steps on the same crops; and large patches that have cost as much as small ones. The
bars were fixed before anything was trained (NOTES.md).
"""
from __future__ import annotations

import json

import numpy as np
import torch
from torch.nn.functional import avg_pool2d, cross_entropy

from models.checkpoints.registry import SHIPPED
from models.checkpoints.store import load
from models.claims import Lab
from models.claims.arms import Arm
from models.claims.harness import Budget, Claim, Metric, advantage, as_good, better, conclude, context
from models.claims.probe import TRAIN, held_out, in_batches
from models.papers.patchification import tokens

LEAST = 2.0  # percent of the loss, at every halving
LEARNED = 10.0  # percent of the loss below what the shares of the classes give: less, and an arm cannot rank anything
HALVINGS = (64, 16, 8), (64, 8, 4), (16, 4, 2)  # picture side, larger and smaller patch
UNEQUAL = "equal epochs, as in the paper: a smaller patch makes four times the tokens"


def measure(lab: Lab) -> Claim:
    """Cross-entropy per photo of all eight; of the longer trainings, what they answered."""
    pixels, truth = photos(lab)
    floor = shares(lab)[truth]
    loss = Metric("loss on photos held out", "nats", better="lower", floor=floor, ceiling=0.0)
    arms = {key: arm(loss, *key, pixels, truth) for key in every()}
    more = {patch: longer(loss, patch, smaller, len(truth)) for patch, smaller in ((16, 8), (8, 4))}
    guess = loss.arm("shares of the classes", floor, budget=work(64, 16, 0))
    return conclude(
        "patchification",
        paper="Scaling Laws in Patchification (arXiv 2502.03738): smaller patches lower the loss consistently, down to "
              "one token per pixel; 84.6 % of ImageNet right with 50,176 tokens.",
        here="Small classifiers of 20 kinds of photos that differ in patch size alone, 500 steps each: at 64 pixels "
             "from patches of 16 to 8 to 4, and at 16 pixels from 4 to 2, the loss falls by at least 2 % at each "
             "halving; tokens of one pixel are at most 2 % worse than patches of 2; and a small patch still wins "
             "where the one twice as large was trained until it had cost as many multiply-adds.",
        arms=(*arms.values(), *more.values(), guess), trainings=1,
        controls=[*(better(arms[key], guess, least=LEARNED, by="percent", unmatched="a guess costs nothing",
                           name=f"fall of the loss below the shares of the classes, {arms[key].name}")
                    for key in ((64, 16), (16, 4))),
                  better(more[16], arms[64, 16], unmatched="the same network, trained for longer",
                         name="fall of the loss, 64 pixels, patches of 16, trained on")],
        expect=[*(better(arms[side, small], arms[side, large], least=LEAST, by="percent", unmatched=UNEQUAL,
                         name=fall(side, large, small)) for side, large, small in HALVINGS),
                as_good(arms[16, 1], arms[16, 2], within=LEAST, by="percent", unmatched=UNEQUAL, name=fall(16, 2, 1)),
                *(better(arms[64, small], more[large], name=f"equal multiply-adds: loss of patches of {large} minus "
                         f"loss of patches of {small}") for large, small in ((16, 8), (8, 4)))],
        context=[*(context(fall(side, large, small), advantage(arms[side, small], arms[side, large], "percent"),
                           why="from 4 tokens to 16: beyond the sizes that the bar is for")
                   for side, large, small in ((64, 32, 16), (16, 8, 4))),
                 *(context(f"{count} tokens: fall of the loss from 64 pixels to means of 16", advantage(
                     arms[16, small], arms[64, large], "percent"),
                           why="asked after looking: as many tokens, fewer pixels")
                   for count, large, small in ((64, 8, 2), (256, 4, 1))),
                 *(context(f"multiply-adds of a picture, {name}", tokens.macs(*key) / 1e6, "million", "a count")
                   for key, name in (((64, 4), "256 tokens"), ((64, 2), "1,024 tokens, not trained"))),
                 *(context(f"weights, {arms[key].name}", weights(*key), "thousand", "only the patch projection and the "
                           "positions differ") for key in ((64, 16), (64, 4), (16, 1)))],
        would_take="three trainings of each size, tens of epochs, and an hour of a core for 1,024 tokens")


def fall(side: int, large: int, small: int) -> str:
    """What a row of one halving is called; above 0 the smaller patch has the lower loss."""
    return f"fall of the loss, {side} pixels, patches of {large} to {small}"


def every() -> list[tuple[int, int]]:
    """Picture side and patch of all that were trained."""
    return [(side, patch) for side, sizes in tokens.FAMILY.items() for patch in sizes]


def photos(lab: Lab) -> tuple[torch.Tensor, np.ndarray]:
    """Pixels [K, 3, 64, 64] and classes [K] of the photos that nobody learned from, in the order of the trainings."""
    parts = held_out(lab, lab.size(tokens.HELD, 40), TRAIN), held_out(lab, lab.size(2463, 40))
    some, truth = tokens.some_of(torch.from_numpy(np.concatenate([labels for _, labels in parts])))
    return torch.cat([pixels for pixels, _ in parts])[some], truth.numpy()


def shares(lab: Lab) -> np.ndarray:
    """Loss [C] of naming every class with its share of the photos that were learned from."""
    import pyarrow.parquet as parquet
    labels = parquet.read_table(lab.need(TRAIN), columns=["label"])["label"].to_numpy()[tokens.HELD :]
    counts = tokens.some_of(torch.from_numpy(labels.astype(np.int64)))[1].bincount(minlength=len(tokens.CLASSES))
    counts = counts.clamp_min(1)  # a class that a small sample lacks
    return -np.log((counts / counts.sum()).numpy())


def arm(loss: Metric, side: int, patch: int, pixels: torch.Tensor, truth: np.ndarray) -> Arm:
    name = tokens.name(side, patch)
    model, small = load(name).model, avg_pool2d(pixels, tokens.SIDE // side)
    found = in_batches(lambda part: model(part).logits.float(), small)
    wrong = cross_entropy(found, torch.from_numpy(truth), reduction="none").numpy()
    return loss.arm(f"{side} pixels, patches of {patch}", wrong, checkpoints=name,
                    budget=work(side, patch, tokens.STEPS))


def longer(loss: Metric, patch: int, smaller: int, count: int) -> Arm:
    """The arm of which only its losses are kept: patches that have cost what the smaller ones did."""
    name = tokens.name(tokens.SIDE, patch)
    kept = json.loads((SHIPPED / name / f"{name.removesuffix('-1')}-more-1.json").read_text("utf-8"))
    title = f"{tokens.SIDE} pixels, patches of {patch}, {kept['steps']:,} steps"
    return loss.arm(title, np.array(kept["losses"][:count]),
                    budget=work(tokens.SIDE, patch, tokens.as_costly(patch, smaller)))


def work(side: int, patch: int, steps: int) -> Budget:
    """Of the whole training; the way back costs twice the way there."""
    return Budget(3 * steps * tokens.BATCH * tokens.macs(side, patch) / 1e12, "T multiply-adds to train")


def weights(side: int, patch: int) -> float:
    return sum(one.numel() for one in load(tokens.name(side, patch)).model.parameters()) / 1e3

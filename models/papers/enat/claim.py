"""ENAT's claim, small: less work for the same pictures, reuse that costs nothing, and change that sits in few cells.

Parser scores on drawn scenes replace the Frechet distance; every setting draws the same captions with the same seeds,
so differences are paired. The plain model is ENAT's start, not trained on for as long as ENAT was: that control is
missing, so who is better says little here, and the claim says what it would take.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import nn

from models.checkpoints.store import load
from models.claims import Lab, scene_lab
from models.claims.harness import Claim, Quantity, Tuned, as_good, at_least, better, conclude, context
from models.loops.attend.boards import TOP, concentration
from models.papers.enat import method as enat
from models.trace.percent import percent

SEEDS = (71, 72, 73, 74)
STEPS, DEFAULT, FEWER = 8, 28, 3  # the paper's; the tab's; of the plain model: at least as much work as ENAT's eight
SHARE, LOSS, CHANGE = 0.6, 0.033, 0.05  # ours: most work, most loss (5 % of the plain model's 0.66), change by reuse
UNLIKE = ("ENAT starts from the plain model's weights and was trained on; the plain model trained on for as long is "
          "the control that is missing")
KEPT = Tuned(20, "other captions, for the plain model; ENAT takes its settings (training/trunks/scene_mgm.py)")


def measure(lab: Lab) -> Claim:
    plain, tokenizer = (b.model for b in scene_lab.bundles())
    model, again = load("scene-enat-1", dtype="bfloat16").model, partial(enat.Reusing, until=scene_lab.UNTIL)
    captions = scene_lab.Captions.of(lab.size(120, 2), SEEDS, tokenizer)
    nets = {"plain": (plain, scene_lab.plain, "scene-mgm-1"), "ENAT": (model, again, "scene-enat-1"),
            "ENAT without reuse": (model, partial(again, reuse=False), "scene-enat-1")}

    def scored(name: str, steps: int, first: int | None = None) -> np.ndarray:
        net, evaluate, _ = nets[name]
        return captions.filled(net, tokenizer, steps, first, evaluate=evaluate)

    def work(name: str, steps: int) -> int:
        return scene_lab.work(nets[name][0], steps, nets[name][1])

    def arm(name: str, steps: int):
        return captions.arm(f"{name}, {steps} steps", scored(name, steps), work(name, steps), nets[name][2], tuned=KEPT)

    few = lab.size(12, 1)
    ours, full, less = arm("ENAT", STEPS), arm("plain", STEPS), arm("plain", FEWER)
    afresh, late = arm("ENAT without reuse", STEPS), scored("ENAT", DEFAULT, few) - scored("plain", DEFAULT, few)
    held, lift = changes(plain, captions.groups[0][1][: lab.size(48, 2)], STEPS)
    share = {steps: work("ENAT", steps) / work("plain", steps) for steps in (STEPS, DEFAULT)}
    return conclude(
        "enat", paper="Better pictures with significantly less computation on ImageNet and MS-COCO (arXiv 2411.06959; "
        "no number in the abstract).",
        here="The quarter of cells that change most holds more than half of a plain model's change, with twice as many "
             "new cells as by chance; ENAT in 8 steps scores at most 5 % lower than the plain model, more than it for "
             "equal work, and the same with and without reuse.",
        arms=(ours, full, less, afresh), trainings=1, seeds=SEEDS, dtype="bfloat16",
        controls=[better(full, less, unmatched="it is work that must show")],
        expect=[at_least(Quantity(f"plain model: change held by the top {percent(TOP)} of cells", held, "of all change",
                                  floor=TOP, ceiling=1.0), 0.5),
                at_least(Quantity("plain model: new cells among them", lift, "times chance", floor=0.0,
                                  ceiling=1 / TOP), 2.0),
                as_good(ours, full, LOSS, unmatched=UNLIKE),
                better(ours, less), as_good(ours, afresh, CHANGE, both_sides=True)],
        context=[*(context(f"work of ENAT in {steps} steps", part, "of the plain model's",
                           f"a count; at most {SHARE:g} asked") for steps, part in share.items()),
                 context(f"{DEFAULT} steps, ENAT minus plain model", late, "of 1",
                         f"too few captions to judge by: {len(late)}")],
        would_take="scene-mgm-1 trained on for as many minutes as scene-enat-1, from the same weights, as the plain "
                   "arm; a second training of both; about 1,000 captions for a margin of 5 %")


@torch.inference_mode()
def changes(plain: nn.Module, asked, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Of the plain model's pictures [K]: the change that the top cells hold, and how many times as often as by chance
    new cells are of them; means over the steps."""
    cond, before, found = scene_lab.conditions(asked), None, []
    for turn in scene_lab.turns(plain, cond, steps, torch.Generator().manual_seed(SEEDS[0])):
        features = plain.look(turn.moment.ids, cond)[:, plain.cond_length :].float()  # [K, N, D]
        if before is not None:
            change = (1 - torch.cosine_similarity(features, before, dim=-1)).numpy()
            found.append([concentration(*pair) for pair in zip(change, turn.moment.fresh.numpy())])
        before = features
    return tuple(np.mean(found, 0).T)

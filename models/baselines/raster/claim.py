"""The raster baseline's claim: written code by code, a picture holds what its caption asks for, and the caption is why.

Parser scores on clean scenes, the same captions for all arms; the floor is a perfect scene for another caption.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from models.baselines.raster import method as raster
from models.checkpoints.store import load
from models.claims import Lab, scene_lab
from models.claims.harness import Budget, Claim, Metric, at_least, better, conclude, mean_of

SEED, GOOD = 83, 0.8  # ours


def measure(lab: Lab) -> Claim:
    model, tokenizer = load("scene-ar-1").model, load(raster.CODES).model
    asked = scene_lab.requests(lab.size(96, 2), SEED)
    words = F.pad(scene_lab.conditions(asked), (0, 1))  # the last word would be the light
    score = Metric("parser score", "of 1", floor=scene_lab.floor(asked), ceiling=scene_lab.ceiling(tokenizer, asked))

    def arm(name: str, told: torch.Tensor, guidance: float):
        found = list(raster.codes(model, told, torch.Generator().manual_seed(SEED), guidance))
        images = tokenizer.decode(torch.cat([one.ids for one in found], 1).unflatten(1, model.grid))
        work = sum(one.cost.macs for one in found) / len(asked) / 1e9
        return score.arm(name, scene_lab.read(asked, images), budget=Budget(work, "G multiply-adds"),
                         checkpoints="scene-ar-1")

    alone, pulled, deaf = (arm(*one) for one in (("caption", words, 0.0), ("caption, guided", words, raster.GUIDANCE),
                                                 ("no caption", torch.zeros_like(words), 0.0)))
    return conclude(
        "raster", paper="No paper of the 89: the baseline of other orders (raster over codes: arXiv 2012.09841).",
        here="Written code by code, pictures hold what their captions ask for, nearly as well as their codes allow.",
        arms=(alone, pulled, deaf), trainings=0, seeds=(SEED,),
        controls=[better(pulled, deaf, least=0.5, unmatched="guided")],
        expect=[better(alone, deaf, least=0.5), at_least(mean_of(alone), GOOD)])

"""The raster baseline's claim: written code by code, a picture holds what its caption asks for, and the caption is why.

Parser scores on clean scenes, the same captions for all arms; the floor is a perfect scene for another caption.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from kernels import Sampler
from models.baselines.raster import method as raster
from models.checkpoints.store import load
from models.claims import Lab, scene_lab
from models.claims.harness import Claim, at_least, better, conclude, mean_of
from models.loops.unmask.growth import ids_of

SEED, GOOD = 83, 0.8  # ours
CHECKPOINTS = ("scene-ar-1", raster.CODES)


def measure(lab: Lab) -> Claim:
    captions = scene_lab.Captions.of(lab.size(96, 2), (SEED,), load(raster.CODES).model)

    def arm(name: str, guidance: float, hears: bool = True):
        return captions.arm(name, *scene_lab.grown(captions.groups, written, guidance, hears=hears), CHECKPOINTS[0])

    alone, pulled, deaf = arm("caption", 0.0), arm("caption, guided", raster.GUIDANCE), arm("no caption", 0.0, False)
    return conclude(
        "raster", paper="No paper of the 89: the baseline of other orders (raster over codes: arXiv 2012.09841).",
        here="Written code by code, pictures hold what their captions ask for, nearly as well as their codes allow.",
        arms=(alone, pulled, deaf), trainings=0, seeds=(SEED,),
        controls=[better(pulled, deaf, least=0.5, unmatched="guided")],
        expect=[better(alone, deaf, least=0.5), at_least(mean_of(alone), GOOD)])


def written(asked, generator: torch.Generator, guidance: float, top_p: float = 1.0, *, hears: bool = True):
    """Pictures [K, 3, h, w] code by code, and the steps; on clean ground, for the last word is the light."""
    model, words = load(CHECKPOINTS[0]).model, F.pad(scene_lab.conditions(asked), (0, 1)) * hears
    steps = list(raster.codes(model, words, generator, guidance, Sampler(1.0, 0, top_p)))
    with torch.inference_mode():
        return load(CHECKPOINTS[1]).model.decode(ids_of(steps).unflatten(1, model.grid)), steps

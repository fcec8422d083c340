"""Masked-token optimisation (arXiv 2404.08330): mask tokens that nobody takes for a seen patch.

In a SimMIM encoder hidden patches are one learned vector among the seen ones. MTO keeps that vector away from every
patch embedding and lets seen tokens look past it in the first blocks, so that pre-training is said to need half the
epochs. The mechanism is the abstract's, the formulas are this project's own (losses.py); nothing changes once nothing
is hidden, so what a run shows is the network as it was trained, mask tokens inside.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from models.baselines.mae.method import EXAMPLES, budget
from models.engine.method import Card, Control, Job, Method, Turn
from models.papers.mto import record
from models.trace.params import Span


@dataclass(frozen=True)
class Params:
    mask_ratio: Annotated[float, Span(0.3, 0.9, 0.05, "Mask ratio", "How much of the picture is hidden, at random; the "
                                      "networks were trained with 0.6.", unit="of patches")] = 0.6


def run(job: Job):
    compared = record.compare(job)
    yield from record.rebuilt(job, compared)
    yield from record.looked_at(job, compared)


METHOD = Method(
    card=Card(
        id="mto", title="MTO", tabs=("mask", "attend"), arxiv="2404.08330", year=2024, seed="A",
        summary="Hidden patches stay in the encoder as one learned vector. It is kept away from all seen patches, and "
                "in the first layers seen patches learn to look past it.",
        flow="photo > patches hidden at random > *one mask vector, unlike every patch > "
             "*first layers: seen patches look past it > other layers > hidden patches painted",
        look_at="Attend: how much of their attention do seen patches waste on empty ones in the first layers, with MTO "
                "and without? And how like is the mask vector to the patches of this photo?",
        not_covered="Mechanism from the abstract; formulas are this project's: the weights 0.1, 0.1 and 0.01, r = 0.98 "
                    "at the start and learned at 20 times the rate, the first quarter of the layers, the third loss on "
                    "8 photos a step. MTO in an MAE's decoder (its mask tokens are only measured), arms with one part "
                    "alone, three trainings, block masks, BEiT. Ours: both arms go on from an MAE's encoder, and the "
                    "class token counts as seen.",
        unverified="The reference code could not be read: the three losses' formulas, weights and layers, and the "
                   "paper's measure of speed (RAUC).",
        shown={"mask": "the masked photo, rebuilt by both networks after as many steps"}),
    params=Params, accepts="photo", checkpoints=(record.NAME, record.BASE), companions=(record.BASE, record.MAE),
    run=run, examples=EXAMPLES, control=Control(record.BASE, title="SimMIM"),
    bound="it needs an encoder with a mask vector inside",
    turn=Turn("Hide the patches that you think are hardest to rebuild.", "error", budget))

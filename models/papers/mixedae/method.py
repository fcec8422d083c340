"""MixedAE: four photos share one picture, and every patch learns to find its siblings.

Chen et al., Mixed Autoencoder for Self-supervised Visual Representation Learning (arXiv 2303.17152), without reference
code: mixing, homologous attention and both losses are in mixtures.py. The visitor's photo is mixed with three shipped
ones; which, and who gets which place, is drawn by the seed. Segment vectors say whose a patch is, so siblings are
looked for without them unless they are switched on.
"""

from dataclasses import dataclass
from typing import Annotated

from models.baselines.mae.method import EXAMPLES
from models.engine.method import Card, Control, Job, Method
from models.papers.mixedae import record
from models.papers.mixedae.mixtures import recognises
from models.trace.params import Flag, ParamError, Span


@dataclass(frozen=True)
class Params:
    keep: Annotated[int, Span(4, 64, 4, "Keys kept", "Patches that a patch may look at, from the second layer on; "
                              "trained at 16, as many as a photo has. Naive mixing looks at all, and these are its "
                              "strongest.", unit="of 64 patches")] = 16
    segments: Annotated[bool, Flag("Segment vectors", "Tell every patch which photo it is from. Siblings can then be "
                                   "read off and need not be found.")] = False
    query: Annotated[int, Span(0, 63, 1, "Query patch", "Whose kept keys are coloured by their photo, counted from 0. "
                               "Any patch can be clicked.", fold=True)] = 27


def run(job: Job):
    if job.params.segments and not recognises(job.model):
        raise ParamError("this network was trained without segment vectors: switch them off")
    mixture = record.mixture(job)
    yield from record.rebuilt(job, mixture)
    yield from record.looked_for(job, mixture)


METHOD = Method(
    card=Card(
        id="mixedae", title="MixedAE", tabs=("mask", "attend"), arxiv="2303.17152", year=2023, seed="A",
        summary="The holes of a masked photo are filled with patches of three others; each patch learns to look only "
                "at its siblings, the patches of its own photo, and every photo is rebuilt from its own.",
        flow="four photos > mixed patch by patch > *attention to the strongest quarter > latents > one decode per "
             "photo > four photos rebuilt; latents > *siblings pulled together",
        look_at="Attend: click a patch and colour by \"Photo of those that the query keeps\". Are they of its own "
                "photo? Hardly more often than by naive mixing. After so few steps the projection at the end finds "
                "siblings, and one that is trained afterwards on naive mixing's tokens finds nearly as many.",
        not_covered="Training from nothing: both arms go on from a plain MAE for 350 steps. An arm with homologous "
                    "attention alone; objects in scenes, segmentation and detection. Complementary mixtures of one "
                    "group, other ratios, fine-tuning (one photo, all pairs). Targets are raw pixels, as in the "
                    "network both arms start from; the paper normalises patches. Ours: "
                    "segment vectors are left out of about every second mixture in training, so that siblings have to "
                    "be found; the class token, which has no photo, is kept beside the 16 keys.",
        unverified="From memory or second hand, without code: the ratio, segment vectors at the encoder's input, a "
                   "dense first layer, the two-layer projection, the contrast's temperature 0.25 and weight 0.1.",
        shown={"mask": "the mixed picture, and each photo rebuilt from its own patches"}),
    params=Params, accepts="photo", checkpoints=("photo-mixed-1", "photo-mixed-naive-1"), run=run, examples=EXAMPLES,
    control=Control("photo-mixed-naive-1", {"segments": False}, "Naive mixing"),
    bound="it needs a network that was trained on mixed pictures",
    fixed={"mask": "Which patch is whose is drawn by the seed; every photo is rebuilt from what it kept.",
           "attend": "Heads keep what fits a query best: change how many keys a patch keeps."})

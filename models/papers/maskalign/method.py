"""MaskAlign: with a good frozen teacher there is nothing to rebuild; a student of few patches matches its features.

Xue et al., Stare at What You See: Masked Image Modeling without Reconstruction (arXiv 2211.08887), read with its
reference code. The teacher looks at the whole photo, the student at the patches that were drawn, and only these carry
a loss. Mechanism and loss stand in alignment.py.
"""

from dataclasses import dataclass
from typing import Annotated

from models.baselines.mae.method import EXAMPLES
from models.engine.method import Card, Control, Job, Method
from models.papers.maskalign import record
from models.trace.params import Choice, Span


@dataclass(frozen=True)
class Params:
    mask_ratio: Annotated[float, Span(0.3, 0.9, 0.05, "Mask ratio", "How much of the photo the student does not see.",
                                      unit="of patches")] = 0.7
    mode: Annotated[str, Choice(("attention", "uniform"), "Patches are drawn", "By the teacher's attention, salient "
                                "patches are likelier to stay; or every patch is as likely.",
                                titles=("by the teacher's attention", "all alike"))] = "attention"


def run(job: Job):
    found = record.lesson(job)
    yield from record.asked(job, found)
    yield from record.compared(job, found)


METHOD = Method(
    card=Card(
        id="maskalign", title="MaskAlign", tabs=("mask", "attend"), arxiv="2211.08887", year=2023, seed="A",
        summary="A student sees less than a third of a photo and learns what a frozen teacher, which sees all of it, "
                "makes of just those patches. Nothing is rebuilt.",
        flow="photo > teacher sees all > *salient patches likelier to stay > student > *W mixes its blocks > heads > "
             "error; teacher sees all > *its features of the same patches > error",
        look_at="Mask: the draw prefers what the teacher looks at, but is no ranking. At which level does the student "
                "err most? Attend: the class tokens of both, layer by layer, and W.",
        not_covered="Teachers of other data (CLIP, DINO), of other sizes, drop-path, fine-tuning; other losses, "
                    "targets and levels; a student that sees all, one with W fixed, one of a uniform draw. The teacher "
                    "was trained with labels on the same photos, so what the student knows of their classes is the "
                    "teacher's. Ours: the student goes on from photo-mae-2 and does not start anew; 222 steps; heads "
                    "begin at zero; steps of Muon, and W without weight decay.",
        shown={"mask": "the draw, and how wrong the student is about what the teacher makes of each patch it sees"}),
    params=Params, accepts="photo", checkpoints=("photo-align-1", "photo-align-rebuilt-1"),
    companions=("photo-vit-1",), run=run, examples=EXAMPLES,
    control=Control("photo-align-rebuilt-1", title="Feature reconstruction"),
    bound="it needs a student that was trained beside its teacher",
    fixed={"mask": "Which patches stay is drawn by the seed; change how many, or how they are drawn.",
           "attend": "The student looks at what was drawn; change how many patches, or how they are drawn."})

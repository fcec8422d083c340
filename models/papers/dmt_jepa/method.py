"""DMT-JEPA: a hidden patch's target is made of its likest neighbours, not of the patch itself.

DMT-JEPA: Discriminative Masked Targets for Joint-Embedding Predictive Architecture (arXiv 2405.17995). Equations and
networks are in network.py, masks in models/loops/mask/multiblock.py, what is shown in record.py. The control is I-JEPA.
"""
from dataclasses import dataclass
from typing import Annotated

from models.baselines.mae.method import EXAMPLES
from models.engine.method import Card, Control, Job, Method
from models.papers.dmt_jepa import record
from models.trace.params import Span
from models.trace.subject import Example

SCENES = (Example("drawn-things", "Three drawn things", "drawn-things.png"),
          Example("drawn-neighbours", "Four drawn things, side by side", "drawn-neighbours.png"))


@dataclass(frozen=True)
class Params:
    query: Annotated[int, Span(0, 63, 1, "Marked patch", "Whose target is taken apart, counted from 0. Any patch can "
                               "be clicked.")] = 27
    keep: Annotated[int, Span(1, 8, 1, "Neighbours chosen", "Of the window around a patch. Trained with 4: another "
                              "number only changes what is shown in Attend.", unit="of 8")] = 4


def run(job: Job):
    view = record.seen(job)
    yield from record.predicted(job, view)
    yield from record.made_of(job, view)


METHOD = Method(
    card=Card(
        id="dmt-jepa", title="DMT-JEPA", tabs=("mask", "attend"), arxiv="2405.17995", year=2024, seed="A",
        summary="Predicts latents of hidden blocks, and makes the target of every patch from the 4 of its neighbours "
                "that are most like it, so that objects separate more clearly.",
        flow="whole picture > target encoder > *4 likest neighbours > *attention from the picture's mean > error; "
             "visible patches > context encoder > *mean told to all > predictor > error",
        look_at="Attend: click a patch on a drawn thing. Is the map of its target brighter on that thing than I-JEPA's "
                "beside it?",
        not_covered="ViT-B at 14 x 14 patches and 600 epochs, weight decay that grows, windows that wrap around the "
                    "border (a reference quirk, off). Ours: both arms start from photo-mae-2's encoder without its "
                    "class token, because the reference has none; every context has 24 patches; photos are flipped, "
                    "too; a quarter of each batch are drawn scenes, uncropped; momentum 0.96 to 1 over 350 steps; the "
                    "averages of context encoder and predictor make the predictions.",
        unverified="k = 4 and the 3 x 3 window come from the reference's settings. Its released head would ask with "
                   "the query of another picture of the batch; here every picture has its own.",
        shown={"mask": "four target blocks, predicted from the context"}),
    params=Params, accepts="photo", checkpoints=("photo-dmt-1", "photo-jepa-1"), run=run, examples=(*SCENES, *EXAMPLES),
    control=Control("photo-jepa-1", title="I-JEPA"), bound="it needs a pair that predicts latents",
    fixed={"mask": "Context and blocks are drawn by the seed; the network paints no pixels.",
           "attend": "Its attention is the target head's; change how many neighbours are chosen."})

"""LUT: the visible tokens of a sparse view must say what the complete other view is about.

Learning with Unmasked Tokens Drives Stronger Vision Learners (arXiv 2310.13593), read with the authors' code (facts
only). Network and losses are in network.py, the sheet of views in record.py. At test time LUT is a plain encoder.
"""

from dataclasses import dataclass
from typing import Annotated

from models.baselines.mae.method import EXAMPLES
from models.engine.method import Card, Control, Job, Method
from models.loops.attend import distance
from models.loops.mask.photos import photo
from models.papers.lut import record
from models.trace.params import Span

MORE = "photo-mae-2-more"
NAMES = {MORE: "MAE", "photo-lut-1": "LUT"}


@dataclass(frozen=True)
class Params:
    mask_ratio: Annotated[float, Span(0.5, 0.9, 0.05, "Mask ratio", "How much of each view is hidden; from half on, no "
                                      "place is visible in both. Trained at 0.75.", unit="of patches")] = 0.75
    strength: Annotated[float, Span(0.0, 1.0, 0.1, "Colours of view 2", "How much its colours are changed: 1 as in "
                                    "training, 0 only moved and mirrored. For looking: nothing is trained here.",
                                    unit="of training's")] = 1.0
    query: Annotated[int, Span(0, 63, 1, "Query patch", "To which patch the likeness of the others is drawn, counted "
                               "from 0. Whose attention is drawn follows a click.", fold=True)] = 27


def run(job: Job):
    view, name = photo(job.subject.image, job.model), NAMES.get(job.bundle.name, "this network")
    if job.wants("mask"):
        yield from record.compared(job, record.two_views(job))
    yield from distance.record({NAMES[MORE]: job.companion(MORE).model, name: job.model}, view, job.params.query)


METHOD = Method(
    card=Card(
        id="lut", title="LUT, unmasked tokens", tabs=("attend", "mask"), arxiv="2310.13593", year=2024, seed="A",
        summary="An MAE trains what is hidden. LUT also asks the few visible patches of one view to say what the whole "
                "of another, differently coloured view is about.",
        flow="photo > two views > *disjoint quarters visible > encoder > *mean visible token > *guess of the whole; "
             "encoder > decoder > hidden patches rebuilt; two views > *teacher sees both complete > "
             "*guess of the whole",
        look_at="Mask: does the guess from a quarter of view 1 fit your whole photo better than other photos? Among a "
                "thousand photos (the claim) an MAE's mean tokens find the right one more often. Attend: is the "
                "attention of a clicked patch wider than the MAE's, and does the spectrum rise later?",
        not_covered="The claim's third arm, one view (both are the photo in its own colours), is not on the page. "
                    "Fine-tuning, segmentation, an arm without the MAE's loss. Ours: 350 steps behind a trained MAE, "
                    "not 1,600 epochs; raw pixels as its targets, the paper normalises patches; 512 hidden units in "
                    "projector and predictor, not 4,096; batch norm over 128 photos of a view, not 4,096; the "
                    "teacher's average begins at 0.99, not 0.996. View 1 is the MAE's random crop, and view 2 is "
                    "moved within it by 1 pixel of 64 as theirs by 4 of 224. The teacher is not shipped: the page "
                    "reads both sides of the agreement with the shipped average of the student.",
        unverified="Whether the order of the four colour changes matters: theirs is random, ours fixed.",
        shown={"mask": "two sparse views of the photo, and what the first says of the second"}),
    params=Params, accepts="photo", checkpoints=("photo-lut-1", MORE),
    companions=(MORE,), run=run, examples=EXAMPLES,
    control=Control(MORE, title="MAE, as many steps"),
    bound="it needs a network that was trained on two views",
    fixed={"attend": "Two networks stand side by side; a head would have to be switched off in both."})

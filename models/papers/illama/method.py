"""iLLaMA: a causal, LLaMA-style image classifier, with the class token behind the patches and a soft mask in training.

Wang et al., Adapting LLaMA Decoder to Vision Transformer (arXiv 2404.06773); the network is in network.py.
With the class token in front, its causal row holds itself alone (attention collapse): all it learns of the photo is
what its softmax denominators say. Behind the patches its row holds them all. S = a ones + (1 - a) lower-triangular
multiplies the weights after the softmax, a from 1 to 0 while training begins and 0 at test time, and rows are not
renormalised.

The checkpoint's config says which convention it was trained with. Not covered: the public weights, which are pickles;
LLaMA-2 weights by weight selection; the modified causal mask that the paper only draws.
"""

from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import torch

from models.backbones.pictures import cut
from models.baselines.vit import method as vit
from models.checkpoints import store
from models.engine.method import Card, Job, Method
from models.loops.attend.classifiers import ClassifierArm, ClassifierPass, look, record
from models.trace import Fact, Step, states
from models.trace.params import Choice, Span
from models.trace.percent import percent

LAST, FIRST = "photo-illama-1", "photo-illama-first-2"
CURVES = {"class token last, soft mask": LAST, "class token first": FIRST, **vit.CURVES}


@dataclass(frozen=True)
class Params:
    softness: Annotated[float, Span(0, 1, 0.05, "Soft mask a at test", "0: causal, as trained. 1: everyone sees "
                                    "everyone, as when training began. Anything but 0 is a what-if.")] = 0.0
    order: Annotated[str, Choice(("raster", "snake"), "Reading order", "Snake turns every second row around; "
                                 "a what-if, it was trained in raster order.",
                                 titles=("rows, left to right", "snake"))] = "raster"
    convention: Annotated[str, Choice(("trained", "after", "before"), "Where the mask acts",
                                      "After the softmax: future weight is deleted. Before: rows are renormalised.",
                                      titles=("as trained", "after the softmax", "before the softmax"))] = "trained"
    layer: Annotated[int, Span(1, 12, 1, "Map of layer", "Whose whole attention map is drawn.", fold=True)] = 6


def order_of(name: str, grid: tuple[int, int]) -> np.ndarray:
    """The patch that stands at each place [P]."""
    rows = np.arange(grid[0] * grid[1]).reshape(grid)
    if name == "snake":
        rows[1::2] = rows[1::2, ::-1]
    return rows.ravel()


def arm_of(model, softness: float = 0.0, order: str = "raster", convention: str = "trained") -> ClassifierArm:
    """iLLaMA with a soft mask, a reading order and a convention; the defaults are its test time."""
    read = order_of(order, model.grid)
    told = None if convention == "trained" else convention

    def states(pixels):
        return model.states(pixels, softness, torch.from_numpy(read), told)

    return ClassifierArm(model, states, model.classify, model.labels, model.cls_place,
                         model.first_patch + np.argsort(read))


def run(job: Job):
    """One pass at test time, looked at; before it, the photo as two snapshots of the training saw it."""
    p, model = job.params, job.model
    arm = arm_of(model, p.softness, p.order, p.convention)
    shown, pixels = cut(job.subject.image, model)
    seen = look(arm, pixels)
    yield from record(arm, shown, seen, sentence=say(job, arm, seen), layer=p.layer, first=snapshots(job, pixels),
                      facts=work(seen), curves=CURVES)


def snapshots(job: Job, pixels) -> list[Step]:
    """The class token's attention, mean over layers and heads, at the shipped moments of the soft mask's schedule."""
    return [moment(job, pixels, *one) for one in sorted(store.snapshots(job.bundle), key=lambda one: one[0]["step"])]


def moment(job: Job, pixels, note: dict, folder) -> Step:
    """One snapshot, masked as softly as it was trained at that step."""
    model = store.like(job.bundle, folder).model
    arm = arm_of(model, note["a"], job.params.order)
    seen = look(arm, pixels)
    kind, share = seen.best()
    fields = {"cls": seen.painted(arm), "missing": seen.deleted.mean((0, 1))[arm.places]}
    return Step(f"training step {note['step']}: a = {note['a']:g}", states(*["visible"] * len(arm.places)), "snapshot",
                fields=fields, cost=sum(seen.costs[1:], seen.costs[0]),
                note=f"class token, mean over layers: says {arm.labels[kind]} ({percent(share)})")


def work(seen: ClassifierPass) -> dict[str, Fact]:
    """Multiply-adds of scores and mixing: of all pairs, and of the pairs that a triangular kernel would compute."""
    layers, heads, count, _ = seen.maps.shape
    pairs = count * (count + 1) // 2
    return {"dense": Fact("Query-key pairs, everyone with everyone", layers * heads * count**2, "pairs"),
            "triangular": Fact("Query-key pairs a triangular kernel would compute (counted, not timed)",
                               layers * heads * pairs, "pairs")}


def say(job: Job, arm: ClassifierArm, seen: ClassifierPass) -> str:
    kind, share = seen.best()
    falls, model = seen.cls_row(arm).sum(-1).mean(), job.model
    answer = f"of its {len(arm.labels)} classes it says {arm.labels[kind]} ({percent(share)})"
    what_if = "" if job.params == replace(job.params, softness=0.0, order="raster", convention="trained") else (
        f" This is a what-if: it was trained for a = 0 in raster order, mask {model.convention} the softmax.")
    if model.cls_first and falls < 1e-6:
        return (f"The class token stands in front, where the causal mask leaves it only itself: no attention falls on "
                f"the picture, and {answer}, knowing no more of it than its softmax denominators.{what_if}")
    return (f"The class token looks at the patches with {percent(falls)} of its attention and {answer}; the mask "
            f"deletes {percent(seen.deleted.mean())} of all weights.{what_if}")


METHOD = Method(
    card=Card(
        id="illama", title="iLLaMA", tabs=("attend",), arxiv="2404.06773", year=2024, seed="A",
        summary="A causal, LLaMA-style decoder classifies photos: the class token stands behind the patches, and the "
                "causal mask comes in softly when training begins.",
        flow="patches, class token last > *causal mask in every layer > RMSNorm and SwiGLU layers > class "
             "token > class",
        look_at="The class token's attention over the picture. Then choose the checkpoint with the class token first: "
                "nothing falls on the picture, and little was learned.",
        not_covered="Public weights (pickled files), LLaMA-2 initialisation, mixup and drop-path; the arms with a hard "
                    "mask and with renormalised rows were not trained.",
        unverified="That denominators leak what the mask deletes follows from the reference code; the paper does not "
                   "say it."),
    params=Params, accepts="photo", checkpoints=(LAST, FIRST), run=run, examples=vit.EXAMPLES, baseline="vit",
    baseline_params=lambda p: {"layer": p.layer})

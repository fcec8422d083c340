"""Patchification: a patch is a lossy summary of its pixels; smaller patches, more tokens, a lower loss.

Wang et al., Scaling Laws in Patchification: An Image Is Worth 50,176 Tokens And More (arXiv 2502.03738). What a patch
size is, costs and retains stands in tokens.py, the family in network.py and recipe.py, the pictures in record.py.
Written from the paper; its code has no licence and was not used.
"""

from dataclasses import dataclass
from typing import Annotated

from models.baselines.mae.method import EXAMPLES as PHOTOS
from models.engine.method import Card, Control, Job, Method
from models.papers.patchification import record, tokens
from models.trace.params import Span

FIRST = tokens.name(64, 8)  # 64 tokens: the only size that is right of the cup on which the page opens
SIZES = (FIRST, *(one for side, sizes in tokens.FAMILY.items() for patch in sizes[::-1]
                  if (one := tokens.name(side, patch)) != FIRST))


@dataclass(frozen=True)
class Params:
    layer: Annotated[int, Span(1, tokens.LAYERS, 1, "Layer compared", "Attend: in which layer the class token's look "
                               "is compared between patch sizes.")] = tokens.LAYERS


def run(job: Job):
    found = record.read(job)
    yield from record.cut_up(job, found)
    yield from record.attended(job, found)


METHOD = Method(
    card=Card(
        id="patchification", title="Patchification scaling", tabs=("prune", "attend"), arxiv="2502.03738", year=2025,
        seed="A",
        summary="Cutting a photo into patches throws detail away. Networks that differ in patch size alone read it as "
                "4 to 256 tokens; 1,024 would take too long to train here. Single pixels become tokens in pictures of "
                "16 pixels.",
        flow="photo > *patches of p x p pixels > tokens by one linear map > class token > layers of attention > class",
        look_at="The cup is a pizza in 4 and 16 tokens, an espresso in 64 and a pizza again in 256, although over many "
                "photos 256 are best. Prune: what the tokens retain, what reading costs, what every size answers. "
                "Attend: where each looks. For equal steps the loss falls at every halving but the last, from 2 "
                "pixels to 1, where it rises; for equal multiply-adds patches of 8 beat those of 4 (the claim).",
        not_covered="1,024 tokens and more: at these steps an hour of a core for each, so only the multiply-adds are "
                    "counted; pixels are reached in pictures of 16 pixels. Mamba, segmentation, drop-path, the three "
                    "stages of training; no curve is fitted to four points. Ours: 4 layers of width 96, 20 classes, "
                    "500 steps of 32 photos, one training of each size, the same settings for all; positions begin "
                    "as sines, and the projection so that tokens of all sizes begin equally large.",
        unverified="The authors' ViT settings: their released code has the Mamba networks alone.",
        shown={"prune": "Patchification scaling: no token leaves"}),
    params=Params, accepts="photo", checkpoints=SIZES, companions=SIZES, run=run, examples=PHOTOS,
    control=Control("photo-cut-64by16-1", title="64 px, patches of 16"),
    bound="it needs a family of networks that differ in patch size",
    fixed={"prune": "No token leaves: how many there are is decided by the cut. Choose other weights instead.",
           "attend": "All patch sizes stand side by side; a head would have to be switched off in each."})

"""Selfie: hide patches of a photo, sum up the visible ones in a vector, find out which patch belongs in which hole.

Trinh, Luong & Le (arXiv 1906.02940); no official code is known. network.py has the equations. All holes choose at once
from a strip of the photo's own hidden patches, which are shuffled.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch

from models.baselines.mae.method import EXAMPLES
from models.engine.method import Card, Control, Event, Job, Method, Turn
from models.loops.mask.photos import Photo, photo, picture
from models.loops.mask.strip import CutPhoto
from models.papers.selfie.network import HIDDEN, SIZES, hole_count, split
from models.papers.selfie.record import attended, matched
from models.trace.params import Choice, ParamError, Span
from models.trace.subject import from_example

GRIDS = {"4 x 4": SIZES[1], "8 x 8": SIZES[0]}
FOREIGN = EXAMPLES[2], EXAMPLES[0]  # where patches of another photo come from; the second where the first is shown
THIS = ("of this photo (the method)", "of another photo")


@dataclass(frozen=True)
class Params:
    grid: Annotated[str, Choice(tuple(GRIDS), "Patches", "Into how many patches the photo is cut.")] = "4 x 4"
    hidden: Annotated[float, Span(0.1, 0.5, 0.05, "Hidden share", "How much of the photo is cut out; trained at 25 %.",
                                  unit="of patches")] = HIDDEN
    order: Annotated[str, Choice(("shuffled", "original"), "Order of the strip", "In their original order the first "
                                 "piece belongs in the first hole: you would know, the network sees no order.",
                                 titles=("shuffled (the method)", "as they were cut out"))] = "shuffled"
    distractors: Annotated[str, Choice(("same", "other"), "Wrong pieces", "From another photo, colours alone give the "
                                       "answer away: no longer Selfie.", titles=THIS)] = "same"
    around: Annotated[str, Choice(("own", "other"), "Visible patches", "With another photo's patches around the holes "
                                  "you see how much of the answer comes from this photo.", titles=THIS)] = "own"


def run(job: Job) -> Iterator[Event]:
    puzzle = cut(job)
    yield from matched(job, puzzle, by_hand(job, puzzle))
    if job.choice is None:
        yield from attended(job, puzzle)


def cut(job: Job) -> CutPhoto:
    """The holes and the strip that this seed draws."""
    size = GRIDS[job.params.grid]
    patches, other = (patches_of(job, image, size) for image in (job.subject.image, another(job)))
    visible, holes = split(torch.rand(1, patches.shape[1], generator=job.generator()), job.params.hidden)
    pieces, count = patches[0, holes[0]], holes.shape[1]
    offered = np.ones((count, count), bool)
    if job.params.distractors == "other":  # a hole's own piece among foreign ones
        pieces = torch.cat([pieces, other[0, holes[0][: count - 1]]])
        offered = np.concatenate([np.eye(count), np.ones((count, count - 1))], 1) > 0
    if job.params.around == "other":
        patches[0, visible[0]] = other[0, visible[0]]
    shuffled = torch.randperm(len(pieces), generator=job.generator(1)).numpy()
    order = shuffled if job.params.order == "shuffled" else np.arange(len(pieces))
    return CutPhoto(viewed(job, patches, size), size, visible, holes, pieces[order], np.argsort(order)[:count],
                    offered[:, order])


def patches_of(job: Job, image: np.ndarray, size: int) -> torch.Tensor:
    """[1, L, N]."""
    return job.model.patchify(photo(image, job.model).pixels.float(), size)


def viewed(job: Job, patches: torch.Tensor, size: int) -> Photo:
    side = job.model.config.image_size // size
    return Photo(picture(job.model, patches), job.model.unpatchify(patches).to(job.model.start_embed), patches,
                 (side, side))


def another(job: Job) -> np.ndarray:
    first, second = (from_example(one, "photo").image for one in FOREIGN)
    return second if np.array_equal(first, job.subject.image) else first


def by_hand(job: Job, puzzle: CutPhoto) -> np.ndarray | None:
    """What the visitor put into the holes [M], hole by hole; -1 where nothing yet."""
    first, count, holes = puzzle.view.count, len(puzzle.strip), len(puzzle.ids)
    chosen = [token - first for group in job.choice or () for token in group]
    if len(chosen) > holes or not all(0 <= one < count for one in chosen):
        raise ParamError(f"Choose at most {holes} pieces of the strip, tokens {first} to {first + count - 1}: the "
                         "first for hole 1, the next for hole 2.")
    return None if job.choice is None else np.array(chosen + [-1] * (holes - len(chosen)))


METHOD = Method(
    bound="its scores belong to the patch network it was trained with",
    card=Card(
        id="selfie", title="Selfie", tabs=("mask", "attend"), arxiv="1906.02940", year=2019, seed="A",
        summary="Some patches of a photo are cut out and shuffled. A network sums up the others in one vector and says "
                "for every hole which of the cut-out patches belongs there; no pixel is ever painted.",
        flow="photo > patches > *each patch alone > *pooling of visible ones > *one vector + hole's place > dot "
             "product > probability of every piece; *each patch alone > dot product",
        look_at="Which piece of the strip belongs where? Compare the network's picks with those by border colours, and "
                "play yourself. The first photo was picked: on the others border colours or another photo around do "
                "better. With another photo around the holes it is right about as often: its one vector is the "
                "same for all holes, and Attend shows the same patches looked at for each.",
        not_covered="The paper's size: 36,800 crops were seen here, 30,000 steps of 256 were planned. The ResNet: each "
                    "patch is read by a residual MLP, and fine-tuning adds one layer of attention instead of a "
                    "convolutional stage. A vector for every place of the 4 x 4 grid: those of its row and column are "
                    "summed here, as on the finer grid. Fine-tuning with all labels, where the paper still gains, "
                    "though less: only 5 % of them were tried. The curve of right holes over hidden shares: try the "
                    "slider.",
        unverified="All but the abstract and a summary of patch sizes and pooling is from memory: the share of hidden "
                   "patches (25 %), three layers, the query u + position; a reimplementation that others wrote reads "
                   "the last two alike. Ours: 1 / sqrt(width) on the dot product, 3 heads, patches that do not look "
                   "at the start vector, one network for both grids."),
    params=Params, accepts="photo", checkpoints=("photo-selfie-1",), run=run,
    examples=(EXAMPLES[5], *EXAMPLES[:5], EXAMPLES[6]),
    control=Control(params={"around": "other"}, title="Another photo around"),
    turn=Turn("Which piece belongs where? Choose a piece of the strip for hole 1, then for hole 2, and so on.", "right",
              lambda job: (1,) * hole_count((job.model.config.image_size // GRIDS[job.params.grid]) ** 2,
                                            job.params.hidden)),
    fixed={"attend": "Its attention has no heads that can be switched off here."})

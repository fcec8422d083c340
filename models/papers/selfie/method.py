"""Selfie: hide patches of a photo, sum up the visible ones in a vector, find out which patch belongs in which hole.

Trinh, Luong & Le (arXiv 1906.02940); no official code is known. network.py has the equations. All holes choose at once
from a strip of the photo's own hidden patches, which lie in drawn order.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import torch

from models.baselines.mae.method import EXAMPLES
from models.engine.method import Card, Control, Event, Job, Method, Turn
from models.loops.mask.photos import Photo, photo, picture
from models.loops.mask.strip import CutPhoto
from models.papers.selfie.network import SIZES, split
from models.papers.selfie.record import attended, matched
from models.trace.params import Choice, ParamError, Span
from models.trace.subject import from_example

GRIDS = {"4 x 4": SIZES[1], "8 x 8": SIZES[0]}
FOREIGN = EXAMPLES[2], EXAMPLES[0]  # where patches of another photo come from; the second where the first is shown
THIS = ("of this photo (the method)", "of another photo")


@dataclass(frozen=True)
class Params:
    grid: Annotated[str, Choice(tuple(GRIDS), "Patches", "Into how many patches the photo is cut.")] = "4 x 4"
    hidden: Annotated[float, Span(0.1, 0.5, 0.05, "Hidden share", "How much of the photo is cut out. It was trained at "
                                  "25 %.", unit="of patches")] = 0.25
    order: Annotated[str, Choice(("drawn", "original"), "Order of the strip", "In their original order the first piece "
                                 "belongs in the first hole: you would know, the network sees no order.", titles=(
                                     "shuffled (the method)", "as they were cut out"))] = "drawn"
    distractors: Annotated[str, Choice(("same", "other"), "Wrong pieces", "From another photo, colours alone give the "
                                       "answer away: no longer Selfie.", titles=THIS)] = "same"
    around: Annotated[str, Choice(("own", "other"), "Visible patches", "With another photo's patches around the holes "
                                  "you see how much of the answer comes from this photo.", titles=THIS)] = "own"


def run(job: Job) -> Iterator[Event]:
    puzzle, swapped = (cut(job, (job.params.around == "own") == own) for own in (True, False))
    yield from matched(job, puzzle, swapped, by_hand(job, puzzle))
    if job.choice is None:
        yield from attended(job, puzzle)


def cut(job: Job, own: bool) -> CutPhoto:
    """The holes and the strip that this seed draws; own: whether this photo's patches stand around the holes."""
    size = GRIDS[job.params.grid]
    view, other = (viewed(job, image, size) for image in (job.subject.image, another(job)))
    visible, holes = split(torch.rand(1, view.count, generator=job.generator()), hole_count(job))
    pieces, count = view.target[0, holes[0]], holes.shape[1]
    offered = np.ones((count, count), bool)
    if job.params.distractors == "other":  # a hole's own piece among foreign ones
        pieces = torch.cat([pieces, other.target[0, holes[0][: count - 1]]])
        offered = np.concatenate([np.eye(count), np.ones((count, count - 1))], 1) > 0
    order = torch.randperm(len(pieces), generator=job.generator(1)).numpy()
    order = order if job.params.order == "drawn" else np.arange(len(pieces))
    seen = view if own else surrounded(job, view, other, visible)
    return CutPhoto(seen, size, visible, holes, pieces[order], np.argsort(order)[:count], offered[:, order])


def viewed(job: Job, image: np.ndarray, size: int) -> Photo:
    found = photo(image, job.model)
    side = found.shown.shape[0] // size
    return replace(found, target=job.model.patchify(found.pixels.float(), size), grid=(side, side))


def surrounded(job: Job, view: Photo, other: Photo, visible: torch.Tensor) -> Photo:
    """The photo with another one's patches where patches are visible."""
    target = view.target.clone()
    target[0, visible[0]] = other.target[0, visible[0]]
    return replace(view, shown=picture(job.model, target), target=target,
                   pixels=job.model.unpatchify(target).to(view.pixels.dtype))


def another(job: Job) -> np.ndarray:
    first, second = (from_example(one, "photo").image for one in FOREIGN)
    return second if np.array_equal(first, job.subject.image) else first


def hole_count(job: Job) -> int:
    return max(2, round(job.params.hidden * (job.model.config.image_size // GRIDS[job.params.grid]) ** 2))


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
        look_at="The strip holds the cut-out patches in drawn order; which belongs where? Compare the network's picks "
                "with those by border colours, and play yourself. In Attend, point at two holes: the same patches "
                "were looked at for both.",
        not_covered="The ResNet: each patch is read by a residual MLP, and fine-tuning adds one layer of attention "
                    "instead of a convolutional stage.",
        unverified="All but the abstract and a summary of patch sizes and pooling is from memory: the share of hidden "
                   "patches (25 %), the query u + position, three layers. Ours: 1 / sqrt(width) on the dot product, "
                   "3 heads, patches that do not look at the start vector, one network for both grids. Written so, the "
                   "pooled vector adds the same to every hole's row: what tells holes apart is their place alone."),
    params=Params, accepts="photo", checkpoints=("photo-selfie-1",), run=run, examples=EXAMPLES,
    control=Control(params={"around": "other"}, title="Another photo around"),
    turn=Turn("Which piece belongs where? Choose a piece of the strip for hole 1, then for hole 2, and so on.", "right",
              lambda job: (1,) * hole_count(job)),
    fixed={"attend": "Its attention has no heads that can be switched off here."})

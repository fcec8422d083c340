"""VAR: a picture is drawn coarse to fine, one whole token map after the other (next-scale prediction).

arXiv 2404.02905. The tokenizer (models/backbones/scales.py) writes a picture as maps of 1 x 1, 2 x 2, .. 8 x 8 tokens,
each coding what the coarser ones left; the transformer (network.py) predicts one whole map at a time. Every token of a
map is drawn once, from its own distribution, without knowing what its neighbours in the same map draw: what they must
agree on has to stand in a coarser map. Guidance grows from nothing at the first map to its full strength at the last;
both of its branches read the same tokens.

With a box, VAR repaints a given picture without training: outside the box every map keeps the given picture's tokens.
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from kernels import Sampler
from models.backbones.pictures import from_uint8
from models.baselines.maskgit import method as maskgit
from models.baselines.raster import method as raster
from models.engine.method import Card, Event, Method
from models.loops.attend.pyramids import attended
from models.loops.unmask.canvases import scene_condition
from models.loops.unmask.growth import PLAIN, GivenTokens, Grown
from models.loops.unmask.pyramids import SHOWN, MapReader, ScaleLog, grow_maps, recorded
from models.trace import Cost
from models.trace.interventions import NOTHING
from models.trace.params import Choice, Span
from models.worlds import scenes

TOKENIZER = "scene-mvq-1"
RASTER = 256  # passes of the raster model of the same scenes, one per code (scene-ar-1)
BOXES = {"none": (0, 0, 0, 0), "left": (0, 0, 1, 0.5), "right": (0, 0.5, 1, 1), "upper": (0, 0, 0.5, 1),
         "lower": (0.5, 0, 1, 1), "middle": (0.25, 0.25, 0.75, 0.75)}  # top, left, bottom, right, as shares


@dataclass(frozen=True)
class Params:
    guidance: Annotated[float, Span(0, 6, 0.25, "Guidance", "How hard the caption pulls at the last map; it grows from "
                                    "0 at the first.")] = 1.5
    top_k: Annotated[int, Span(0, 1536, 1, "Top-k", "Only the k likeliest entries are drawn from; 0 takes all.")] = 900
    top_p: Annotated[float, Span(0.05, 1, 0.01, "Top-p", "Only the likeliest entries that together reach p.")] = 0.95
    show: Annotated[str, Choice(SHOWN, "Maps show", "What is painted in every map.",
                                titles=("the picture so far", "what this map added", "its codes"))] = "sum"
    box: Annotated[str, Choice(tuple(BOXES), "Repaint", "Only the box of a given picture, which a program drew from "
                               "the caption.", fold=True, titles=(
                                   "everything: no picture is given", "the left half", "the right half",
                                   "the upper half", "the lower half", "the middle"))] = "none"


def grow(model, tokenizer, cond: Tensor, generator: torch.Generator, guidance: float = 1.5, sampler: Sampler = PLAIN,
         given: GivenTokens | None = None, put: Mapping[int, int] = NOTHING) -> Iterator[Grown]:
    """Draws pictures under captions int64 [B, C], scale by scale; guidance grows from 0 at the first."""
    return grow_maps(lambda words: Scales(model, tokenizer, words), cond, generator, guidance, sampler, given, put)


class Scales(MapReader):
    """One pass of the transformer per scale; keys and values of the coarser maps wait in a cache."""

    def __init__(self, model, tokenizer, words: Tensor):
        from transformers import DynamicCache

        super().__init__(model, tokenizer, words)
        self.cache, self.angles, self.mask = DynamicCache(), model.angles(), model.mask()

    def read(self, scale: int, ids: Tensor | None) -> Tensor:
        """Logits [B or 2B, p * p, V] of a scale; the first brings the caption along."""
        model, place, mask = self.model, self.groups[scale], None
        hidden = model.level(scale, self.features(scale, ids), self.words)
        first, last = model.cond_length + place.start, model.cond_length + place.stop
        if scale == 0:
            first, hidden = 0, torch.cat([model.caption(self.words), hidden], 1)
            mask = self.mask[:, :, :last, :last]
        turned = tuple(part[:, first:last] for part in self.angles)
        hidden = model.states(hidden, turned, self.cache, mask)
        return model.head(hidden[:, -(place.stop - place.start) :])

    def cost(self, scale: int) -> Cost:
        """Of one pass: rows of all layers and branches, multiply-adds, and the bytes of the cache after it."""
        model, batch = self.model, len(self.words)
        seen = model.cond_length + self.groups[scale].stop
        rows = model.scales[scale] ** 2 + (model.cond_length if scale == 0 else 0)
        cached = 2 * len(model.layers) * batch * seen * model.config.hidden_size * self.angles[0].element_size()
        return Cost(1, batch * rows * len(model.layers), batch * model.work(scale), cached)


def given(tokenizer, caption: str, box: str, seed: int) -> GivenTokens | None:
    """The caption's objects drawn by program at places of this seed, and the box; None without a box."""
    if box == "none":
        return None
    count, weight = len(scenes.read_caption(caption)), tokenizer.entries
    cells = np.random.default_rng(seed).choice(scenes.SIDE**2, count, replace=False)
    pixels = from_uint8(scenes.pictures([scenes.placed(caption, cells)])).to(weight)
    with torch.inference_mode():
        return GivenTokens(tokenizer.encode(pixels), inside(tokenizer.middles(), BOXES[box]).to(weight.device))


def inside(middles: Tensor, box: tuple[float, float, float, float]) -> Tensor:
    """Tokens bool [L] whose middles [L, 2] lie within a box (top, left, bottom, right)."""
    return ((middles > torch.tensor(box[:2])) & (middles < torch.tensor(box[2:]))).all(1)


def run(job) -> Iterator[Event]:
    p, tokenizer = job.params, job.companion(TOKENIZER).model
    cond = scene_condition(job.subject.text, job.device)
    kept = given(tokenizer, job.subject.text, p.box, job.seed)
    maps = grow(job.model, tokenizer, cond, job.generator(), p.guidance, Sampler(1.0, p.top_k, p.top_p), kept,
                job.interventions.written)
    log = ScaleLog(job.model, tokenizer, p.show)
    yield from recorded(job, maps, log, f"(raster: {RASTER}, one per code)")
    yield from attended(job.model, tokenizer, log, cond)


def beside(p: Params) -> dict:
    """The raster model at its own best setting, in as many branches."""
    return {"guidance": raster.GUIDANCE if p.guidance else 0.0}


METHOD = Method(
    card=Card(
        id="var", title="VAR: next-scale prediction", tabs=("unmask", "attend"), arxiv="2404.02905", year=2024,
        seed="B",
        summary="A picture is a pyramid of token maps, 1 x 1 to 8 x 8; each codes what the coarser ones left, and the "
                "model draws a whole map in one pass.",
        flow="caption > *1 x 1 map > *2 x 2 map > *larger maps, each in one pass > sum of maps > picture",
        look_at="The first token already says where things are; the last map alone holds 64 of 130 tokens. Tokens of "
                "one map do not see each other's draw.",
        not_covered="Classes and AdaLN (captions stand before the first map), a mix of codes in place of a draw, "
                    "convolutions and adversarial loss of the tokenizer, the scaling law (one size was trained), "
                    "public weights. Training is short and not the paper's: a map counts with its side instead of its "
                    "tokens, and five pictures in six stop at 4 x 4.",
        unverified="Reference code was read from a snapshot; the overview in our tokenizer is ours."),
    params=Params, accepts="caption", checkpoints=("scene-var-1",), companions=(TOKENIZER,), run=run,
    examples=maskgit.EXAMPLES, baseline="raster", baseline_params=beside)

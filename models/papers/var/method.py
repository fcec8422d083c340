"""VAR: a picture is drawn coarse to fine, one whole token map after the other (next-scale prediction).

arXiv 2404.02905. The tokenizer (var_tokens.py) writes a picture as maps of 1 x 1, 2 x 2, .. 8 x 8 tokens, each coding
what the coarser ones left; the transformer (network.py) predicts one whole map at a time. Every token of a map is
drawn once, from its own distribution, without knowing what its neighbours in the same map draw: what they must agree
on has to stand in a coarser map. Guidance grows from nothing at the first map to its full strength at the last; both of
its branches read the same tokens.

With a box, VAR repaints a given picture without training: outside the box every map keeps the given picture's tokens.

Not covered: classes, `more_smooth` (a mix of codes in place of a draw, for pictures only), the scaling law (one size
was trained), public weights.
"""
from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from kernels import Sampler, draw
from models.baselines.maskgit import method as maskgit
from models.engine.method import Card, Event, Method
from models.loops.unmask.evaluation import guided
from models.papers.var import record as var_records
from models.trace import Cost
from models.trace.params import Choice, Span
from models.trace.subject import SubjectError
from models.worlds import scenes

TOKENIZER = "scene-mvq-1"
BOXES = {"none": (0, 0, 0, 0), "left": (0, 0, 1, 0.5), "right": (0, 0.5, 1, 1), "upper": (0, 0, 0.5, 1),
         "lower": (0.5, 0, 1, 1), "middle": (0.25, 0.25, 0.75, 0.75)}  # top, left, bottom, right, as shares
PLAIN = Sampler()


@dataclass(frozen=True)
class Params:
    guidance: Annotated[float, Span(0, 6, 0.25, "Guidance", "How hard the caption pulls at the last map; it grows from "
                                    "0 at the first.")] = 1.5
    top_k: Annotated[int, Span(0, 1536, 1, "Top-k", "Only the k likeliest entries are drawn from; 0 takes all.")] = 900
    top_p: Annotated[float, Span(0.05, 1, 0.01, "Top-p", "Only the likeliest entries that together reach p.")] = 0.95
    show: Annotated[str, Choice(var_records.SHOWN, "Maps show", "What is painted in every map.",
                                titles=("the picture so far", "what this map added", "its codes"))] = "sum"
    box: Annotated[str, Choice(tuple(BOXES), "Repaint", "Only the box of a given picture, which a program drew from "
                               "the caption.", fold=True, titles=(
                                   "everything: no picture is given", "the left half", "the right half",
                                   "the upper half", "the lower half", "the middle"))] = "none"


@dataclass(frozen=True, eq=False)
class Given:
    """A picture's tokens int64 [B, L], and which tokens are drawn anew, bool [L]."""

    ids: Tensor
    inside: Tensor


@dataclass(frozen=True, eq=False)
class Map:
    """What one scale did: ids [B, p * p] drawn from logits [B, p * p, V], guided by `pull`; the sum of all maps so far
    [B, C, H, W]; drawn bool [p * p]: not given."""

    scale: int
    ids: Tensor
    logits: Tensor
    total: Tensor
    drawn: Tensor
    pull: float
    cost: Cost


@torch.inference_mode()
def grow(model, tokenizer, cond: Tensor, generator: torch.Generator, guidance: float = 1.5, sampler: Sampler = PLAIN,
         given: Given | None = None) -> Iterator[Map]:
    """Draws pictures under captions int64 [B, C], scale by scale, with a cache of keys and values."""
    words = torch.cat([cond, torch.zeros_like(cond)]) if guidance else cond
    reader, total = Reader(model, words), tokenizer.nothing(len(cond))
    for scale in range(len(model.scales)):
        began, place = time.perf_counter(), model.place(scale)
        features = tokenizer.following(total, scale).repeat(len(words) // len(cond), 1, 1) if scale else None
        pull = guidance * scale / max(1, len(model.scales) - 1)
        logits = guided(reader.read(scale, features).float(), len(cond), pull)
        ids = draw(logits, sampler, generator)
        drawn = torch.ones_like(ids[0], dtype=torch.bool) if given is None else given.inside[place]
        if given is not None:
            ids = torch.where(drawn, ids, given.ids[:, place])
        total = total + tokenizer.increment(ids, scale)
        yield Map(scale, ids, logits, total, drawn, pull, reader.cost(scale, (time.perf_counter() - began) * 1e3))


class Reader:
    """One pass of the transformer per scale; keys and values of the coarser ones wait in a cache."""

    def __init__(self, model, words: Tensor):
        from transformers import DynamicCache

        self.model, self.words, self.cache = model, words, DynamicCache()
        self.angles, self.mask = model.angles(), model.mask()

    def read(self, scale: int, features: Tensor | None) -> Tensor:
        """Logits [B, p * p, V] of a scale from its features [B, p * p, F]; the first brings the caption along."""
        model, place = self.model, self.model.place(scale)
        first, last = model.cond_length + place.start, model.cond_length + place.stop
        hidden, mask = model.level(scale, features, self.words), None
        if scale == 0:
            first, hidden = 0, torch.cat([model.caption(self.words), hidden], 1)
            mask = self.mask[:, :, :last, :last]
        turned = tuple(part[:, first:last] for part in self.angles)
        hidden = model.states(hidden, turned, self.cache, mask)
        return model.head(hidden[:, -(place.stop - place.start) :])

    def cost(self, scale: int, ms: float) -> Cost:
        """Of one pass: rows of all layers and branches, multiply-adds, and the bytes of the cache after it."""
        model, batch = self.model, len(self.words)
        seen = model.cond_length + model.place(scale).stop
        rows = model.scales[scale] ** 2 + (model.cond_length if scale == 0 else 0)
        cached = 2 * len(model.layers) * batch * seen * model.config.hidden_size * self.angles[0].element_size()
        return Cost(1, batch * rows * len(model.layers), batch * model.work(scale), cached, ms)


def paint(model, tokenizer, cond: Tensor, generator: torch.Generator, guidance: float = 1.5,
          sampler: Sampler = PLAIN) -> Tensor:
    """Finished pictures [B, 3, h, w] in 0..1."""
    *_, last = grow(model, tokenizer, cond, generator, guidance, sampler)
    with torch.inference_mode():
        return tokenizer.paint(last.total).clamp(0, 1)


def given(tokenizer, caption: str, box: str, seed: int) -> Given | None:
    """The caption's objects drawn by program at places of this seed, and the box; None without a box."""
    if box == "none":
        return None
    rng, things = np.random.default_rng(seed), scenes.read_caption(caption)
    cells = rng.choice(scenes.SIDE**2, len(things), replace=False)
    drawn = scenes.draw([scenes.Thing(t.colour, t.shape, int(cell)) for t, cell in zip(things, cells)])
    weight = tokenizer.entries
    pixels = torch.from_numpy(drawn).to(weight).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        return Given(tokenizer.encode(pixels), inside(tokenizer.scales, BOXES[box]).to(weight.device))


def inside(scales: tuple[int, ...], box: tuple[float, float, float, float]) -> Tensor:
    """Tokens bool [L] whose middles lie within a box (top, left, bottom, right, as shares of the side)."""
    def one(side: int) -> Tensor:
        at = (torch.arange(side) + 0.5) / side
        rows, columns = (at > box[0]) & (at < box[2]), (at > box[1]) & (at < box[3])
        return (rows[:, None] & columns).flatten()
    return torch.cat([one(side) for side in scales])


def condition(caption: str, device) -> Tensor:
    """Condition words int64 [1, C]; SubjectError that lists the words of the world."""
    try:
        return torch.from_numpy(scenes.condition(caption))[None].to(device)
    except ValueError as error:
        raise SubjectError(f"This model knows only its own small world: {error}.") from error


def run(job) -> Iterator[Event]:
    p, tokenizer = job.params, job.companion(TOKENIZER).model
    cond = condition(job.subject.text, job.device)
    kept = given(tokenizer, job.subject.text, p.box, job.seed)
    maps = grow(job.model, tokenizer, cond, job.generator(), p.guidance, Sampler(1.0, p.top_k, p.top_p), kept)
    return var_records.recorded(job, maps, tokenizer, cond)


METHOD = Method(
    card=Card(
        id="var", title="VAR: next-scale prediction", tabs=("unmask", "attend"), arxiv="2404.02905", year=2024,
        seed="B",
        summary="A picture is a pyramid of token maps, 1 x 1 to 8 x 8; each codes what the coarser ones left, and the "
                "model draws a whole map in one pass.",
        look_at="The first token already says where things are; the last map alone holds 64 of 130 tokens. Tokens of "
                "one map do not see each other's draw.",
        not_covered="Classes and AdaLN (captions stand before the first map), convolutions and adversarial loss of the "
                    "tokenizer, the scaling law (one size was trained), public weights.",
        unverified="Reference code was read from a snapshot; the overview in our tokenizer is ours."),
    params=Params, accepts="caption", checkpoints=("scene-var-1",), companions=(TOKENIZER,), run=run,
    examples=maskgit.EXAMPLES, baseline="speculative", baseline_params=lambda p: {"light": False})

"""Raster decoding: a picture code by code, row by row, each from the model's own distribution given all before it.

What VAR and other orders are compared with: one pass of the network per code, behind a cache of keys and values
(models/loops/unmask/growth.py), ancestral sampling with classifier-free guidance. A step of the record is a row of the
picture, because 256 pictures of one more code each would show less.

Not covered: beam search, temperatures (top-k and top-p as in VAR).
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from kernels import Sampler
from models.baselines.maskgit import method as maskgit
from models.engine.method import Card, Close, Event, Method
from models.loops.sample.drafting_records import CODES, condition
from models.loops.unmask.canvases import code_names, picture
from models.loops.unmask.growth import PLAIN, GrowingPicture, Grown, Raster, grow
from models.trace import Canvas, Fact
from models.trace.interventions import NOTHING
from models.trace.params import Flag, Span

GUIDANCE = 0.5


@dataclass(frozen=True)
class Params:
    guidance: Annotated[float, Span(0, 3, 0.25, "Guidance", "How hard the caption pulls; doubles the work.")] = GUIDANCE
    top_k: Annotated[int, Span(0, 512, 1, "Top-k", "Only the k likeliest codes are drawn from; 0 takes all.")] = 0
    top_p: Annotated[float, Span(0.05, 1, 0.01, "Top-p", "Only the likeliest codes that together reach p.")] = 1.0
    light: Annotated[bool, Flag("Light on the ground", "On: hundreds of codes paint the ground alike.",
                                fold=True)] = False


def codes(model, words: Tensor, generator: torch.Generator, guidance: float = GUIDANCE,
          sampler: Sampler = PLAIN, put: Mapping[int, int] = NOTHING) -> Iterator[Grown]:
    """Codes one by one for condition words int64 [B, C]; put: place -> the code that a visitor wants there."""
    both = model.with_null(words) if guidance else words
    return grow(Raster(model, both), len(words), generator, sampler, lambda index: guidance, put=put)


def run(job) -> Iterator[Event]:
    p, tokenizer, model = job.params, job.companion(CODES).model, job.model
    rows, columns = model.grid
    page = GrowingPicture(Canvas("grid", ("",) * (rows * columns), shape=model.grid),
                          code_names(tokenizer).__getitem__)
    yield page.open(rows)
    told = codes(model, condition(job.subject.text, p.light, job.device), job.generator(), p.guidance,
                 Sampler(1.0, p.top_k, p.top_p), job.interventions.written)
    for row in range(rows):
        spent = page.grown([next(told) for _ in range(columns)])
        shown = picture(tokenizer, torch.from_numpy(page.ids.astype(np.int64)).to(job.device)[None], -1, model.grid)
        yield page.step(f"row {row + 1} of {rows}: {columns} passes, a code each", picture=shown, cost=spent)
    facts = page.facts(shown, job.subject.text, "one per code")
    yield Close("unmask", sentence(facts), (page.chart("Mean entropy of a row's codes", "row"),), facts)


def sentence(facts: dict[str, Fact]) -> str:
    return (f"{facts['passes'].value:.0f} passes drew as many codes, each knowing all before it and none after it: "
            f"score {facts['score'].value:.2f}. A picture is never seen as a whole before its last row.")


METHOD = Method(
    card=Card(
        id="raster", title="Raster: code by code", tabs=("unmask",), arxiv="2012.09841", year=2020,
        summary="A picture is written like a text, code by code and row by row; every code takes a pass of its own and "
                "knows all codes before it.",
        flow="codes so far > network > next code drawn > picture, row by row; next code drawn ~> codes so "
             "far",
        look_at="After a tenth of its steps it has painted a strip and nothing below; watch what the first rows commit "
                "to.",
        not_covered="ImageNet weights, beam search, temperatures."),
    params=Params, accepts="caption", checkpoints=("scene-ar-1",), companions=(CODES,), run=run,
    examples=(maskgit.EXAMPLES[-1], *maskgit.EXAMPLES[:-1]))  # the first shows what is usual

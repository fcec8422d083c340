"""Exact speculative sampling of a picture's codes (arXiv 2211.17192): faster, and the very same distribution.

The baseline of relaxed rules. The drafter is EAGLE's one layer (models/backbones/drafter.py). `drafts` says what it
proposes: a draw from its distribution p, or its favourite, for which p counts as 1; EAGLE's trees, and LANTERN's
experiments on them, do the latter.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from models.baselines.maskgit import method as maskgit
from models.engine.method import Card, Event, Method
from models.loops.sample.acceptance_rules import Exact
from models.loops.sample.drafting_records import CODES, DRAFTER, recorded
from models.loops.sample.judged_drafts import turn
from models.trace.params import Choice, Flag, Span

DRAFTS = Choice(("drawn", "favourite"), "Drafts", "A draw is accepted with q(x) / p(x), a favourite with q(x).",
                titles=("drawn from its p", "the drafter's favourite (as EAGLE)"))


@dataclass(frozen=True)
class Params:
    light: Annotated[bool, Flag("Light on the ground", "On: hundreds of codes paint the ground alike. Off: every patch "
                                "has one code.")] = True
    drafts: Annotated[str, DRAFTS] = "drawn"
    ahead: Annotated[int, Span(1, 8, 1, "Drafts per round", "Gamma: checked by one pass of the model.")] = 4
    temperature: Annotated[float, Span(0, 2, 0.05, "Temperature", "0 takes the likeliest code.", fold=True)] = 1.0
    top_k: Annotated[int, Span(0, 512, 1, "Top-k", "0 keeps all codes.", fold=True)] = 0
    guidance: Annotated[float, Span(0, 3, 0.25, "Guidance", "How hard the caption pulls; doubles the work.",
                                    fold=True)] = 0.0


def run(job) -> Iterator[Event]:
    return recorded(job, Exact(job.params.temperature == 0))


METHOD = Method(
    bound="its drafter was trained for its own checkpoint",
    card=Card(
        id="speculative", title="Exact speculative sampling", tabs=("sample", "unmask"), arxiv="2211.17192", year=2022,
        summary="A small drafter proposes a few codes, the model reads them all in one pass and keeps those that pass "
                "an exact test: fewer passes, the same distribution.",
        flow="codes so far > small drafter > drafted codes > target checks all at once > accepted, or "
             "redrawn; accepted, or redrawn ~> codes so far",
        look_at="Where the model is sure, whole runs of drafts pass; on lit ground nearly every draft is refused.",
        not_covered="Trees of drafts."),
    params=Params, accepts="caption", checkpoints=("scene-ar-1",), companions=(DRAFTER, CODES), run=run,
    examples=maskgit.EXAMPLES,
    turn=turn("A small drafter proposes the next patches. How many of them will the model keep?"))

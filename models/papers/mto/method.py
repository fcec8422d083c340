"""Emerging Property of Masked Token for Effective Pre-training (arXiv 2404.08330).

A scaffold. Write here the paper's difference and nothing else: the equation or repository it follows, what is our own,
what is not covered. The loop of the tab does the rest: models/loops/mask/.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from models.engine import Card, Event, Job, Method
from models.engine.scaffold import blank
from models.trace.params import Span
from models.trace.subject import Example


@dataclass(frozen=True)
class Params:
    strength: Annotated[float, Span(0.0, 1.0, 0.1, "Strength", "A placeholder: nothing reads it yet.")] = 0.5


def run(job: Job) -> Iterator[Event]:
    """Instead of `blank`: the tab's loop, given this paper's rule."""
    yield from blank(job)


METHOD = Method(
    card=Card(
        id="mto", title="MTO",
        tabs=("mask", "attend"), arxiv="2404.08330", year=2024, seed="A",
        summary="Keeps mask tokens far away from visible ones and out of their way in the first layers, "
                "which speeds up training.",
        look_at="Nothing yet: this is a scaffold.",
        not_covered="Everything: this is a scaffold."),
    params=Params, accepts="photo", checkpoints=("photo-mto-1",),
    run=run, baseline="mae",
    examples=(Example("coffee", "A cup of coffee", "coffee.jpg"),))

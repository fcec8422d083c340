"""DMT-JEPA: Discriminative Masked Targets for Joint-Embedding Predictive Architecture (arXiv 2405.17995).

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
        id="dmt-jepa", title="DMT-JEPA",
        tabs=("mask", "attend"), arxiv="2405.17995", year=2024, seed="A",
        summary="Replaces a hidden patch's target by a summary of its most similar neighbours, so that "
                "objects separate more clearly.",
        look_at="Nothing yet: this is a scaffold.",
        not_covered="Everything: this is a scaffold."),
    params=Params, accepts="photo", checkpoints=("photo-dmt-jepa-1",),
    run=run, baseline="mae",
    examples=(Example("coffee", "A cup of coffee", "coffee.jpg"),))

"""Scaling Laws in Patchification: An Image Is Worth 50,176 Tokens And More (arXiv 2502.03738).

A scaffold. Write here the paper's difference and nothing else: the equation or repository it follows, what is our own,
what is not covered. The loop of the tab does the rest: models/loops/prune/.
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
        id="patchification", title="Patchification scaling",
        tabs=("prune", "attend"), arxiv="2502.03738", year=2025, seed="A",
        summary="Cuts a picture into ever smaller patches, down to single pixels, and watches the loss "
                "fall.",
        look_at="Nothing yet: this is a scaffold.",
        not_covered="Everything: this is a scaffold."),
    params=Params, accepts="photo", checkpoints=("photo-patchification-1",),
    run=run, baseline="vit",
    examples=(Example("coffee", "A cup of coffee", "coffee.jpg"),))

"""Can GNN be Good Adapter for LLMs? (arXiv 2402.12984).

A scaffold. Write here the paper's difference and nothing else: the equation or repository it follows, what is our own,
what is not covered. The loop of the tab does the rest: models/loops/sample/.
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
        id="graphadapter", title="GraphAdapter",
        tabs=("sample", "attend"), arxiv="2402.12984", year=2024, seed="B",
        summary="A small graph network reads neighbouring texts and mixes its own next-word guess with a "
                "frozen language model's.",
        look_at="Nothing yet: this is a scaffold.",
        not_covered="Everything: this is a scaffold."),
    params=Params, accepts="text", checkpoints=("text-graphadapter-1",),
    run=run, baseline="sampling",
    examples=(Example("garden", "The key to the garden", "sample-garden.txt"),))

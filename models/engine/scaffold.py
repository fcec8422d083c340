"""What a scaffolded paper shows until its rule is written: a record of each tab that says that nothing is there yet.

tools/new_paper.py writes methods that use it, so that they pass the contract from the first minute. It is never
offered: a test refuses weights for a method that still uses it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import torch

from models.engine.events import Close, Emit, Event, Open
from models.engine.method import Job
from models.engine.recording import distribution
from models.trace import Canvas, Cost, Fact, Heads, Step, states

WORDS = ("Nothing ", "is ", "computed ", "yet")
BEFORE = {"mask": "masked", "unmask": "unknown", "prune": "visible", "attend": "visible", "sample": "unknown"}
AFTER = {"mask": "masked", "unmask": "new", "prune": "dropped", "attend": "visible", "sample": "new"}


def blank(job: Job) -> Iterator[Event]:
    """Two steps per tab of the card, on a canvas of four words."""
    for tab in job.method.card.tabs:
        yield Open(tab, Canvas("text", WORDS), {}, 2)
        yield Emit(tab, Step("before", states(*[BEFORE[tab]] * len(WORDS))))
        began = time.perf_counter()
        guess = distribution(torch.zeros(1, len(WORDS)), at=0)  # a guess of one who knows nothing
        cost = Cost(calls=1, rows=1, ms=(time.perf_counter() - began) * 1e3)
        yield Emit(tab, Step("after", states(AFTER[tab], *[BEFORE[tab]] * (len(WORDS) - 1)),
                             distributions={"nobody's": guess}, cost=cost), dict(enumerate(WORDS)))
        yield Close(tab, "A scaffold: this paper's rule is not written yet, and nothing here is a result.",
                    facts={"scaffold": Fact("Written so far", 0.0, "of this method")}, heads=unread(tab))


def unread(tab: str) -> Heads | None:
    """Attend wants statistics of heads; these say that no head was measured."""
    nothing = np.full((1, 1, len(WORDS)), np.nan, np.float32)
    return Heads(nothing, nothing.copy(), nothing.copy(), nothing.copy(), (0,)) if tab == "attend" else None

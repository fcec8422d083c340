"""The Unmask tab's viewer: the canvas filling up step by step, with the candidates behind every cell."""

from __future__ import annotations

import numpy as np

from models.trace import UnmaskTrace
from visualizers.drawing.canvas import Wording, assemble, counts, steps_text, where
from visualizers.drawing.marks import Drawing

WORDS = {"unknown": "still masked", "masked": "still masked", "new": "revealed now", "known": "known",
         "discarded": "taken back", "context": "given by the visitor",
         "merged": "accepted with its neighbours' probability"}
BOARD = {**WORDS, "known": "empty, or filled in before", "new": "filled in now", "refused": "filled in wrongly"}
INSERTED = {**WORDS, "new": "inserted now", "known": "inserted before"}


def grows(trace: UnmaskTrace) -> bool:
    """Whether tokens are inserted: the canvas has them in their final order, and each is gone until it is there."""
    return "inserted" in trace.canvas.roles


def words_of(trace: UnmaskTrace) -> dict[str, str]:
    return INSERTED if grows(trace) else BOARD if trace.canvas.kind == "board" else WORDS


def describe(trace: UnmaskTrace) -> str:
    """The picture in words: how many tokens each step reveals or inserts, first to last."""
    words, done = words_of(trace), "inserted" if grows(trace) else "revealed"
    revealed = [str(len(step.where("new"))) for step in trace.steps]
    shown = ", ".join(revealed[:24]) + (", ..." if len(revealed) > 24 else "")
    return (f"{where(trace.canvas).capitalize()} filled in {steps_text(trace)}. Tokens {done} per step: {shown}. "
            f"At the end: {counts(trace.steps[-1], words)}.")


def half_way(trace: UnmaskTrace) -> int:
    """The step to open on: about half of the canvas is known, and as many states as possible are to be seen. A board is
    never full: it opens on the end of the walk."""
    if trace.canvas.kind == "board":
        return len(trace.steps) - 1
    known = [len(step.where("known", "visible", "reused", "recomputed", "accepted")) for step in trace.steps]
    middle = [i for i, number in enumerate(known) if 0.35 <= number / trace.canvas.size <= 0.8]
    return max(middle, key=lambda i: len(np.unique(trace.steps[i].state)), default=len(known) - 1)


def draw(trace: UnmaskTrace, **view) -> Drawing:
    words = Wording(describe, words_of(trace), start=half_way)
    if grows(trace):
        words = Wording(describe, INSERTED, unseen="gone", start=half_way, by=lambda trace: "order" if "order" in
                        trace.fields else "state")
    return assemble(trace, words, **view)

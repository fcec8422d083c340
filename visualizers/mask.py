"""The Mask tab's viewer: what is hidden, what decided it, and how hard it was."""

from __future__ import annotations

from models.trace import MaskTrace
from visualizers.canvas import Wording, assemble, counts, steps_text, where
from visualizers.marks import Drawing

WORDS = {"unknown": "hidden", "masked": "hidden", "new": "reconstructed", "masked-random": "hidden at random",
         "masked-hard": "hidden because predicted hard", "accepted": "hard, as predicted",
         "refused": "not as predicted", "known": "visible"}


def describe(trace: MaskTrace) -> str:
    """The picture in words: how much is hidden at the step that hides most."""
    hidden = ("unknown", "masked", "masked-hard", "masked-random")
    most = max(trace.steps, key=lambda step: len(step.where(*hidden)))
    return f"{where(trace.canvas).capitalize()} in {steps_text(trace)}. At '{most.label}': {counts(most, WORDS)}."


def draw(trace: MaskTrace, **view) -> Drawing:
    return assemble(trace, Wording(describe, WORDS, tint=0.2), **view)

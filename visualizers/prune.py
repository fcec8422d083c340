"""The Prune tab's viewer: which tokens stay, leave, merge or come back, and what each step cost."""

from __future__ import annotations

from models.trace import PruneTrace
from visualizers.canvas import Wording, assemble, counts, steps_text, tidy, where
from visualizers.marks import Drawing

WORDS = {"known": "kept", "visible": "kept", "new": "the newest token", "recomputed": "computed in this step",
         "revived": "brought back", "unknown": "not there yet"}


def describe(trace: PruneTrace) -> str:
    """The picture in words: the fewest tokens left, and the rows computed in all."""
    last = trace.steps[-1]
    return (f"{where(trace.canvas).capitalize()} in {steps_text(trace)}. At '{last.label}': {counts(last, WORDS)}. "
            f"In all {tidy(trace.cost.rows)} token rows were computed.")


def first_group(trace: PruneTrace) -> int:
    """The step to open on: the end of the first group of nested steps, or the last step."""
    heads = [i for i, step in enumerate(trace.steps) if step.parent is None]
    return heads[1] - 1 if 1 < len(heads) < len(trace.steps) else len(trace.steps) - 1


def draw(trace: PruneTrace, **view) -> Drawing:
    return assemble(trace, Wording(describe, WORDS, start=first_group), **view)

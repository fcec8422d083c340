"""The Prune tab's viewer: which tokens stay, leave, merge or come back, and what each step cost."""

from __future__ import annotations

from models.trace import CODE, PruneTrace
from visualizers.drawing.canvas import Wording, assemble, counts, steps_text, where
from visualizers.drawing.marks import Drawing
from visualizers.drawing.units import tidy

WORDS = {"known": "kept", "visible": "kept", "new": "the newest token", "recomputed": "computed in this step",
         "revived": "brought back", "unknown": "not there yet"}
# On a picture nothing is written; patches are judged before they are dropped, and some stand for their neighbours.
PICTURE = WORDS | {"visible": "kept", "new": "global: looked at by most", "recycled": "recycled: holds dropped ones"}
# A text that networks of different weights go on with: no token leaves, every network writes its own.
WRITTEN = WORDS | {"known": "written by this network", "context": "given text"}
JUDGED = {CODE["visible"], CODE["new"]}  # the states of a step in which nobody has left yet


def words_of(trace: PruneTrace) -> dict[str, str]:
    return WRITTEN if writes(trace) else WORDS if trace.canvas.kind == "text" else PICTURE


def writes(trace: PruneTrace) -> bool:
    """Whether it is weights that leave, and the tokens show what the rest of them writes."""
    return "sampled" in trace.canvas.roles


def describe(trace: PruneTrace) -> str:
    """The picture in words: the fewest tokens left, and the rows computed in all."""
    last = trace.steps[-1]
    return (f"{where(trace.canvas).capitalize()} in {steps_text(trace)}. At '{last.label}': "
            f"{counts(last, words_of(trace))}. In all {tidy(trace.cost.rows)} token rows were computed.")


def about(trace: PruneTrace) -> list[str]:
    """The number each step is about: what patches are judged by, as long as all are there; then who is left."""
    return [next(iter(step.fields), "") if set(step.state.tolist()) <= JUDGED else "" for step in trace.steps]


def start(trace: PruneTrace) -> int:
    """The step shown at first: the last in which somebody is missing, else the last."""
    return max((at for at, step in enumerate(trace.steps) if len(step.where("dropped"))), default=len(trace.steps) - 1)


def draw(trace: PruneTrace, **view) -> Drawing:
    if trace.canvas.kind == "text":
        by = next(iter(trace.fields)) if writes(trace) else "state"
        words = Wording(describe, words_of(trace), unseen="gone", by=lambda trace: by, start=start)
        return assemble(trace, words, **view)
    words = Wording(describe, words_of(trace), by=lambda trace: "auto" if any(about(trace)) else "state",
                    about=about)
    return assemble(trace, words, **view)

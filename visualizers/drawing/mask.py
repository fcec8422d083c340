"""The Mask tab's viewer: what is hidden, what decided it, and how hard it was."""

from __future__ import annotations

from models.trace import MaskTrace
from visualizers.drawing.canvas import Wording, assemble, counts, steps_text, where
from visualizers.drawing.marks import Drawing

# What is predicted may be pixels or features.
WORDS = {"unknown": "hidden", "masked": "hidden", "new": "predicted", "accepted": "filled rightly",
         "refused": "filled wrongly", "known": "visible", "recomputed": "hidden, but leaked into",
         "merged": "attacked"}
# On a text nothing is painted over: words are replaced by others, and a judge says which.
TEXT = WORDS | {"new": "replaced", "reused": "selected, still the original", "accepted": "replaced, and found",
                "refused": "original, called replaced", "visible": "original"}
BOARD = WORDS | {"visible": "empty", "context": "given", "accepted": "hidden, said rightly",
                 "refused": "hidden, said wrongly"}
HIDDEN = ("unknown", "masked", "masked-hard", "masked-random", "merged")


def words_of(trace: MaskTrace) -> dict[str, str]:
    return {"text": TEXT, "board": BOARD}.get(trace.canvas.kind, WORDS)


def describe(trace: MaskTrace) -> str:
    """The picture in words, at the step on which it opens."""
    most = trace.steps[opening(trace)]
    found = counts(most, words_of(trace))
    return f"{where(trace.canvas).capitalize()} in {steps_text(trace)}. At '{most.label}': {found}."


def about(trace: MaskTrace) -> list[str]:
    """The number each step is about: where the states only repeat an earlier step, what that step did not have."""
    found, seen, before = [], set(), {}
    for step in trace.steps:
        key = (step.state.tobytes(), None if step.picture is None else step.picture.tobytes())
        repeats = key in before or len(step.where("visible", "known", "context")) == trace.canvas.size
        known = before.get(key, set())
        fresh = [name for name in trace.fields if name in step.fields and name not in known]
        unseen = [name for name in fresh if name not in seen]
        found.append((unseen or fresh or [""])[0] if repeats else "")
        before.setdefault(key, set(step.fields))
        seen |= set(step.fields)
    return found


def opening(trace: MaskTrace) -> int:
    """The step to open on: the first that judges, or that hides by a rule; else the last that predicts, since holes
    look the same whoever fills them; else the first that hides most."""
    judged, ruled, new, hidden = ([len(step.where(*states)) for step in trace.steps]
                                  for states in (("accepted", "refused"), ("masked-hard",), ("new",), HIDDEN))
    if not any(judged) and not any(ruled) and any(new):
        return max(i for i, number in enumerate(new) if number)
    number = next(each for each in (judged, hidden) if any(each) or each is hidden)
    return number.index(max(number))


def draw(trace: MaskTrace, **view) -> Drawing:
    """Steps that are about nothing of their own are coloured by state: "what the step is about" is no choice there."""
    by = "auto" if any(about(trace)) else "state"
    words = Wording(describe, words_of(trace), by=lambda trace: by, start=opening, about=about)
    return assemble(trace, words, **view)

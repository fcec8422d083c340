"""What a player may offer to change in a picture, and what was changed in it, in words."""
from __future__ import annotations

from collections.abc import Sequence

from models.engine.method import find
from models.trace import Canvas, Trace
from models.trace.interventions import KINDS, TABS, Overwrite, from_words


def spec(trace: Trace, roles: Sequence[str]) -> dict | None:
    """What a visitor may change in this picture, what was changed, and which picture is the untouched run; None where
    a tab knows no changes."""
    method = find(trace.method)
    kinds = [word for word, (name, _) in KINDS.items() if trace.tab in TABS[name]]
    if not kinds:
        return None
    why = method.fixed.get(trace.tab, "")
    return {"kinds": [] if why else kinds, "why": why and f"What if? Not here: {why[0].lower()}{why[1:]}",
            "made": told(trace), "against": roles.index("untouched") if "untouched" in roles else -1}


def told(trace: Trace) -> list[str]:
    """The changes of a run, one sentence each."""
    changes = from_words(trace.provenance.interventions)
    found = [overwritten(trace, one) for one in changes.overwrites]
    found += [f"Changed: head {one.head + 1} of layer {one.layer + 1} is off." for one in changes.heads_off]
    return found + [f"Changed: {named(trace.canvas, one.at)} is kept by force." for one in changes.kept]


def overwritten(trace: Trace, one: Overwrite) -> str:
    """What reads how, and since when: what is written once is changed where it was written, whatever was asked."""
    reads = f"{named(trace.canvas, one.at)} reads “{trace.vocabulary.get(one.id, one.id)}”"
    if trace.tab == "sample":
        return f"Changed: {reads}; what follows was drawn anew."
    held = [number for number, step in enumerate(trace.steps, 1) if step.ids is not None and step.ids[one.at] == one.id]
    return f"Changed: from step {held[0] if held else one.step + 1} on {reads}."


def named(canvas: Canvas, at: int) -> str:
    """How the player calls a token."""
    if canvas.shape is None:
        return f"token {at + 1}"
    return f"row {at // canvas.shape[1] + 1}, column {at % canvas.shape[1] + 1}"

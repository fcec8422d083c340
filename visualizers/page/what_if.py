"""What a player may offer to change in a picture, and what was changed in it, in words."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.engine.method import Method, find
from models.trace import AttendTrace, Canvas, Trace
from models.trace.interventions import KINDS, TABS, Overwrite, from_words

SAME = "Nothing came of it: every step is as in the untouched run."
BEHIND = "All attention shown is as in the untouched run: a head changes only the layers behind it, and the answer."


def spec(traces: Sequence[Trace], roles: Sequence[str]) -> dict | None:
    """What a visitor may change in the first picture, what was changed, and which picture is the untouched run; None
    where a tab knows no changes."""
    trace = traces[0]
    method = find(trace.method)
    kinds = [word for word, (name, _) in KINDS.items() if trace.tab in TABS[name]]
    if not kinds:
        return None
    why = method.fixed.get(trace.tab, "")
    against = roles.index("untouched") if "untouched" in roles[:len(traces)] else -1
    made = told(trace)
    if against >= 0 and same(trace, traces[against]):
        made.append(BEHIND if trace.tab == "attend" else SAME)
    return {"kinds": [] if why else kinds, "why": why and f"What if? Not here: {why[0].lower()}{why[1:]}",
            "made": made, "against": against, "given": fixed_text(method)}


def fixed_text(method: Method) -> bool:
    """Whether the text that is given cannot be overwritten: methods that write behind it only read it."""
    return "sample" in method.card.tabs and "sample" not in method.fixed


def same(trace: Trace, other: Trace) -> bool:
    """Whether a run with a token overwritten reads at every step as the untouched one, one with a token kept marks so,
    or one without a head looks so."""
    if isinstance(trace, AttendTrace) and isinstance(other, AttendTrace) and trace.heads and other.heads:
        return np.array_equal(trace.heads.entropy, other.heads.entropy, equal_nan=True)
    name = {"prune": "state", "unmask": "ids", "sample": "ids"}.get(trace.tab)
    return name is not None and len(trace.steps) == len(other.steps) and all(
        np.array_equal(getattr(mine, name), getattr(theirs, name)) for mine, theirs in zip(trace.steps, other.steps))


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

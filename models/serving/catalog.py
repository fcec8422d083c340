"""The five questions as functions of plain data, for programs, notebooks and agents; app.py gives them addresses.

Nothing here knows Gradio or MCP. What may be asked is what each method declares; `listing` says it as JSON schemas.
"""

from __future__ import annotations

import math
from typing import Any

from models import claims
from models.checkpoints import hub, store
from models.engine.method import Method, find, offered
from models.serving import session, zerogpu
from models.serving.session import Ask
from models.trace import Trace
from models.trace.params import ParamError, schema
from models.trace.serialize import save
from models.trace.spelling import standing
from models.trace.subject import SubjectError, from_text

HIDDEN, BLANK = ("unknown", "masked", "masked-hard", "masked-random"), "___"


def listing() -> list[dict]:
    """Every method: id, title, tabs, what it does, its subjects, its parameters as JSON schema, the verdict."""
    return [describe(method) | {"summary": method.card.summary, "subjects": subjects(method),
                                "parameters": schema(method.params)} for method in offered().values()]


def describe(method: Method) -> dict:
    """One method as plain data, for `python -m models list --json` and the API."""
    card, cards = method.card, store.shipped() | hub.cards()
    claim = claims.read(method.id)
    paper = {"arxiv": card.arxiv, "year": card.year} if card.arxiv else None
    return {"id": card.id, "title": card.title, "paper": paper, "seed": card.seed, "tabs": list(card.tabs),
            "baseline": method.baseline, "grade": card.grade,
            "checkpoints": [_checkpoint(name, cards) for name in (*method.choices, *method.companions)],
            "claim": claim["verdict"] if claim else None}


def _checkpoint(name: str, cards: dict) -> dict:
    card = cards.get(name, {})
    return {"name": name, "shipped": name in cards and name not in hub.TABLE, "bytes": card.get("bytes"),
            "licence": card.get("weights_licence")}


def subjects(method: Method) -> dict:
    """What the method takes: the kind, ids of the examples, and whether a text of one's own will do."""
    kind = method.kind()
    return {"kind": kind, "examples": [e.id for e in method.examples_for(kind)], "own": kind != "photo"}


def answer(tab: str, method: str, subject: str = "", params: dict | None = None, seed: int = 0,
           summary_only: bool = False) -> dict:
    """Runs the method with its defaults where `params` says nothing: {"summary": readable values, "trace": JSON text}.

    subject: an example's id or, but for photos, a text; "" for the first example. The trace, left out if summary_only,
    is what models.trace.serialize.load reads; a text, because clients of Gradio take every {"path": ...} in an answer
    for a file to fetch. Raises ParamError, SubjectError, CheckpointError.
    """
    if not isinstance(subject, str):
        raise ParamError("subject must be a text or the id of an example")
    ask = asked(tab, find(method), subject, params, seed)
    *_, last = zerogpu.scenes(session.play, ask)
    trace = last.takes[0].trace
    return {"summary": summary(trace)} | ({} if summary_only is True else {"trace": save(trace)})


def asked(tab: str, method: Method, subject: str, params: Any, seed: Any) -> Ask:
    """The call as a visitor's question; never a path on this machine."""
    known = subjects(method)
    if subject and subject not in known["examples"]:
        if not known["own"]:
            raise SubjectError(f"there is no example photo of this name; choose one of {', '.join(known['examples'])}")
        return Ask(method.id, tab, params, seed, own=from_text(subject, known["kind"]))
    return Ask(method.id, tab, params, seed, example=subject)


def summary(trace: Trace) -> dict:
    """The run in a few readable values: what a person would be told."""
    stamp = trace.provenance
    facts = {name: {"title": fact.title, "value": _finite(fact.value), "unit": fact.unit}
             for name, fact in trace.facts.items()}
    text = {"text": final_text(trace)} if trace.canvas.kind == "text" else {}
    return {"method": trace.method, "tab": trace.tab, "sentence": trace.sentence, "facts": facts, **text,
            "steps": [step.label for step in trace.steps], "tokens": trace.canvas.size, "subject": stamp.subject,
            "parameters": dict(stamp.params), "seed": stamp.seed, "checkpoint": stamp.checkpoint,
            "device": stamp.device, "seconds": stamp.seconds, "note": stamp.note}


def final_text(trace: Trace) -> str:
    """What stands there at the end, filled-in words included; a place that is still hidden reads as a blank."""
    canvas, last = trace.canvas, trace.steps[-1]
    held = [-1] * canvas.size if last.ids is None else last.ids
    words = list(standing(canvas.labels, canvas.ids, held, trace.vocabulary))
    roles = canvas.roles or ("",) * canvas.size
    for place in last.where(*HIDDEN):
        words[place] = BLANK if canvas.labels[place] or roles[place] == "fill" else ""  # else it was never written
    gone = () if trace.tab == "mask" else last.where("refused", "discarded")
    apart = {place for place, role in enumerate(roles) if role in ("added", "beside")}
    return "".join(word for place, word in enumerate(words) if place not in apart and place not in gone)


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None

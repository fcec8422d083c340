"""The words around a picture: what the method is, the honesty strip, the claim, the score, the glossary.

Everything is a small tree `[tag, {attributes}, *children]`; words.js builds it with text nodes only, so no text from
a model, a vocabulary or a visitor ever reaches a template.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import gradio as gr

from models.checkpoints import versions
from models.engine.method import Card
from models.trace import OWN, Fact, Trace
from models.trace.subject import ASSETS
from visualizers.drawing.units import tidy

HERE = Path(__file__).parent
Node = list | str


def block(value: list[Node] | None = None, before: str = "", **options) -> gr.HTML:
    """A component that shows words; its value is a list of nodes. before: where in the page they go, as a selector."""
    return gr.HTML(value or [], html_template="<div class='words'></div>", apply_default_css=False,
                   js_on_load="window.tokenscope.words(element, props, watch);", before=before, **options)


def node(tag: str, *children: Node, **attributes: object) -> Node:
    """One element; `kind` is its class, None attributes are left out."""
    named = {"class" if key == "kind" else key: str(v) for key, v in attributes.items() if v is not None}
    return [tag, named, *(child for child in children if child not in (None, ""))]


def number(value: float) -> str:
    """Two or three significant digits, thousands separated: 0.0412, 61.2, 1,024."""
    if value == 0 or not abs(value) < 1e15:
        return f"{value:g}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if value == int(value):
        return str(int(value))
    return f"{value:.3g}" if abs(value) >= 1e-3 else f"{value:.2g}"


def amount(value: float, unit: str) -> str:
    return f"{number(value)} {unit}".strip()


def about(card: Card) -> list[Node]:
    """What the method does, its paper, and folded what is left out or our own reading."""
    link = node("a", f"Paper ({card.year})" if card.year else "Paper", href=f"https://arxiv.org/abs/{card.arxiv}")
    found = [node("p", card.summary, " ", link if card.arxiv else None)]
    beyond = [("Not covered here", card.not_covered), ("Our reading, not stated by the paper", card.unverified)]
    lines = [line for title, text in beyond if text for line in (node("dt", title), node("dd", text))]
    return found + ([node("details", node("summary", "What is left out"), node("dl", *lines))] if lines else [])


def watching(card: Card, trace: Trace) -> list[Node]:
    """One plain sentence on this very run, and what to watch."""
    own = trace.tab == card.tabs[0]  # what to watch is said for the method's own tab
    return [node("p", trace.sentence or card.look_at, kind="sentence"),
            node("p", card.look_at, kind="hint") if own and trace.sentence and card.look_at != trace.sentence else ""]


def strip(trace: Trace, beside: Sequence[Trace], cards: Mapping[str, dict]) -> list[Node]:
    """The honesty strip: where this picture comes from."""
    p = trace.provenance
    card = {} if p.grade == OWN else cards.get(p.checkpoint, {})  # a folder may bear the name of a shipped one
    facts = [
        (p.checkpoint, _size(card)), ("", p.grade),
        ("", " · ".join(filter(None, (p.device, _precision(p.dtype), p.path)))),
        _work(trace, beside), ("", _reads(trace)),
        ("", f"seed {p.seed}"), ("", f"weights {p.revision}" if p.revision else ""),
        ("recorded" if p.recorded else "live", f"{p.recorded} on {p.device}" if p.recorded else ""), ("", p.note),
        ("", versions.sentence(p.checkpoint, cards)), ("", card.get("stored", "")),
    ]
    return [node("ul", *(_chip(bold, rest) for bold, rest in facts if bold or rest), kind="strip",
                 **{"aria-label": "Where this picture comes from"})]


def _work(trace: Trace, beside: Sequence[Trace]) -> tuple[str, str]:
    """What was counted, and beside what; nothing where a record counts nothing."""
    counted = [tidy(one.cost.macs) for one in (trace, *beside) if one.cost.macs]
    if not trace.cost.macs:
        return "", ""
    return f"{counted[0]} multiply-adds", f"against {', '.join(counted[1:])}" if counted[1:] else ""


def _precision(dtype: str) -> str:
    """The number format, and what a short one means for whoever compares."""
    return f"{dtype} (rounds: may choose otherwise than float32)" if dtype in ("bfloat16", "float16") else dtype


def _chip(bold: str, rest: str) -> Node:
    return node("li", node("b", bold) if bold else None, f" {rest}" if bold and rest else rest)


def _reads(trace: Trace) -> str:
    """How much of a photo the model reads, where it is shown sharper."""
    if trace.canvas.photo is None or trace.canvas.picture is None:
        return ""
    height, width = trace.canvas.picture.shape[:2]
    return f"the model reads {width} x {height} pixels of the photo"


def _size(card: Mapping) -> str:
    for key in ("parameters", "params", "n_parameters"):
        if isinstance(card.get(key), (int, float)):
            return f"{card[key] / 1e6:.1f} M" if card[key] >= 5e4 else f"{card[key]:,} weights"
    return f"{card['bytes'] / 1e6:.1f} MB" if card.get("bytes") else ""


def choices(labels: Sequence[str], canvas: str) -> list[str]:
    """What stands on the buttons of a decision; a square of a board is no part of a word."""
    return [piece(label) if canvas == "text" else label.strip() for label in labels]


def piece(text: str) -> str:
    """A piece of a vocabulary on a button: without its space; one that goes on a word begins with an ellipsis."""
    if not text.strip():
        return {"": "nothing", " ": "a space"}.get(text, "a new line" if "\n" in text else "spaces")
    return text.strip() if text[0].isspace() or not text[0].isalnum() else f"\u2026{text.rstrip()}"


def score(rows: Sequence[tuple[str, Fact]]) -> list[Node]:
    """Your turn: the same quantity for the visitor, the method, unless it is the judge itself, and a random choice; and
    who came first."""
    values = [fact.value for _, fact in rows]
    span = max(map(abs, values)) or 1.0
    fact = rows[0][1]
    best = (min if fact.better == "lower" else max)(range(len(rows)), key=lambda i: values[i])
    lines = [node("tr", node("th", who, scope="row"),
                  node("td", node("span", kind="bar", share=abs(f.value) / span)),
                  node("td", amount(f.value, f.unit), kind="figure")) for who, f in rows]
    goal = f", {fact.better} is better" if fact.better else ""
    return [node("section", node("h3", f"{fact.title}{goal}"), node("table", node("tbody", *lines)),
                 node("p", _verdict(rows, best, bool(fact.better))), kind="score", **{"aria-live": "polite"})]


def _verdict(rows: Sequence[tuple[str, Fact]], best: int, ranked: bool) -> str:
    values = [fact.value for _, fact in rows]
    if len(rows) == 2:
        return "You and chance reached the same score." if values[0] == values[1] else (
            "You did better than chance.", "A random choice did better this time.")[best]
    if not ranked:
        return "You reached {}, the method {}, a random choice {}.".format(*map(number, values))
    if values[0] == values[1]:
        return "You and the method reached the same score."
    return ("You did better than the method and than chance.", "The method did best this time.",
            "A random choice did best this time: try another one.")[best]


def progress(share: float, text: str) -> list[Node]:
    """A bar that tells the truth, with words."""
    return [node("div", node("span", kind="bar", share=share), node("span", text), kind="progress", role="status")]


@cache
def glossary() -> tuple[dict, ...]:
    """Terms of art: {"term", "says", "tabs"}."""
    return tuple(json.loads((ASSETS / "glossary.json").read_text("utf-8")))


def terms(tab: str) -> list[Node]:
    """The glossary of one tab."""
    pairs = [(entry["term"], entry["says"]) for entry in glossary() if tab in entry["tabs"]]
    lines = [part for term, says in sorted(pairs, key=lambda p: p[0].lower())
             for part in (node("dt", term), node("dd", says))]
    return [node("details", node("summary", "Words used here"), node("dl", *lines, kind="terms"), kind="glossary")]

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
from models.trace import Fact, Trace
from models.trace.subject import ASSETS

HERE = Path(__file__).parent
Node = list | str


def block(value: list[Node] | None = None, before: str = "", **options) -> gr.HTML:
    """A component that shows words; its value is a list of nodes. before: where in the page they go, as a selector."""
    return gr.HTML(value or [], html_template="<div class='words'></div>", apply_default_css=False,
                   js_on_load=(HERE / "nodes.js").read_text("utf-8"), before=before, **options)


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
    return f"{value:.3g}" if abs(value) >= 1e-3 else f"{value:.1e}"


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
    p, card = trace.provenance, cards.get(trace.provenance.checkpoint, {})
    against = ", ".join(f"{_ms(t):,.0f}" for t in beside)
    facts = [
        (p.checkpoint, _size(card)), ("", p.grade),
        ("", " · ".join(filter(None, (p.device, _precision(p.dtype), p.path)))),
        (f"{_ms(trace):,.0f} ms", f"against {against} ms" if against else "in the model"),
        ("", f"seed {p.seed}"), ("", f"weights {p.revision}" if p.revision else ""),
        ("recorded" if p.recorded else "live", f"{p.recorded} on {p.device}" if p.recorded else ""), ("", p.note),
        ("", versions.sentence(p.checkpoint, cards)), ("", card.get("stored", "")),
    ]
    return [node("ul", *(_chip(bold, rest) for bold, rest in facts if bold or rest), kind="strip",
                 **{"aria-label": "Where this picture comes from"})]


def _precision(dtype: str) -> str:
    """The number format, and what a short one means for whoever compares."""
    return f"{dtype} (rounds: may choose otherwise than float32)" if dtype in ("bfloat16", "float16") else dtype


def _chip(bold: str, rest: str) -> Node:
    return node("li", node("b", bold) if bold else None, f" {rest}" if bold and rest else rest)


def _ms(trace: Trace) -> float:
    return trace.cost.ms or trace.provenance.seconds * 1000


def _size(card: Mapping) -> str:
    for key in ("parameters", "params", "n_parameters"):
        if isinstance(card.get(key), (int, float)):
            return f"{card[key] / 1e6:.1f} M"
    return f"{card['bytes'] / 1e6:.1f} MB" if card.get("bytes") else ""


ANSWERS = {"holds": "Yes, at this scale.", "met in one training": "Yes, in the one training that was done.",
           "mixed": "In part.", "does not hold": "Not at this scale.",
           "not testable here": "This small version cannot tell."}


def claim(found: Mapping | None, is_paper: bool) -> list[Node]:
    """Does the paper's claim hold here? Verdict, what was measured with intervals, and how."""
    if found is None:
        text = "No measurement of its claim is stored here." if is_paper else ""
        return [node("section", node("p", text), kind="claim")] if text else []
    folded = [("Positive controls", found["controls"]), ("The arms", found["arms"]), ("Not judged", found["context"])]
    asks = "Does the paper's claim hold here? " if is_paper else "Was it checked? "
    take = found.get("what_it_would_take", "")
    return [node("section", node("h3", asks, node("span", ANSWERS[found["verdict"]])), node("p", found["reason"]),
                 node("p", node("b", "What it would take: "), take) if take else None,
                 node("p", node("b", "Paper: "), found["paper"]),
                 _table(found["rows"], "What was measured"),
                 node("details", node("summary", "How this was measured"),
                      *(part for title, rows in folded if rows
                        for part in (node("p", node("b", title)), _table(rows, title))),
                      node("dl", *_how(found))),
                 kind=f"claim {found['verdict'].replace(' ', '-')}")]


def _table(rows: Sequence[Mapping], label: str) -> Node:
    lines = [node("tr", node("td", r["name"]), node("td", _value(r), kind="figure"), node("td", _sample(r)))
             for r in rows]
    return node("table", node("tbody", *lines), **{"aria-label": label})


def _value(row: Mapping) -> str:
    if row.get("low") is None:
        return amount(row["value"], row["unit"])
    return f"{number(row['value'])} [{number(row['low'])}, {number(row['high'])}] {row['unit']}".strip()


def _sample(row: Mapping) -> str:
    """What became of the row, the bar, how far the value could have gone, and the size of the sample."""
    outcome = {True: "met", False: "missed" if row.get("missed") else "not shown"}.get(row.get("met"), "")
    return ", ".join(filter(None, (outcome, _bar(row), _range(row), f"n = {row['n']:,}", row.get("note"),
                                   row.get("why_context"))))


def _bar(row: Mapping) -> str:
    """Where the whole interval was to lie, and who said so."""
    if row.get("bar") is None:
        return ""
    at, side = number(row["bar"]), row["side"]
    words = {"above": "at least", "below": "at most"} if row["kind"] == "bound" else {}
    place = f"between -{at} and {at}" if side == "inside" else f"{words.get(side, side)} {at}"
    return f"expected {place} ({row['bar_from']})"


def _range(row: Mapping) -> str:
    ends = (row.get("floor"), row.get("ceiling"))
    return f"possible {number(ends[0])} to {number(ends[1])}" if None not in ends else ""


def _how(found: Mapping) -> list[Node]:
    stated = [("Here", found["here"]), ("Metric", _metric(found["metric"])), ("Budget", _budgets(found)),
              ("Settings", _settings(found)), ("Trained", _trained(found)), ("Command", found.get("command", "")),
              ("Brackets", "95 % bootstrap interval"), ("Weights", _weights(found)),
              ("Measured", ", ".join(filter(None, (found.get("device"), found.get("dtype"), found.get("date"),
                                                   f"{found.get('seconds', 0):.0f} s"))))]
    return [part for title, text in stated if text for part in (node("dt", title), node("dd", text))]


def _metric(metric: Mapping) -> str:
    return (f"{metric['name']} ({metric['unit']}), {metric['better']} is better; who knows nothing gets "
            f"{number(metric['floor'])}, the best that can be had here is {number(metric['ceiling'])}")


def _budgets(found: Mapping) -> str:
    """What one item costs each arm."""
    return "; ".join(f"{arm}: {number(spent['mean'])} {spent['unit']}" for arm, spent in found["budgets"].items())


def _settings(found: Mapping) -> str:
    return "; ".join(f"{arm['name']}: {arm['tuned']}" for arm in found["arms"] if arm["tuned"] != "nothing tuned")


def _trained(found: Mapping) -> str:
    """How often each arm was trained, and for how long by the cards."""
    each = found["trainings"]["each_arm"]
    times = {0: "Nothing was trained for this claim.", 1: "Each arm was trained once."}
    return f"{times.get(each, f'Each arm was trained {each} times.')} {found['trainings']['longer']}".strip()


def _weights(found: Mapping) -> str:
    return ", ".join(f"{name} {hash}" for name, hash in found["checkpoints"].items())


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

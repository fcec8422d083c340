"""A paper's claim as a picture: one line per expectation with its interval, its bar and whether it was met.

Read from assets/claims/<id>.json as models/claims/harness.py writes it; nothing is measured here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from visualizers.page.nodes import Node, amount, node, number

# The verdict, and what it means.
VERDICTS = {
    "holds": ("Yes, at this scale.", "Every expectation was met, on its whole interval."),
    "met in one training": ("Yes, in the one training that was done.",
                            "Every expectation was met; but each network was trained once, and another training may "
                            "come out otherwise."),
    "mixed": ("In part.", "Some expectations were met, others were not."),
    "does not hold": ("Not at this scale.",
                      "No expectation was met, and a control shows that the measurement could have seen the effect."),
    "not testable here": ("This small version cannot tell.",
                          "A control failed or there was too little to judge by, so nothing is said for or against."),
}
OUTCOMES = {"met": ("✓", "the whole interval lies where it was expected"),
            "not shown": ("○", "the interval crosses the bar: more measurements could decide"),
            "missed": ("✕", "the whole interval lies on the wrong side of the bar"),
            "not judged": ("–", "it could not be judged; the line says why")}
KEYS = (("├●┤", "found, and where it would come out in 95 of 100 repetitions"),
        ("┃", "the bar; tinted is where the whole interval had to lie"),
        ("‹ ›", "the numbers under a line: the least and the most that is possible"))
ZOOM = 8  # an end of the scale stands in the picture unless that makes the interval and its bar this many times smaller


class Extent(NamedTuple):
    """What a row's picture spans; floor, ceiling: the ends of what is possible, None where outside or unknown."""

    low: float
    high: float
    floor: float | None
    ceiling: float | None

    def at(self, value: float) -> float:
        """0 at the left end, 1 at the right one."""
        return min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))


def claim(found: Mapping | None, is_paper: bool) -> list[Node]:
    """Does the paper's claim hold here? The verdict, what paper and measurement say, and the picture."""
    if found is None:
        text = "No measurement of its claim is stored here." if is_paper else ""
        return [node("section", node("p", text), kind="claim")] if text else []
    answer, meaning = VERDICTS[found["verdict"]]
    asks = "Does the paper's claim hold here? " if is_paper else "Was it checked? "
    grade = found.get("grade", "")
    if grade:
        asks = "And on real public weights? "
    take = found.get("what_it_would_take", "")
    judged = expectations(found)
    return [node("section", node("h3", asks, node("span", answer)), node("p", meaning, kind="meaning"),
                 node("p", node("b", "On: "), f"{', '.join(found['checkpoints'])}, {grade}.") if grade else None,
                 node("p", node("b", "The paper said: " if is_paper else "Expected: "), found["paper"]),
                 node("p", node("b", "We found: "), told(judged, failed(found))),
                 picture(judged + failed(found), "What was expected and what was found") if judged else None,
                 node("p", node("b", "What it would take: "), take) if take else None,
                 node("details", node("summary", "How this was measured"), *folded(found), node("dl", *_how(found))),
                 kind=f"claim {found['verdict'].replace(' ', '-')}")]


def expectations(found: Mapping) -> list[Mapping]:
    """All of them, also those that could not be judged, which stand among the context."""
    return [*found["rows"], *(row for row in found["context"] if row["kind"] != "context")]


def failed(found: Mapping) -> list[Mapping]:
    """Positive controls that did not come out: they decide the verdict."""
    return [{**row, "name": f"Control: {row['name']}"} for row in found["controls"] if not row["met"]]


def outcome(row: Mapping) -> str:
    return {True: "met", False: "missed" if row["missed"] else "not shown"}.get(row["met"], "not judged")


def told(judged: Sequence[Mapping], controls: Sequence[Mapping]) -> str:
    """The picture in a sentence."""
    groups = {name: [row for row in judged if outcome(row) == name] for name in OUTCOMES}
    others = [f"{len(rows)} {name}" for name, rows in groups.items() if rows and name != "met"]
    text = f"{len(groups['met'])} of {len(judged)} {'expectation' if len(judged) == 1 else 'expectations'} met"
    text += f", {', '.join(others)}." if others else "."
    if controls:
        text += " A control failed: what must come out if the measurement sees anything did not."
    return text


def folded(found: Mapping) -> list[Node]:
    passed = [row for row in found["controls"] if row["met"]]
    rest = [row for row in found["context"] if row["kind"] == "context"]
    drawn = [node("p", node("b", "Controls: what must come out if the measurement can see anything")),
             picture(passed, "Controls")] if passed else []
    plain = [(title, rows) for title, rows in (("What each side reached", found["arms"]), ("Shown, not judged", rest))
             if rows]
    return drawn + [part for title, rows in plain for part in (node("p", node("b", title)), _table(rows, title))]


# ---- the picture -----------------------------------------------------------------------------------------------------

def picture(rows: Sequence[Mapping], label: str) -> Node:
    """One line a row: what was expected, the interval on its scale, the numbers, what became of it."""
    head = node("thead", node("tr", *(node("th", words, scope="col") for words in
                                      ("Expected", "Where it came out", "Found", "Outcome"))))
    body = node("tbody", *map(line, rows))
    seen = [name for name in OUTCOMES if any(outcome(row) == name for row in rows)]
    keys = [node("li", node("b", OUTCOMES[name][0]), f" {name}: {OUTCOMES[name][1]}") for name in seen]
    return node("div", node("table", head, body, **{"aria-label": label}),
                node("ul", *(node("li", node("b", sign), f" {words}") for sign, words in KEYS), *keys, kind="keys"),
                kind="intervals")


def line(row: Mapping) -> Node:
    became = outcome(row)
    found = node("td", node("b", amount(row["value"], row["unit"])), _interval(row), kind="found")
    sign, meaning = OUTCOMES[became]
    return node("tr", node("th", row["name"], node("small", _expected(row)), scope="row"),
                node("td", track(row)), found,
                node("td", node("span", f"{sign} {became}", kind="outcome", title=meaning)),
                kind=became.replace(" ", "-"))


def track(row: Mapping) -> Node:
    """The interval, its bar and the ends of what is possible, from left to right."""
    scale = scaled(row)
    def mark(kind: str, *places: float) -> Node:
        return node("i", kind=kind, **dict(zip(("from", "to"), map(scale.at, places))))

    marks = [mark("wanted", *wanted(row, scale)), *(mark("end", end) for end in _some(scale.floor, scale.ceiling)),
             *(mark("bar", bar) for bar in bars(row)), mark("range", row["low"], row["high"]),
             mark("value", row["value"])]
    return node("div", node("div", *marks, kind="line"), _ends(row, scale), kind="track", role="img",
                **{"aria-label": f"{row['name']}: {_words(row)}"})


def scaled(row: Mapping) -> Extent:
    """Wide enough for interval and bar, and for the ends of what is possible where that leaves them visible."""
    inner = [row["low"], row["high"], *bars(row)]
    low, high = min(inner), max(inner)
    room = (high - low) or abs(high) or 1.0
    floor, ceiling = (end if end is not None and max(high, end) - min(low, end) <= ZOOM * room else None
                      for end in (row["floor"], row["ceiling"]))
    low, high = min(low, *_some(floor, ceiling), low), max(high, *_some(floor, ceiling), high)
    pad = 0.06 * (high - low or room)
    return Extent(low - pad, high + pad, floor, ceiling)


def _some(*ends: float | None) -> list[float]:
    return [end for end in ends if end is not None]


def bars(row: Mapping) -> list[float]:
    return [-abs(row["bar"]), abs(row["bar"])] if row["side"] == "inside" else [row["bar"]]


def wanted(row: Mapping, scale: Extent) -> tuple[float, float]:
    """Where the whole interval had to lie."""
    return {"above": (row["bar"], scale.high), "below": (scale.low, row["bar"])}.get(
        row["side"], (-abs(row["bar"]), abs(row["bar"])))


# ---- its words -------------------------------------------------------------------------------------------------------

def _ends(row: Mapping, scale: Extent) -> Node:
    """The least and the most that is possible; an arrow where it lies further out than the line."""
    floor, ceiling = (None if end is None else number(end if abs(end) > 1e-4 * (scale.high - scale.low) else 0.0)
                      for end in (row["floor"], row["ceiling"]))
    left = "" if floor is None else ("" if scale.floor is not None else "‹ ") + floor
    right = "" if ceiling is None else ceiling + ("" if scale.ceiling is not None else " ›")
    return node("div", node("span", left), node("span", right), kind="ends")


def _interval(row: Mapping) -> str:
    return "" if row.get("low") is None else f" [{number(row['low'])}, {number(row['high'])}]"


def _expected(row: Mapping) -> str:
    """Where the whole interval was to lie, who said so, and the sample."""
    return ", ".join(filter(None, (_bar(row), f"{row['n']:,} measured", row["note"], row["why_context"])))


def _bar(row: Mapping) -> str:
    at, unit = number(row["bar"]), row["unit"]
    words = {"above": "at least", "below": "at most"} if row["kind"] == "bound" else {}
    place = f"within {number(abs(row['bar']))} to either side" if row["side"] == "inside" else (
        f"{words.get(row['side'], row['side'])} {at} {unit}".strip())
    source = "our bar" if row["bar_from"] == "ours" else row["bar_from"]
    return f"{place} ({source})"


def _words(row: Mapping) -> str:
    return f"{amount(row['value'], row['unit'])}{_interval(row)}, expected {_bar(row)}: {outcome(row)}"


def _table(rows: Sequence[Mapping], label: str) -> Node:
    lines = [node("tr", node("td", r["name"]),
                  node("td", f"{number(r['value'])}{_interval(r)} {r['unit']}", kind="figure"),
                  node("td", ", ".join(filter(None, (f"n = {r['n']:,}", r.get("why_context")))))) for r in rows]
    return node("table", node("tbody", *lines), **{"aria-label": label})


def _how(found: Mapping) -> list[Node]:
    stated = [("What was asked", found["here"]), ("Metric", _metric(found["metric"])), ("Budget", _budgets(found)),
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

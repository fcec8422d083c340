"""How a number is written, in one place: sensible digits, its unit in the singular or plural, which way is better.

visualizers/player/units.js is the same for the browser; a test compares the two.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from models.trace import YES, Fact
from models.trace.percent import fine_percent

PLACES = ("step", "layer", "round", "map")  # units that count from 1: `layer 4` instead of `4 layer`
LEAST = 5e-4  # what is smaller is not told apart from nothing


def tidy(value: float) -> str:
    """A number as a reader wants it: three significant digits, thousands separated, millions and up shortened."""
    if not math.isfinite(value):
        return "not defined"
    for size, letter in ((1e12, " T"), (1e9, " G"), (1e6, " M")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    if float(value).is_integer() or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def amount(value: float, unit: str = "", whole: bool = False) -> str:
    """`37 %`, `layer 4`, `1 token`, `2.31 nats`; whole: only whole numbers make sense."""
    if not math.isfinite(value):
        return "not defined"
    value = float(math.floor(value + 0.5)) if whole else value
    if unit == YES:
        return "yes" if value > 0.5 else "no"
    if unit == "probability":
        return fine_percent(value)
    if whole and unit in PLACES:
        return f"{unit} {value:.0f}"
    if unit.startswith("%") and 99.95 <= value < 100:
        return f"> 99.9 {unit}"
    if 0 < abs(value) < LEAST:
        return f"{'about ' if value < 0 else '< '}{0 if value < 0 else 0.001} {unit}".strip()
    return f"{tidy(value)} {singular(unit) if tidy(value) == '1' else unit}".strip()


def singular(unit: str) -> str:
    """The unit of exactly one: `tokens` -> `token`, `codes per pass` -> `code per pass`."""
    first, *rest = unit.split(" ")
    for plural, single in (("queries", "query"), ("patches", "patch"), ("passes", "pass"), ("guesses", "guess")):
        if first == plural:
            first = single
    first = first[:-1] if first in COUNTED else first
    return " ".join([first, *rest])


COUNTED = ("tokens", "cells", "codes", "rows", "steps", "layers", "rounds", "words", "drafts", "sequences", "pairs",
           "nats", "bits", "calls", "objects", "branches", "times", "places", "neighbours")


def fact_text(fact: Fact) -> str:
    """`61 % of the multiply-adds`: value and unit."""
    return amount(fact.value, fact.unit)


def headline(facts: Sequence[Sequence[Fact]]) -> list[dict]:
    """The one fact above each of several pictures: {"title", "text", "better", "won"}, {} where there is none.

    Of the facts with a direction that all of them share, the first in which they differ; won: "best", "equal", "unlike"
    where each has a measure of its own, or "".
    """
    own = [{_kind(fact): fact for fact in each} for each in facts]
    if not own or not own[0]:
        return [{} for _ in own]
    told = [each for each in own if each]  # a run that has not begun says nothing yet
    shared = [fact for kind, fact in own[0].items()
              if fact.better and len(told) > 1 and all(kind in each for each in told)]
    differ = [fact for fact in shared if len({fact_text(each[_kind(fact)]) for each in told}) > 1]
    first = (differ or shared or [None])[0]
    said = [_said(each, first, told) for each in own]
    apart = not first and len({one["title"] for one in said if one}) > 1
    return [one | {"won": "unlike"} if apart and one else one for one in said]


def _kind(fact: Fact) -> tuple[str, str]:
    """What two facts must share to be compared."""
    return fact.title, fact.unit.split(",")[0]


def _said(own: dict[tuple, Fact], shared: Fact | None, told: list[dict[tuple, Fact]]) -> dict:
    if not own:
        return {}
    fact = own[_kind(shared)] if shared else next((f for f in own.values() if f.better), next(iter(own.values())))
    won = ""
    if shared:
        values = [each[_kind(shared)] for each in told]
        best = (min if shared.better == "lower" else max)(values, key=lambda one: one.value)
        equal = all(fact_text(one) == fact_text(best) for one in values)
        won = "equal" if equal else "best" if fact_text(fact) == fact_text(best) else ""
    return {"title": fact.title, "text": fact_text(fact), "better": fact.better, "won": won}

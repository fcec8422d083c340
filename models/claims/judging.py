"""How an expectation is judged: on the interval, against a bar fixed before, and only where it could have failed.

An expectation that cannot be judged becomes context and says why: too few items, a bar that lies beyond the ceiling or
below the floor, an arm at the floor, budgets or tuning that favour the arm it is for. Then `verdict` follows the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil

import numpy as np

from models.claims.arms import Arm, Quantity
from models.trace.percent import percent

FEWEST = 20  # items below which a percentile interval is too narrow to judge by
EVEN = 0.02  # budgets that differ by less, item by item, are matched
ROUNDING = 1e-5
VERDICTS = ("holds", "met in one training", "mixed", "does not hold", "not testable here")


@dataclass(frozen=True, eq=False)
class Expectation:
    """kind: "better", "as good", "more than chance" or "bound". side: where the interval must lie, "above" the bar,
    "below" it, or "inside" -bar .. bar. bar_from: "ours", or "paper: ...". unmatched: why budgets are not matched.
    on_average: they are matched over all items (found on other ones), not on each."""

    kind: str
    quantity: Quantity
    bar: float
    side: str
    bar_from: str
    mine: Arm | None = None
    other: Arm | None = None
    unmatched: str = ""
    on_average: bool = False


@dataclass(frozen=True)
class Row:
    """One number of a claim. met: None where nothing is judged, and then why_context says why not; missed: whether the
    whole interval lies on the wrong side. floor, ceiling: the least and the most that the value could have been."""

    name: str
    kind: str
    value: float
    unit: str
    n: int
    low: float | None = None
    high: float | None = None
    bar: float | None = None
    side: str = ""
    bar_from: str = ""
    floor: float | None = None
    ceiling: float | None = None
    met: bool | None = None
    missed: bool = False
    why_context: str = ""
    note: str = ""

    @property
    def short(self) -> str:
        """value [low, high] unit."""
        interval = f" [{self.low:.3g}, {self.high:.3g}]" if self.low is not None else ""
        return f"{self.value:.3g}{interval} {self.unit}".strip()


def judge(asked: Expectation) -> Row:
    """The row of an expectation: met only if the whole interval lies where the bar wants it."""
    quantity = asked.quantity
    value, low, high = quantity.interval()
    if asked.kind == "as good":
        low, high = widened(quantity, value, low, high)
    bar, floor, ceiling = asked.bar, quantity.floor, quantity.ceiling
    met = {"above": low > bar or (asked.kind == "bound" and low >= bar), "below": high <= bar,
           "inside": -bar < low and high < bar}[asked.side]
    missed = {"above": high < bar, "below": low > bar, "inside": low > bar or high < -bar}[asked.side]
    each, why = trainings_apart(asked), refusal(asked, low, high, missed)
    met = met and all(gain > bar for gain in each)
    return Row(quantity.name, asked.kind, value, quantity.unit, len(quantity.items), low, high, bar, asked.side,
               asked.bar_from, floor, ceiling, None if why else bool(met), bool(missed and not why), why,
               note(asked, each))


def trainings_apart(asked: Expectation) -> list[float]:
    """Where arms were trained several times: the gain in each training, every one of which must pass the bar, since an
    interval over items says nothing of how trainings differ."""
    arms = [arm for arm in (asked.mine, asked.other) if arm is not None]
    trained = [len(arm.runs) for arm in arms if arm.runs is not None]
    if asked.side != "above" or len(arms) < 2 or not trained:
        return []
    of_run = [[arm.scores if arm.runs is None else arm.runs[run] for arm in arms] for run in range(min(trained))]
    gain = arms[0].metric.gain_percent if asked.quantity.unit == "%" else arms[0].metric.gain
    return [float(gain(mine.mean(), other.mean())) for mine, other in of_run]


def widened(quantity: Quantity, value: float, low: float, high: float) -> tuple[float, float]:
    """Where most items do not differ at all, resampling them shows too little: n items without a change leave room for
    a change in 3 of n (the rule of three), each as large as the metric allows."""
    if quantity.ties <= 0.5:
        return low, high
    room = 3 / len(quantity.items) * quantity.span
    return min(low, value - room), max(high, value + room)


def refusal(asked: Expectation, low: float, high: float, missed: bool) -> str:
    """Why an expectation cannot be judged on these items; "" where it can. A clear miss needs no more power, and more
    budget does not excuse it."""
    if len(asked.quantity.items) < FEWEST:
        return f"{len(asked.quantity.items)} items are too few to judge by; {FEWEST} are the fewest"
    return out_of_reach(asked) or at_an_end(asked) or ("" if missed else powerless(asked, low, high) or uneven(asked))


def out_of_reach(asked: Expectation) -> str:
    """A bar that no arm could pass, or that none could miss."""
    floor, ceiling, bar = asked.quantity.floor, asked.quantity.ceiling, asked.bar
    if asked.kind == "as good":
        wide = floor is not None and -bar_of(asked) <= floor
        return "nothing could fall out of this margin: it reaches down to the floor" if wide else ""
    beyond, under = (ceiling, floor) if asked.side == "above" else (floor, ceiling)
    sign = 1 if asked.side == "above" else -1
    if beyond is not None and sign * bar >= sign * beyond and not (asked.kind == "bound" and bar == beyond):
        return f"the bar {bar:.3g} lies beyond the best that these items allow, {beyond:.3g}"
    if under is not None and sign * bar < sign * under - ROUNDING * max(1.0, abs(under)):
        return f"the bar {bar:.3g} lies below the worst that these items allow, {under:.3g}: it cannot be missed"
    return ""


def bar_of(asked: Expectation) -> float:
    """The margin of "as good", as a positive number."""
    return abs(asked.bar)


def powerless(asked: Expectation, low: float, high: float) -> str:
    """An equality that a sample of this size could not have failed."""
    if asked.kind == "as good" and (high - low) / 2 >= bar_of(asked):
        return (f"the interval is as wide as the margin ({(high - low) / 2:.3g} to either side against "
                f"{bar_of(asked):.3g}): more items are needed")
    return ""


def at_an_end(asked: Expectation) -> str:
    """An arm that knows nothing cannot rank anything, and nothing can be better than the ceiling."""
    compared = [arm for arm in (asked.mine, asked.other) if arm is not None]
    for arm in compared if asked.kind == "as good" else compared[:1] if asked.kind == "better" else []:
        if arm.at("floor"):
            return f"'{arm.name}' is not above the floor of {arm.metric.name} on these items"
    if asked.kind == "better" and asked.other is not None and asked.other.at("ceiling"):
        return f"'{asked.other.name}' cannot be told from the ceiling of {asked.other.metric.name}"
    return ""


def uneven(asked: Expectation) -> str:
    """A budget or a tuning effort that favours the arm that the expectation is for."""
    if asked.mine is None or asked.other is None or asked.unmatched:
        return ""
    mine, other = asked.mine.budget, asked.other.budget
    if mine.unit != other.unit:
        return f"budgets are stated in {mine.unit} and in {other.unit}"
    count = len(asked.mine.scores)
    ours, theirs = mine.per_item(count), other.per_item(count)
    if asked.on_average:
        ours, theirs = ours.mean(keepdims=True), theirs.mean(keepdims=True)
    more = ours > theirs * (1 + EVEN) + 1e-12
    if more.any():
        return (f"'{asked.mine.name}' spends more than '{asked.other.name}' on {percent(more.mean())} of the items "
                f"({ours.mean():.4g} against {theirs.mean():.4g} {mine.unit})")
    if asked.mine.tuned.tries > max(1, asked.other.tuned.tries):
        return f"'{asked.mine.name}' was tuned more than '{asked.other.name}'"
    return ""


def note(asked: Expectation, each: Sequence[float] = ()) -> str:
    """What a reader must know beside the row: how trainings differ, and budgets that are not matched."""
    told = [f"in each training {', '.join(f'{gain:.3g}' for gain in each)}"] if each else []
    if asked.on_average:
        told.append("budgets are matched on average, not on every item")
    if asked.unmatched:
        told.append(f"budgets are not matched: {asked.unmatched}")
    elif asked.mine is not None and asked.other is not None and asked.mine.budget.unit == asked.other.budget.unit:
        ours, theirs = (float(np.mean(arm.budget.amount)) for arm in (asked.mine, asked.other))
        told += [f"for {percent(ours / theirs)} of its {asked.mine.budget.unit}"] if ours < theirs * (1 - EVEN) else []
    return "; ".join(told)


@dataclass(frozen=True)
class Verdict:
    verdict: str
    reason: str
    would_take: str = ""


@dataclass(frozen=True)
class JudgedRows:
    """All rows of a claim, sorted by what they decide."""

    judged: tuple[Row, ...]
    refused: tuple[Row, ...]
    controls: tuple[Row, ...]
    trainings: int = 0
    hint: str = field(default="")  # the author's words on what it would take

    @classmethod
    def of(cls, rows: Sequence[Row], controls: Sequence[Row], trainings: int, hint: str) -> JudgedRows:
        return cls(tuple(r for r in rows if r.met is not None), tuple(r for r in rows if r.met is None),
                   tuple(controls), trainings, hint)


def verdict(rows: JudgedRows) -> Verdict:
    """By rule only. A failed control blocks the headline; "mixed" needs a miss; "does not hold" needs a control that
    passed and an interval that lies wholly on the wrong side."""
    good = [r for r in rows.judged if r.met]
    bad = [r for r in rows.judged if not r.met]
    failed = [r for r in rows.controls if not r.met]
    told = told_of(rows, good, bad, failed)
    if failed:
        return Verdict("not testable here", told, rows.hint or "a positive control that passes: " + listed(failed))
    if good and bad:
        return Verdict("mixed", told, rows.hint)
    if rows.refused or not rows.judged:
        return Verdict("not testable here", told, rows.hint or "; ".join(
            f"{r.name}: {r.why_context}" for r in rows.refused) or "an expectation that can be missed")
    if bad:
        if any(r.missed for r in bad) and rows.controls:
            return Verdict("does not hold", told, rows.hint)
        return Verdict("not testable here", told, rows.hint or wanting(rows, bad))
    if rows.trainings == 1:
        return Verdict("met in one training", told, rows.hint or "a second training of each arm")
    return Verdict("holds", told)


def wanting(rows: JudgedRows, bad: Sequence[Row]) -> str:
    if not any(r.missed for r in bad):
        return "; ".join(f"{r.name}: about {more_items(r):,} items" for r in bad)
    return "a positive control that shows that the metric could have seen the effect"


def more_items(row: Row) -> int:
    """Items after which an interval about the same value would no longer cross the bar, at most a million."""
    assert row.bar is not None and row.low is not None and row.high is not None, "a judged row has them"
    bar = row.bar if row.side != "inside" else float(np.copysign(row.bar, row.value))
    half, gap = (row.high - row.low) / 2, max(abs(row.value - bar), 1e-9)
    return min(1_000_000, int(ceil(row.n * max(1.0, (half / gap) ** 2) / 10)) * 10)


def told_of(rows: JudgedRows, good, bad, failed) -> str:
    """The reason, made from the rows."""
    parts = [f"{len(good)} of {len(rows.judged)} expectations met."] if rows.judged else ["Nothing could be judged."]
    parts += [f"Met: {good[0].name}, {good[0].short}."] if good else []
    parts += [f"Positive control failed: {r.name}, {r.short}" + (f" ({r.why_context})" if r.why_context else "") + "."
              for r in failed]
    parts += [f"{'Missed' if r.missed else 'Not shown'}: {r.name}, {r.short}; {stated(r)}." for r in bad]
    parts += [f"Not judged: {r.name} ({r.why_context})." for r in rows.refused]
    if rows.trainings == 1 and good:
        parts.append("One training of each arm, so it cannot read 'holds'.")
    return " ".join(parts)


def stated(row: Row) -> str:
    """The bar in words, with where it comes from."""
    if row.bar is None:
        return ""
    place = {"above": f"above {row.bar:.3g}", "below": f"below {row.bar:.3g}",
             "inside": f"between {-row.bar:.3g} and {row.bar:.3g}"}[row.side]
    if row.kind == "bound" and row.side == "above":
        place = f"at least {row.bar:.3g}"
    return f"the whole interval {place} ({row.bar_from})"


def listed(rows: Sequence[Row]) -> str:
    return "; ".join(r.name for r in rows)

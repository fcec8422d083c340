"""The one way a claim is declared, judged and written: arms with a score per item, expectations, a verdict by rule.

How to write a claim (60 to 110 lines; models/baselines/sampling/claim.py and mae.py are examples to copy):

    def measure(lab: Lab) -> Claim:
        score = Metric("parser score", "of 1", floor=blank, ceiling=redrawn)        # numbers, or [K] on the same items
        var = score.arm("VAR", mine, checkpoints="scene-var-1", budget=Budget(6, "passes"),
                        tuned=Tuned(4, "captions of seeds 91-93"))
        raster = score.arm("raster", theirs, checkpoints="scene-ar-1", budget=Budget(256, "passes"), tuned=...)
        return conclude("var", paper="...", here="...", arms=(var, raster), trainings=1, seeds=SEEDS,
                        controls=[better(drawn, raster)],
                        expect=[as_good(var, raster, within=0.05, bar="ours"),
                                at_least(ratio(ms_raster, ms_var, "time, raster over VAR"), 3, bar="paper: 20 times")],
                        context=[context("passes of VAR", 6, "passes", "a count")])

1. Items are what is drawn independently (photos, captions): [K], or [seeds, K], which is averaged over seeds. At least
   20, or nothing is judged. `lab.size(full, quick)` keeps tests short; in quick mode only the structure counts.
   The first of an arm's checkpoints is its network; whose was trained for longer is said by program.
2. `better(mine, other, least=0)`: the interval of the paired gain lies above `least`; the gain is above 0 where `mine`
   is better, whatever the metric's direction. by="percent" for percent of the other's mean.
3. `as_good(mine, other, within)`: the interval lies above -within (both_sides=True: inside the margin). Refused where
   the sample could not have failed or the margin reaches down to the floor.
4. `more_than_chance(mine, chance)`: chance is a number or [K].
5. `at_least(quantity, bar)`, `at_most(quantity, bar)`: of a `Quantity` (`ratio(a, b, name)`, `mean_of(arm)`, any
   statistic of rows). Give it floor and ceiling where they are known. `close_to(quantity, 1, within)`: to either side.
6. Every bar was fixed before, and says where it is from: bar="paper: Table 2", or "ours".
7. What cannot fail (an identity, a count, a corrupted network, work by formula) is `context(...)`: shown, not judged.
8. Budgets: what one item costs each arm, in one unit. An expectation is refused where its arm spends more than the
   other on any item, unless on_average=True or `unmatched="why"` says so to the reader. `Tuned` says how often and on
   which other items.
9. `controls`: what must come out if the metric can see anything at all. One that fails blocks the headline.
10. trainings: how many of each arm, 0 where nothing was trained for the claim; two or more need `metric.arm(name,
    runs=[T, K])`, and every training must pass the bar. `would_take`: shown where nothing can be told yet. Verdict,
    reason, stamps and who trained for longer are made by program; never write them.
11. Paired times: models/claims/timing.py; photos, features and probes: models/claims/probe.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from models.claims.arms import (
    Arm,
    Budget,
    ClaimError,
    Metric,
    Quantity,
    Tuned,
    advantage,
    mean_of,
    points,
    ratio,
)
from models.claims.judging import VERDICTS, Expectation, JudgedRows, Row, judge, verdict
from models.claims.trained import longer
from models.claims.trained import trainings as trained

__all__ = ["VERDICTS", "Arm", "Budget", "Claim", "ClaimError", "Metric", "Quantity", "Row", "Tuned", "advantage",
           "as_good", "at_least", "at_most", "better", "close_to", "conclude", "context", "mean_of",
           "more_than_chance", "ratio"]

VERSION = 2
MOST = 8  # expectations of a claim


def better(mine: Arm, other: Arm, least: float = 0.0, *, by: str = "difference", bar: str = "ours",
           unmatched: str = "", on_average: bool = False, name: str = "") -> Expectation:
    return _compared("better", mine, other, least, "above", by, bar, (unmatched, on_average), name)


def as_good(mine: Arm, other: Arm, within: float, *, by: str = "difference", both_sides: bool = False,
            bar: str = "ours", unmatched: str = "", on_average: bool = False, name: str = "") -> Expectation:
    if within <= 0:
        raise ClaimError("a margin is above 0")
    side, at = ("inside", within) if both_sides else ("above", -within)
    return _compared("as good", mine, other, at, side, by, bar, (unmatched, on_average), name)


def _compared(kind, mine, other, bar, side, by, bar_from, matched: tuple[str, bool], name) -> Expectation:
    found = advantage(mine, other, by)
    return Expectation(kind, found.named(name) if name else found, bar, side, _source(bar_from), mine, other, *matched)


def more_than_chance(mine: Arm, chance, *, bar: str = "ours", name: str = "") -> Expectation:
    """chance: a number, or [K] where it differs from item to item."""
    metric, gap = mine.metric, mine.metric.gain(mine.scores, np.broadcast_to(chance, mine.scores.shape))
    floor, ceiling = (None if end is None else float(metric.gain(end, np.mean(chance)))
                      for end in (metric.bound("floor"), metric.bound("ceiling")))
    title = name or f"{metric.name}: {mine.name} over chance"
    found = Quantity(title, np.asarray(gap), points(metric.unit), None, floor, ceiling, (mine,))
    return Expectation("more than chance", found, 0.0, "above", _source(bar), mine)


def at_least(found: Quantity | Arm, least: float, *, bar: str = "ours") -> Expectation:
    return Expectation("bound", mean_of(found) if isinstance(found, Arm) else found, least, "above", _source(bar))


def at_most(found: Quantity | Arm, most: float, *, bar: str = "ours") -> Expectation:
    return Expectation("bound", mean_of(found) if isinstance(found, Arm) else found, most, "below", _source(bar))


def close_to(found: Quantity, to: float, within: float, *, bar: str = "ours") -> Expectation:
    """A number that must lie within a margin of another, to either side: the whole interval."""
    statistic = found.statistic or np.mean
    floor, ceiling = (None if end is None else end - to for end in (found.floor, found.ceiling))
    gap = Quantity(f"{found.name}, minus {to:g}" if to else found.name, found.items,
                   points(found.unit) if to else found.unit,
                   lambda rows: float(statistic(rows)) - to, floor, ceiling)
    return Expectation("as good", gap, within, "inside", _source(bar))


def _source(bar: str) -> str:
    if bar != "ours" and not bar.startswith("paper"):
        raise ClaimError(f"a bar is 'ours' or 'paper: where', not '{bar}'")
    return bar


def context(name: str, values, unit: str = "", why: str = "") -> Row:
    """A row that is shown and never judged: of a number, of values [K], of an arm or of a Quantity."""
    found = mean_of(values) if isinstance(values, Arm) else values
    if not isinstance(found, Quantity) and np.ndim(found):
        found = Quantity(name, np.asarray(found, np.float64), unit)
    if not isinstance(found, Quantity):
        return Row(name, "context", float(found), unit, 1, why_context=why)
    value, low, high = found.interval()
    return Row(name, "context", value, unit or found.unit, len(found.items), low, high, floor=found.floor,
               ceiling=found.ceiling, why_context=why)


@dataclass(frozen=True)
class Claim:
    """A measured claim as it is written. checkpoints: name -> revision of everything that was loaded, put in by the
    loader. trainings: {"each_arm": how many, "cards": what was trained for how long, "longer": that as a sentence}.
    grade: what the weights are, where they are not ours."""

    method: str
    paper: str
    here: str
    metric: Mapping
    arms: tuple[Mapping, ...]
    rows: tuple[Row, ...]
    context: tuple[Row, ...]
    controls: tuple[Row, ...]
    budgets: Mapping[str, Mapping]
    trainings: Mapping
    verdict: str
    reason: str
    what_it_would_take: str = ""
    seeds: tuple[int, ...] = ()
    checkpoints: Mapping[str, str] = field(default_factory=dict)
    device: str = ""
    dtype: str = ""
    date: str = ""
    seconds: float = 0.0
    command: str = ""
    grade: str = ""
    version: int = VERSION

    def to_json(self) -> dict:
        return asdict(self)


def reworded(saved: Mapping) -> dict:
    """A saved claim with the verdict and the reason that its own rows give by the rule: what it must say."""
    rows = [Row(**r) for r in (*saved["rows"], *saved["context"]) if r["kind"] != "context"]
    controls = [Row(**r) for r in saved["controls"]]
    found = verdict(JudgedRows.of(rows, controls, saved["trainings"]["each_arm"], saved["what_it_would_take"]))
    return {**saved, "verdict": found.verdict, "reason": found.reason}


def conclude(method: str, *, paper: str, here: str, arms: Sequence[Arm], expect: Sequence[Expectation],
             controls: Sequence[Expectation] = (), context: Sequence[Row] = (), trainings: int,
             would_take: str = "", seeds: Sequence[int] = (), dtype: str = "") -> Claim:
    """Judges everything and states the verdict. trainings: of each arm; 0 where nothing was trained for the claim."""
    metric = arms[0].metric
    if metric.floor is None or metric.ceiling is None:
        raise ClaimError(f"'{metric.name}' needs its floor and ceiling on these items")
    if not 1 <= len(expect) <= MOST:
        raise ClaimError(f"a claim has 1 to {MOST} expectations, not {len(expect)}; the rest is context")
    shown = _every_arm(arms, (*expect, *controls))
    if trainings > 1 and not any(arm.runs is not None and len(arm.runs) >= trainings for arm in arms):
        raise ClaimError(f"{trainings} trainings are stated; give an arm its runs [{trainings}, K]")
    rows, checked = [judge(one) for one in expect], [judge(one) for one in controls]
    found = verdict(JudgedRows.of(rows, checked, trainings, would_take))
    refused = tuple(r for r in rows if r.met is None)
    networks = [arm.checkpoints[0] for arm in shown.values() if arm.checkpoints]
    loaded = [name for arm in shown.values() for name in arm.checkpoints]
    return Claim(
        method, paper, here, metric=_metric(metric), arms=tuple(map(_arm, shown.values())),
        rows=tuple(r for r in rows if r.met is not None), context=(*refused, *context), controls=tuple(checked),
        budgets={name: _budget(arm) for name, arm in shown.items()},
        trainings={"each_arm": trainings, "cards": trained(loaded), "longer": longer(networks)},
        verdict=found.verdict, reason=found.reason, what_it_would_take=found.would_take, seeds=tuple(seeds),
        dtype=dtype)


def _every_arm(declared: Sequence[Arm], asked: Sequence[Expectation]) -> dict[str, Arm]:
    """name -> arm of all that were declared or are compared, so that none is compared unseen; where two metrics have an
    arm of one name, the metric stands behind it."""
    found: dict[tuple[str, str], Arm] = {}
    for arm in (*declared, *(a for one in asked for a in (one.mine, one.other, *one.quantity.arms) if a is not None)):
        known = found.setdefault((arm.name, arm.metric.name), arm)
        if known is not arm and not np.array_equal(known.scores, arm.scores):
            raise ClaimError(f"two arms are called '{arm.name}'")
        if not np.array_equal(known.budget.amount, arm.budget.amount):
            raise ClaimError(f"'{arm.name}' has two budgets; budgets that match on average only: on_average=True")
    often = [name for name, _ in found]
    return {name if often.count(name) == 1 else f"{name} ({metric})": arm for (name, metric), arm in found.items()}


def _metric(metric: Metric) -> dict:
    return {"name": metric.name, "unit": metric.unit, "better": metric.better, "floor": metric.bound("floor"),
            "ceiling": metric.bound("ceiling")}


def _arm(arm: Arm) -> dict:
    value, low, high = mean_of(arm).interval()
    return {"name": arm.name, "metric": arm.metric.name, "unit": arm.metric.unit, "value": value, "low": low,
            "high": high, "n": len(arm.scores), "checkpoints": list(arm.checkpoints), "tuned": str(arm.tuned)}


def _budget(arm: Arm) -> dict:
    spent = arm.budget.per_item(len(arm.scores))
    return {"mean": float(spent.mean()), "least": float(spent.min()), "most": float(spent.max()),
            "unit": arm.budget.unit}

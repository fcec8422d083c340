"""What a claim compares: a metric with its floor and ceiling, arms with a score per item, and numbers made from them.

Letters: K items (captions, photos, questions: what is drawn independently), S evaluation seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from models.engine.statistics import bootstrap, ratio_of_means, spearman

Number = float | np.ndarray


class ClaimError(ValueError):
    """A claim that is declared wrongly: items that do not match, an arm without a name, too many expectations."""


@dataclass(frozen=True, eq=False)
class Metric:
    """What is scored. floor: the score of who knows nothing; ceiling: the best that can be had; a number, or [K] on the
    very items that the arms are scored on. None only where there is none to be had (never in a claim's first metric).
    """

    name: str
    unit: str
    better: str = "higher"
    floor: Number | None = None
    ceiling: Number | None = None

    def __post_init__(self):
        if self.better not in ("higher", "lower"):
            raise ClaimError(f"'{self.name}' is better 'higher' or 'lower', not '{self.better}'")

    def arm(self, name: str, scores=None, *, runs=None, **options) -> Arm:
        """runs: scores [T, K] of T trainings instead, each averaged over evaluation seeds."""
        return Arm(name, self, scores if runs is None else np.mean(runs, 0), runs=runs, **options)

    def arms(self, scores: Mapping[str, Number], checkpoints, budget, **options) -> dict[str, Arm]:
        """An arm for each named score. checkpoints, budget: by these names, a name without checkpoints has none; or the
        same for all, as the options."""
        def of(name: str, given):
            return given.get(name, ()) if isinstance(given, Mapping) else given
        return {name: self.arm(name, one, checkpoints=of(name, checkpoints), budget=of(name, budget), **options)
                for name, one in scores.items()}

    def gain(self, mine: Number, other: Number) -> Number:
        """By how much `mine` is better: above 0 is better in either direction."""
        return np.subtract(mine, other) if self.better == "higher" else np.subtract(other, mine)

    def gain_percent(self, mine: Number, other: Number) -> Number:
        return 100 * self.gain(mine, other) / other

    def bound(self, which: str) -> float | None:
        """Mean floor or ceiling."""
        found = getattr(self, which)
        return None if found is None else float(np.mean(found))


@dataclass(frozen=True)
class Budget:
    """What one item costs an arm: a number, or one per item [K]; the unit in which arms are matched."""

    amount: Number
    unit: str

    def per_item(self, count: int) -> np.ndarray:
        return np.broadcast_to(np.asarray(self.amount, np.float64), count)


@dataclass(frozen=True)
class Tuned:
    """How many settings of an arm were tried, and on which items: never on those that are scored."""

    tries: int = 0
    on: str = ""

    def __post_init__(self):
        if self.tries > 1 and not self.on:
            raise ClaimError("say on which other items the settings were chosen")

    def __str__(self) -> str:
        return f"best of {self.tries} settings on {self.on}" if self.tries > 1 else "nothing tuned"


@dataclass(frozen=True, eq=False)
class Arm:
    """One side of a comparison. scores: [K], or [S, K] which is averaged over seeds first, since only items are
    independent. runs: scores [T, K] of several trainings, of which scores is the mean. checkpoints: names whose
    training is read from their cards."""

    name: str
    metric: Metric
    scores: np.ndarray
    budget: Budget = field(kw_only=True)
    runs: np.ndarray | None = field(default=None, kw_only=True)
    checkpoints: tuple[str, ...] = field(default=(), kw_only=True)
    tuned: Tuned = field(default=Tuned(), kw_only=True)

    def __post_init__(self):
        found = np.asarray(self.scores, np.float64)
        found = found.mean(0) if found.ndim == 2 else found
        if found.ndim != 1 or not len(found) or not np.isfinite(found).all():
            raise ClaimError(f"'{self.name}' needs one finite score per item, not an array {found.shape}")
        for which in ("floor", "ceiling"):
            if np.ndim(getattr(self.metric, which)) and len(getattr(self.metric, which)) != len(found):
                raise ClaimError(f"the {which} of '{self.metric.name}' is of other items than '{self.name}'")
        object.__setattr__(self, "scores", found)
        if self.runs is not None and np.shape(self.runs) != (len(self.runs), len(found)):
            raise ClaimError(f"the trainings of '{self.name}' were not scored on the same items")
        names = (self.checkpoints,) if isinstance(self.checkpoints, str) else tuple(self.checkpoints)
        object.__setattr__(self, "checkpoints", names)

    def at(self, which: str) -> bool:
        """Whether it cannot be told from its metric's floor (or ceiling) on these items."""
        end = getattr(self.metric, which)
        if end is None:
            return False
        gap = self.metric.gain(self.scores, end) if which == "floor" else self.metric.gain(end, self.scores)
        return bootstrap(gap)[1] <= 0


@dataclass(frozen=True, eq=False)
class Quantity:
    """A number with an interval: a statistic of rows of items [K] or [K, C]; None is their mean.

    floor, ceiling: the least and the most that it could be on these items, where that is known.
    """

    name: str
    items: np.ndarray
    unit: str = ""
    statistic: Callable[[np.ndarray], float] | None = None
    floor: float | None = None
    ceiling: float | None = None
    arms: tuple[Arm, ...] = ()

    def interval(self) -> tuple[float, float, float]:
        found = bootstrap(self.items, statistic=self.statistic)
        if not np.isfinite(found).all():
            raise ClaimError(f"'{self.name}' is no number on these items, or on some of their samples: {found}")
        return found

    @property
    def ties(self) -> float:
        """Share of the items on which two arms do not differ at all."""
        return float(np.mean(self.arms[0].scores == self.arms[1].scores)) if len(self.arms) == 2 else 0.0

    @property
    def span(self) -> float:
        """How far the number could go on these items; where that is not known, how far single items go."""
        if self.floor is not None and self.ceiling is not None:
            return self.ceiling - self.floor
        return float(np.ptp(self.items))

    def named(self, name: str) -> Quantity:
        return replace(self, name=name)


def mean_of(arm: Arm) -> Quantity:
    metric = arm.metric
    ends = metric.bound("floor"), metric.bound("ceiling")
    least, most = ends if metric.better == "higher" else ends[::-1]
    return Quantity(f"{metric.name}, {arm.name}", arm.scores, metric.unit, floor=least, ceiling=most, arms=(arm,))


def advantage(mine: Arm, other: Arm, by: str = "difference") -> Quantity:
    """How much better `mine` is than `other` on the same items, in the metric's unit or in percent of the other's mean;
    above 0 is better whatever the metric's direction."""
    metric = mine.metric
    if metric is not other.metric or len(mine.scores) != len(other.scores):
        raise ClaimError(f"'{mine.name}' and '{other.name}' are not scored by the same metric on the same items")
    floor, ceiling, level = metric.bound("floor"), metric.bound("ceiling"), float(other.scores.mean())
    if by not in ("difference", "percent"):
        raise ClaimError(f"by is 'difference' or 'percent', not '{by}'")
    gain = metric.gain if by == "difference" else metric.gain_percent
    low, high = (None if end is None else float(gain(end, level)) for end in (floor, ceiling))
    first, last = (mine, other) if metric.better == "higher" else (other, mine)
    if by == "difference":
        gains = np.asarray(metric.gain(mine.scores, other.scores))
        return Quantity(f"{metric.name}: {first.name} minus {last.name}", gains, points(metric.unit), None, low, high,
                        (mine, other))
    sign = "above" if metric.better == "higher" else "below"
    return Quantity(f"{metric.name}: {mine.name} {sign} {other.name} by", np.stack([mine.scores, other.scores], 1), "%",
                    lambda pairs: float(metric.gain_percent(*pairs.mean(0))), low, high, (mine, other))


def points(unit: str) -> str:
    """The unit of a difference of two numbers in `unit`: percentages differ by points."""
    return "points" if "%" in unit else unit


def rank_correlation(name: str, a: np.ndarray, b: np.ndarray, unit: str = "rank correlation") -> Quantity:
    """Spearman's rank correlation of two paired columns [K]."""
    def correlation(rows: np.ndarray) -> float:
        return float(np.nan_to_num(spearman(*rows.T)))  # a resample without any order has no relation
    return Quantity(name, np.stack([a, b], 1), unit, correlation, -1.0, 1.0)


def ratio(above, below, name: str, unit: str = "x", floor: float | None = None, ceiling: float | None = None):
    """The ratio of the means of two paired columns, arms or arrays [K], as a Quantity."""
    columns = [np.asarray(getattr(side, "scores", side), np.float64) for side in (above, below)]
    arms = tuple(side for side in (above, below) if isinstance(side, Arm))
    return Quantity(name, np.stack(columns, 1), unit, ratio_of_means, floor, ceiling, arms)

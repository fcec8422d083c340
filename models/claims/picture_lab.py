"""Shared by claims about pruned pictures: questions about held-out scenes, and how a pruned model answers them.

Floor: no patch at all, only the question. Ceiling: a rule that sees where the things are, but not the question, and
keeps the patches with most of their pixels; no rule that looks at the picture alone can be asked for more.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np
import torch

from models.checkpoints.store import Bundle, load
from models.claims.arms import Arm, Budget, Metric, Quantity
from models.loops.prune.forward import KeepPolicy, Pass, Pruner
from models.loops.prune.pictures import (
    CHECKPOINTS,
    PicturePlan,
    View,
    able,
    answer_logits,
    encoded,
    everything,
    last_state,
    one_stage,
    prefill,
)
from models.worlds.questions import Case, exam, mask

TEST = 72_000  # seed of the scenes that are scored; training and searches draw others
Rule = Callable[[int, View], PicturePlan]  # of the picture's number, for rules that draw


class PictureAnswers(NamedTuple):
    """100 or 0 per question [K], and patches x layers spent on its picture [K]."""

    hits: np.ndarray
    spent: np.ndarray


@dataclass(eq=False)
class EncodedScenes:
    """Scenes, encoded once, each with the id of its right answer; objects: pixels of things in each patch, [K, L]."""

    bundle: Bundle
    cases: list[Case]
    views: list[View]
    truth: list[int]
    objects: list[torch.Tensor]

    @classmethod
    def of(cls, count: int, without: Iterable[Case] = (), seed: int = TEST) -> EncodedScenes:
        """`count` scenes, none of which is one of `without`."""
        bundle = load(CHECKPOINTS[0])
        cases = exam(seed, count, without, able(bundle.card))
        views = [encoded(bundle.model, bundle.tokenizer, case.picture, case.questions[0]) for case in cases]
        truth = [bundle.tokenizer.convert_tokens_to_ids(view.question.answer) for view in views]
        return cls(bundle, cases, views, truth, [covered(case, view.grid) for case, view in zip(cases, views)])

    def states(self, rule: Rule) -> torch.Tensor:
        """The last state of each question [K, D], from which its answer is read."""
        return torch.stack([last_state(self.bundle.model, prefill(self.bundle.model, rule(number, seen), seen.ids)[1])
                            for number, seen in enumerate(self.views)])

    @cached_property
    def full(self) -> torch.Tensor:
        """The same with all patches."""
        return self.states(in_full)

    def sit(self, rule: Rule, count: int | None = None) -> PictureAnswers:
        """rule(number, view) -> plan, on the first `count` scenes."""
        plans = [rule(number, seen) for number, seen in enumerate(self.views[:count])]
        spent = [sum(plan.counts(seen.layers)) for plan, seen in zip(plans, self.views)]
        return self.answers(zip(plans, spent), lambda plan, seen: prefill(self.bundle.model, plan, seen.ids)[1])

    def answers(self, asked: Iterable[tuple[object, float]], read: Callable[[object, View], Pass]) -> PictureAnswers:
        """What read(plan, view) says, and what was spent on it."""
        model, hits, spent = self.bundle.model, [], []
        for (plan, cost), seen, right in zip(asked, self.views, self.truth):
            said = answer_logits(model, last_state(model, read(plan, seen))).argmax()
            hits.append(100.0 * (int(said) == right))
            spent.append(float(cost))
        return PictureAnswers(np.array(hits), np.array(spent))

    def ranked_inside(self, budget: np.ndarray) -> PictureAnswers:
        """The language model itself ranks the patches, by the attention that the question's last word pays in layer 1
        (FastV's rule); what is left of the budget [K] of patches x layers decides how many stay."""
        stay = [max(int(total - seen.count) // (seen.layers - 1), 0) for total, seen in zip(budget, self.views)]
        asked = [(number, seen.count + (seen.layers - 1) * number) for number, seen in zip(stay, self.views)]
        return self.answers(asked, partial(after_layer_1, self.bundle.model))

    def metric(self, budget: np.ndarray, at: str) -> Metric:
        """Right answers at one budget [K], with the floor and the ceiling on these scenes."""
        nothing = self.sit(lambda number, seen: PicturePlan(torch.arange(0), seen.features[:, :0],
                                                            torch.zeros(seen.count)))
        fullest = self.sit(lambda number, seen: one_stage(seen, share(budget, number, seen), self.objects[number]))
        return Metric(f"right answers at {at}", "% of questions", floor=nothing.hits, ceiling=fullest.hits)

    def arm(self, metric: Metric, name: str, *sat: PictureAnswers) -> Arm:
        """One arm, averaged over seeds, with what it spends on each picture."""
        return metric.arm(name, np.array([one.hits for one in sat]), checkpoints=self.bundle.name,
                          budget=Budget(np.mean([one.spent for one in sat], 0), "patches x layers"))


def covered(case: Case, grid: tuple[int, int]) -> torch.Tensor:
    """Pixels of things in each patch [L]."""
    pixels = np.any([mask(item) for item in case.items], 0)  # [S, S]
    size = pixels.shape[0] // grid[0]
    return torch.from_numpy(pixels.reshape(grid[0], size, grid[1], size).sum((1, 3)).ravel()).float()


def share(budget: np.ndarray, number: int, seen: View) -> float:
    """A budget [K] of patches x layers as a share of one picture's."""
    return float(budget[number]) / (seen.count * seen.layers)


def after_layer_1(model, stay: int, seen: View) -> Pass:
    """A prefill in which all patches but `stay` leave after layer 1, by the last word's attention there."""
    count, words = seen.count, len(seen.ids)

    def score(moment):
        return torch.where(moment.alive < count, moment.seen[0][moment.alive], float("inf"))

    rates = ((count - stay) / (count + words), *(0.0 for _ in range(seen.layers - 1)))
    pruner = Pruner(model.lm, KeepPolicy(rates, score, frozenset({0}), revive=False), count + words)
    with torch.inference_mode():
        ids = model.lm.model.embed_tokens(torch.tensor([seen.ids], device=model.lm.device))
        return pruner.enter(torch.cat([model.visual(seen.features), ids], 1), torch.arange(count + words))


def in_full(number: int, seen: View) -> PicturePlan:
    return everything(seen)


def random_rule(budget: np.ndarray, seed: int) -> Rule:
    """Random patches at each picture's own budget [K]."""
    return lambda number, seen: one_stage(seen, share(budget, number, seen), torch.rand(
        seen.count, generator=torch.Generator().manual_seed(seed * 1_000_003 + number)))


def looked_at_rule(budget: np.ndarray) -> Rule:
    """The patches that receive the most attention in the encoder's last layer, at each picture's own budget [K]."""
    return lambda number, seen: one_stage(seen, share(budget, number, seen), seen.attention.mean(0))


def gap_closed(mine: Arm, low: Arm) -> Quantity:
    """How much of the way from one arm to the metric's ceiling another one goes."""
    found = np.stack([mine.scores, low.scores, mine.metric.ceiling], 1)  # [K, 3]
    return Quantity(f"of the way from {low.name} to the ceiling: {mine.name}", found, "of 1",
                    lambda rows: float((rows[:, 0] - rows[:, 1]).mean() / max((rows[:, 2] - rows[:, 1]).mean(), 1e-9)),
                    0.0, 1.0, (mine,))

"""Shared by claims about pruned pictures: questions about held-out scenes, and how a pruned model answers them."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from models.checkpoints.store import Bundle
from models.claims import Row, bootstrap, row
from models.loops.prune.forward import Policy, Pruner
from models.loops.prune.pictures import Plan, Rule, View, answer_logits, encoded, last_state, one_stage, prefill
from models.worlds.questions import Case


@dataclass(frozen=True, eq=False)
class Board:
    """Scenes, encoded once, each with the id of its right answer."""

    bundle: Bundle
    views: list[View]
    truth: list[int]

    @classmethod
    def of(cls, bundle: Bundle, cases: Sequence[Case]) -> Board:
        views = [encoded(bundle.model, bundle.tokenizer, case.picture, case.questions[0]) for case in cases]
        return cls(bundle, views, [bundle.tokenizer.convert_tokens_to_ids(v.question.answer) for v in views])

    def hits(self, rule: Callable[[int, View], Plan], count: int | None = None) -> np.ndarray:
        """100 or 0 per question; rule(number, view) -> plan."""
        model, found = self.bundle.model, []
        for number, (seen, right) in enumerate(zip(self.views[:count], self.truth[:count], strict=True)):
            now = prefill(model, rule(number, seen), seen.ids)[1]
            found.append(100.0 * (int(answer_logits(model, last_state(model, now)).argmax()) == right))
        return np.array(found)

    def spent(self, rule: Rule) -> np.ndarray:
        """Share of layers x patches that a rule spends on each picture."""
        return np.array([rule(seen).share(seen.layers, seen.count) for seen in self.views])

    def looked_up(self, kept: np.ndarray) -> np.ndarray:
        """100 or 0 per question where the language model itself ranks the patches, by the attention that the question's
        last word pays in layer 1; the others have what is left of the budget kept [K]."""
        model, found = self.bundle.model, []
        for seen, right, share in zip(self.views, self.truth, kept, strict=True):
            total, later = round(share * seen.count * seen.layers) - seen.count, seen.layers - 1
            now = ranked_inside(model, seen, max(total // later, 0))
            found.append(100.0 * (int(answer_logits(model, last_state(model, now)).argmax()) == right))
        return np.array(found)


def ranked_inside(model, seen: View, stay: int):
    """A prefill in which all patches but `stay` leave after layer 1 (FastV's rule)."""
    count, words = seen.count, len(seen.ids)
    rank = torch.arange(count + words)

    def score(moment):
        return torch.where(rank[moment.alive] < count, moment.seen[0][moment.alive], float("inf"))

    rates = ((count - stay) / (count + words), *(0.0 for _ in range(seen.layers - 1)))
    pruner = Pruner(model.lm, Policy(rates, score, frozenset({0}), revive=False), count + words)
    with torch.inference_mode():
        ids = model.lm.model.embed_tokens(torch.tensor([seen.ids], device=model.lm.device))
        return pruner.enter(torch.cat([model.visual(seen.features), ids], 1), rank)


def random_rule(kept: np.ndarray, seed: int) -> Callable[[int, View], Plan]:
    """Random patches at each picture's own budget kept [K]."""
    return lambda number, seen: one_stage(seen, float(kept[number]), torch.rand(
        seen.count, generator=torch.Generator().manual_seed(seed * 1_000_003 + number)))


def looked_at_rule(kept: np.ndarray) -> Callable[[int, View], Plan]:
    """The patches that receive the most attention in the encoder's last layer, at each picture's own budget kept [K].
    """
    return lambda number, seen: one_stage(seen, float(kept[number]), seen.attention.mean(0))


def above(name: str, mine: np.ndarray, other: np.ndarray, least: float = 0.0) -> Row:
    """Paired difference in points; holds when it reaches `least` and its interval lies above zero."""
    value, low, high = bootstrap(mine - other)
    return Row(name, value, "points", len(mine), low, high,
               f"at least {least:g}, interval above 0" if least else "interval above 0",
               bool(value >= least and low > 0))


def retained(name: str, mine: np.ndarray, full: np.ndarray, least: float | None = None) -> Row:
    """Right answers of the pruned model as a share of the full model's, over resampled questions."""
    def share(pairs: np.ndarray) -> float:
        return 100 * pairs[:, 0].mean() / max(pairs[:, 1].mean(), 1e-9)

    value, low, high = bootstrap(np.stack([mine, full], 1), statistic=share)
    expected = "" if least is None else f"at least {least:g} %"
    return Row(name, value, "% of the full model's right answers", len(mine), low, high, expected,
               None if least is None else bool(low >= least))


def right(name: str, hits: np.ndarray) -> Row:
    return row(f"right answers, {name}", hits, "% of questions")

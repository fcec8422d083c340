"""How a draft is tested, and what that does to the distribution of what is written.

arXiv 2211.17192: a draft x from p is accepted with min(1, q(x) / p(x)), else a code is drawn from norm(max(q - p, 0)).
Relaxed rules hold the draft against another target; `outcome` adds up over all drafts what then comes out, exactly.

Letters: V vocabulary, X drafts looked at.
"""
from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

TINY = 1e-30


@dataclass(frozen=True, eq=False)
class Test:
    """What a rule says of X drafts. chance [X] to be accepted, plain [X] by the exact rule; spent [X]: probability
    moved onto the draft; taken [X]: from how many codes; left [X, V]: distribution of the replacement if refused."""

    chance: Tensor
    plain: Tensor
    spent: Tensor
    taken: Tensor
    left: Tensor


@dataclass(frozen=True)
class Exact:
    """Accept with min(1, q(x) / p(x)), else draw from norm(max(q - p, 0)): what comes out is distributed as q.

    greedy (temperature 0): accept what is q's likeliest code, else write that code. A relaxed rule overrides `raised`.
    """

    greedy: bool = False

    def __call__(self, q: Tensor, p: Tensor, drafts: Tensor) -> Test:
        """q, p float [V]; drafts int64 [X]."""
        raised, spent, taken = self.raised(q, drafts)
        left = certain(q).expand_as(raised) if self.greedy else self.left(raised, q, p, drafts)
        return Test(self.chance(raised, p, drafts), self.chance(q.expand_as(raised), p, drafts), spent, taken, left)

    def raised(self, q: Tensor, drafts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The target [X, V] that each draft is held against, the mass moved for it [X] and from how many codes [X]."""
        return q.expand(len(drafts), -1), torch.zeros(len(drafts)), torch.zeros(len(drafts), dtype=torch.long)

    def left(self, raised: Tensor, q: Tensor, p: Tensor, drafts: Tensor) -> Tensor:
        """Distributions [X, V] of the replacements."""
        return normalised((raised - p).clamp_min(0), q)

    def chance(self, target: Tensor, p: Tensor, drafts: Tensor) -> Tensor:
        """Probability [X] that each draft is accepted against its target [X, V]."""
        there = target.gather(1, drafts[:, None])[:, 0]
        if self.greedy:
            return (there >= target.amax(-1)).float()
        return (there / p[drafts].clamp_min(TINY)).clamp(max=1)


def certain(probs: Tensor) -> Tensor:
    """All probability [V] on the likeliest code."""
    return torch.zeros_like(probs).index_fill(0, probs.argmax(), 1.0)


def pick(probs: Tensor, u: float) -> int:
    """The code at u in 0..1 of the cumulative distribution [V]; never one without probability."""
    total = probs.double().cumsum(-1)
    return min(int(torch.searchsorted(total, u * float(total[-1]), right=True)), int(probs.nonzero().max()))


def normalised(left: Tensor, otherwise: Tensor) -> Tensor:
    """Rows [X, V] that sum to 1; a row without mass (p = q up to rounding, never refused) becomes `otherwise` [V]."""
    total = left.sum(-1, keepdim=True)
    return torch.where(total > 1e-9, left / total.clamp_min(TINY), otherwise)


def outcome(rule: Exact, q: Tensor, p: Tensor) -> Tensor:
    """Distribution [V] of the code that one test leaves behind, over all drafts x from p: sum_x p(x) (a(x) at x +
    (1 - a(x)) left_x). Drafts below 1e-5 are left out."""
    drafts = (p > 1e-5).nonzero()[:, 0]
    weight, test = p[drafts] / p[drafts].sum(), rule(q, p, drafts)
    out = (weight * (1 - test.chance)) @ test.left
    return out.index_add(0, drafts, weight * test.chance)


def off(rule: Exact, q: Tensor, p: Tensor) -> float:
    """Total variation between what one test leaves behind and the target q."""
    return float((outcome(rule, q, p) - (certain(q) if rule.greedy else q)).abs().sum() / 2)

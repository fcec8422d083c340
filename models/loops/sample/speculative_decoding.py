"""Speculative decoding in chains: a cheap drafter proposes a few codes, the target reads them all in one pass.

arXiv 2211.17192. One round: drafts x_1..x_g with their distributions p; one target pass gives q_1..q_{g+1}; drafts are
tested in turn; the first refused one is replaced by a draw from what the rule leaves, and if none is refused the target
draws one more; both caches go back to what stands. The rule alone decides how a draft is tested: `Exact` here is
lossless, a paper brings its own.

Every position is tested at most once, so its three uniform numbers (draft, test, replacement) may belong to the
position: two rules with the same seed see the same dice.

Letters: C condition words, N codes, M slots of one pass, D width, V vocabulary, X drafts looked at.
"""
from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

import kernels
from models.loops.sample.acceptance_rules import Exact, Test, certain, pick
from models.loops.sample.cached_lm import rewind
from models.loops.unmask.evaluation import branches, full_cost, guided
from models.trace import Cost
from models.trace.interventions import NOTHING, reachable


@dataclass(frozen=True, eq=False)
class Tested:
    """One draft under the target's eye: its position and code, q and p [V], the rule's test (X = 1), u, the verdict."""

    position: int
    draft: int
    q: Tensor
    p: Tensor
    test: Test
    u: float
    accepted: bool

    @property
    def relaxed(self) -> bool:
        """Accepted, and the exact rule would have refused it with the same u."""
        return self.accepted and self.u >= float(self.test.plain[0])


@dataclass(frozen=True, eq=False)
class DraftRound:
    """One round: codes drafted from position `first` on, those tested, the code that ends it with its distribution
    ([V], None at the end of the picture), ids int64 [N] after it (-1: open), cost and ms of drafter and target."""

    index: int
    first: int
    drafts: tuple[int, ...]
    tested: tuple[Tested, ...]
    last: int | None
    drawn_from: Tensor | None
    ids: Tensor
    cost: Cost
    ms: tuple[float, float]

    @property
    def accepted(self) -> int:
        return sum(one.accepted for one in self.tested)


@dataclass(frozen=True)
class DraftPlan:
    """ahead: drafts per round. favourite: the drafter proposes its likeliest code, and p is 1 there, instead of a draw
    from p. guidance g: (1 + g) conditional - g unconditional logits, for target and drafter alike."""

    ahead: int = 4
    favourite: bool = False
    sampler: kernels.Sampler = field(default_factory=kernels.Sampler)
    guidance: float = 0.0


class Chain:
    """Target and drafter with their caches on one picture. At rest the target has read the prefix and the slots of all
    codes that stand; `states` [B, S, D] are its last states there, B = 2 with guidance."""

    def __init__(self, target, drafter, cond: Tensor, plan: DraftPlan):
        from transformers import DynamicCache
        self.target, self.drafter, self.plan = target, drafter, plan
        self.size, self.prefix = target.grid[0] * target.grid[1], target.cond_length
        blank = torch.full((1, self.size), target.mask_token_id, device=cond.device)
        blank, self.cond = branches(target, blank, cond, plan.guidance)
        hidden, self.angles = target.slots(blank, self.cond)
        self.cache, self.draft_cache, self.rows = DynamicCache(), DynamicCache(), len(blank)
        self.codes = [target.mask_token_id]  # codes[i] is what slot i carries: code i - 1
        self.cost, self.drafted = Cost(), 0  # since the last lap; the drafter's multiply-adds in all
        self.head = hidden[:, : self.prefix]
        self.states = target.states(self.head, self.at(0, self.prefix), self.cache)
        self.cost += self.spent(target, self.prefix, 0, self.prefix)

    def at(self, first: int, last: int) -> tuple[Tensor, Tensor]:
        """Rotary tables of slots first .. last - 1, the prefix included."""
        return self.angles[0][:, first:last], self.angles[1][:, first:last]

    def inputs(self, codes: list[int], first: int) -> Tensor:
        """Inputs [B, M, D] of the slots from `first` on (the prefix not counted) that carry these codes."""
        return self.target.inputs(torch.tensor([codes], device=self.head.device).expand(self.rows, -1), first)

    def probabilities(self, states: Tensor) -> Tensor:
        """Warped, guided probabilities [M, V] read from states [B, M, D]; at temperature 0 as at temperature 1."""
        logits = guided(self.target.head(states).float(), 1, self.plan.guidance)[0]
        sampler = self.plan.sampler
        if sampler.temperature == 0:
            sampler = kernels.Sampler(1.0, sampler.top_k, sampler.top_p, sampler.min_p)
        return kernels.warp(logits, sampler).softmax(-1).cpu()

    def propose(self, dice: Tensor) -> tuple[list[int], list[Tensor]]:
        """Drafts from the next open position on, and p [V] of each. dice [N] uniform."""
        favourite = self.plan.favourite or self.plan.sampler.temperature == 0  # greedy decoding drafts greedily
        first, drafts, ps = len(self.codes) - 1, [], []
        state = self.catch_up()
        for t in range(first, min(first + self.plan.ahead, self.size)):
            state = self.guess(drafts[-1:], t, state) if drafts else state
            p = self.probabilities(state)[0]
            ps.append(certain(p) if favourite else p)
            drafts.append(pick(ps[-1], float(dice[t])))
        return drafts, ps

    def catch_up(self) -> Tensor:
        """The drafter reads what the target has read since (slot 0 has no state before it); its guess [B, 1, D] of the
        state that the target will have at the next open position."""
        seen, end = self.draft_cache.get_seq_length(), self.prefix + len(self.codes) - 1
        known = torch.cat([self.head[:, 1:], self.inputs(self.codes, 0)], 1)[:, seen:]
        self.note(self.spent(self.drafter, known.shape[1], 1, end))
        return self.drafter(known, self.states[:, seen:end], self.at(seen + 1, end + 1), self.draft_cache)[:, -1:]

    def guess(self, draft: list[int], t: int, state: Tensor) -> Tensor:
        """The drafter's guess [B, 1, D] of the state at position t, behind a draft and its own guess before."""
        at = self.prefix + t
        self.note(self.spent(self.drafter, 1, 1, at))
        return self.drafter(self.inputs(draft, t), state, self.at(at, at + 1), self.draft_cache)

    def verify(self, drafts: list[int]) -> Tensor:
        """q [M, V] at every draft's position and, within the picture, at the one after: one target pass."""
        t = len(self.codes) - 1
        read = [self.codes[-1], *drafts][: self.size - t]
        first = self.prefix + t
        found = self.target.states(self.inputs(read, t), self.at(first, first + len(read)), self.cache)
        self.states = torch.cat([self.states, found], 1)
        self.cost += self.spent(self.target, len(read), len(read), first + len(read))
        return self.probabilities(found)

    def settle(self, codes: list[int]) -> None:
        """Appends what stands now and forgets what both caches know beyond it."""
        before = self.prefix + len(self.codes) - 1
        self.codes += codes
        keep = self.prefix + len(self.codes) - 1
        self.states = self.states[:, :keep]
        rewind(self.cache, keep)
        rewind(self.draft_cache, before)  # entries up to here were made from true states

    def lap(self, ms: float) -> Cost:
        """The cost since the last lap; the first one includes the reading of the caption."""
        cost, self.cost = replace(self.cost, ms=ms), Cost()
        return cost

    @property
    def alone(self) -> Cost:
        """What the target alone spends on the picture, one pass per code."""
        ends = range(self.prefix + 1, self.prefix + self.size + 1)
        return sum((self.spent(self.target, 1, 1, end) for end in ends), self.spent(self.target, self.prefix, 0,
                                                                                    self.prefix))

    def note(self, cost: Cost) -> None:
        """What the drafter spent."""
        self.cost, self.drafted = self.cost + cost, self.drafted + cost.macs

    def spent(self, net, slots: int, read: int, end: int) -> Cost:
        """Rows and multiply-adds of the last `slots` of `end` slots, of which the target's head reads `read`: drafts
        are read by it, too."""
        fuse, own = getattr(net, "fuse", None), net is self.target
        layers = len(net.layers) if own else 1
        counted = full_cost(self.target, self.rows, slots, read, layers)
        seen = 2 * layers * slots * (end - slots) * self.target.layers[0].self_attn.q_proj.out_features
        fused = 0 if fuse is None else slots * fuse.weight.numel()
        return Cost(int(own), counted.rows, counted.macs + self.rows * (seen + fused))


@torch.inference_mode()
def rounds(chain: Chain, rule: Exact, dice: Tensor, put: Mapping[int, int] = NOTHING) -> Iterator[DraftRound]:
    """Rounds until the picture is full. dice [N, 3] uniform: draft, test, replacement of every position. put: position
    -> the code that a visitor wants there: a round that would write it ends with it."""
    index = 0
    while (first := len(chain.codes) - 1) < chain.size:
        began = time.perf_counter()
        drafts, ps = chain.propose(dice[:, 0])
        half = time.perf_counter()
        qs = chain.verify(drafts)
        tested, left = examine(rule, drafts, ps, qs, dice[:, 1], first)
        good = [one.draft for one in tested if one.accepted]
        last = None if left is None else pick(left, float(dice[first + len(good), 2]))
        reachable(put, 0, chain.size, qs.shape[-1])
        tested, good, last, left = ended_by(put, first, tested, good, last, left, qs)
        chain.settle(good if last is None else [*good, last])
        ms = 1000 * (half - began), 1000 * (time.perf_counter() - half)
        yield DraftRound(index, first, tuple(drafts), tested, last, left, ids_of(chain), chain.lap(sum(ms)), ms)
        index += 1


def ended_by(put: Mapping[int, int], first: int, tested, good: list[int], last: int | None, left, qs: Tensor):
    """The round cut off at the first position that a visitor overwrites: its code is the last one."""
    written = len(good) + (last is not None)
    here = min((at - first for at in put if first <= at < first + written), default=None)
    if here is None:
        return tested, good, last, left
    return tested[:here], good[:here], put[first + here], qs[here]


def examine(rule: Exact, drafts: list[int], ps: list[Tensor], qs: Tensor, dice: Tensor, first: int):
    """The drafts tested, up to the first refused one, and the distribution of the code that ends the round (or None).
    """
    tested = []
    for i, (draft, p) in enumerate(zip(drafts, ps)):
        test, u = rule(qs[i], p, torch.tensor([draft])), float(dice[first + i])
        tested.append(Tested(first + i, draft, qs[i], p, test, u, u < float(test.chance[0])))
        if not tested[-1].accepted:
            return tuple(tested), test.left[0]
    if len(qs) == len(drafts):
        return tuple(tested), None
    return tuple(tested), certain(qs[-1]) if rule.greedy else qs[-1]


def ids_of(chain: Chain) -> Tensor:
    """Codes int64 [N], -1 where open."""
    ids = torch.full((chain.size,), -1)
    ids[: len(chain.codes) - 1] = torch.tensor(chain.codes[1:], dtype=torch.long)
    return ids

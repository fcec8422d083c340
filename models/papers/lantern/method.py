"""LANTERN: a draft is accepted with the summed probability of its look-alikes, within a budget (arXiv 2410.03355).

For a draft x let n_1, n_2, ... be the other codes by distance of their entries, c_j = q(n_1) + ... + q(n_j), and j* the
largest j <= k with c_j <= delta. Accept x with min(1, (q(x) + c_j*) / p(x)); refused, draw from norm(max(q_A - p, 0)),
q_A being q with the neighbours' mass moved onto x. What is written is x itself. That move changes q by c_j* <= delta in
total variation - for this one draft. Every draft pulls q towards itself, so what comes out may be much further from q:
`off` (models/loops/sample/acceptance_rules.py) adds it up over all drafts, and the picture shows it next to delta.
Only where the drafter has one possible draft (its favourite, p = 1) is the budget a bound on the output too.

rejection "code" is what the reference does after a refusal: where at least one neighbour fitted the budget, x's k + 1
nearest codes (its table leaves x itself out) cannot replace a favourite, and count as not drafted where drafts are
drawn; where none fitted, as at delta 0, it is the exact rule. The paper's rule is from memory and unverified.
Not covered: trees of drafts, the relative budget of LANTERN++ (delta > 1), the public 775 M and 7 B models.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated

import torch
from torch import Tensor

from models.baselines.speculative import method as speculative
from models.engine.method import Card, Event, Method
from models.loops.sample.acceptance_rules import Exact, normalised
from models.loops.sample.drafting_records import recorded
from models.trace.params import Choice, Span

KINDS = ("nearest", "shuffled")
REJECTIONS = ("paper", "code")


@dataclass(frozen=True)
class Params(speculative.Params):
    drafts: Annotated[str, speculative.DRAFTS] = "favourite"
    delta: Annotated[float, Span(0, 0.8, 0.05, "Budget delta", "How much probability of its neighbours a draft may "
                                 "borrow; 0 is exact.")] = 0.2
    neighbours: Annotated[str, Choice(KINDS, "Neighbours", "Shuffled: the sceptic's control, any codes until the "
                                      "budget is full.", titles=("nearest codes (the method)", "shuffled codes"))
                          ] = "nearest"
    k: Annotated[int, Span(0, 512, 1, "Most neighbours", "The paper takes a sixteenth of the codes.", fold=True)] = 32
    rejection: Annotated[str, Choice(REJECTIONS, "After a refusal", "What the replacement is drawn from.", fold=True,
                                     titles=("what the paper leaves", "as in the reference code"))] = "paper"


@dataclass(frozen=True)
class Relaxed(Exact):
    """The exact rule against a target that has moved its neighbours' mass onto the draft."""

    order: Tensor | None = None  # [V, V - 1] other codes by distance
    k: int = 32
    delta: float = 0.2
    rejection: str = "paper"

    def raised(self, q: Tensor, drafts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        near = self.order[drafts, : self.k]  # [X, k]
        mass = q[near]
        taken = (mass.cumsum(-1) <= self.delta).sum(-1)  # c_j grows with j, so these are the first j*
        mass = mass * (torch.arange(near.shape[1]) < taken[:, None])
        spent = mass.sum(-1)
        moved = q.expand(len(drafts), -1).scatter_add(1, near, -mass)
        return moved.scatter_add(1, drafts[:, None], spent[:, None]).clamp_min(0), spent, taken

    def left(self, raised: Tensor, q: Tensor, p: Tensor, drafts: Tensor) -> Tensor:
        if self.rejection == "paper":
            return super().left(raised, q, p, drafts)
        fitted = self.raised(q, drafts)[2] > 0
        gone = torch.zeros(len(drafts), len(q), dtype=torch.bool).scatter(1, self.order[drafts, : self.k + 1], True)
        gone &= fitted[:, None]  # [X, V]
        if float(p.max()) == 1:  # a favourite
            return normalised((q - p).clamp_min(0).masked_fill(gone, 0.0), q)
        return normalised((q - p.expand(len(drafts), -1).masked_fill(gone, 0.0)).clamp_min(0), q)


@lru_cache(maxsize=8)
def by_distance(tokenizer, kind: str = "nearest") -> Tensor:
    """For every code all others, nearest entry first [V, V - 1]; shuffled: the same lists under a permuted codebook."""
    entries = tokenizer.entries.detach().float().cpu()
    if kind == "shuffled":
        entries = entries[torch.randperm(len(entries), generator=torch.Generator().manual_seed(0))]
    apart = torch.cdist(entries, entries, compute_mode="donot_use_mm_for_euclid_dist")
    return apart.fill_diagonal_(float("inf")).argsort(dim=1, stable=True)[:, :-1]  # a code is not its own neighbour


def rule(p: Params, tokenizer) -> Relaxed:
    """The paper's rule; shuffled neighbours know no nearest k, so only the budget ends them."""
    order = by_distance(tokenizer, p.neighbours)
    k = p.k if p.neighbours == "nearest" else order.shape[1]
    return Relaxed(p.temperature == 0, order, k, p.delta, p.rejection)


def run(job) -> Iterator[Event]:
    return recorded(job, rule(job.params, job.companion(speculative.CODES).model))


def beside(p: Params) -> dict:
    """The exact rule with the same drafter, dice and settings."""
    return {name: getattr(p, name) for name in speculative.Params.__dataclass_fields__}


METHOD = Method(
    bound="its drafter and its neighbours of codes belong to its own checkpoint",
    card=Card(
        id="lantern", title="LANTERN: relaxed acceptance", tabs=("sample", "unmask"),
        arxiv="2410.03355", year=2024, seed="A",
        summary="A drafter proposes codes of a picture and the model checks several in one pass. Where many codes "
                "paint nearly the same, exact checking refuses most; LANTERN lets a draft borrow its neighbours' "
                "probability.",
        flow="codes so far > drafter > drafted codes > target checks all at once > *neighbours lend "
             "probability > accepted or refused; accepted or refused ~> codes so far",
        look_at="Cells in a dashed frame were accepted only by borrowing. Switch the light off: a scene whose codes "
                "have no look-alikes leaves almost nothing to borrow.",
        not_covered="Trees of drafts, the relative budget of LANTERN++, LlamaGen and Anole; Frechet distance (a parser "
                    "reads the scenes).",
        unverified="The paper's replacement rule and its ambiguity figures are from memory."),
    params=Params, accepts="caption", checkpoints=speculative.METHOD.checkpoints,
    companions=speculative.METHOD.companions, run=run, examples=speculative.METHOD.examples, baseline="speculative",
    baseline_params=beside, turn=speculative.METHOD.turn)

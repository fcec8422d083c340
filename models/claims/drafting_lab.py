"""Shared by the claims on speculative decoding: pictures drawn under a rule, and how far they carried.

Letters: K pictures, N codes, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

import kernels
from models.checkpoints.store import load
from models.loops.sample.acceptance_rules import Exact, off, pick
from models.loops.sample.drafting_records import CODES, DRAFTER, condition
from models.loops.sample.speculative_decoding import Chain, DraftPlan, ids_of, rounds
from models.loops.unmask.canvases import picture
from models.worlds import scenes

EVERY = 5  # tested codes whose output distribution is added up over all drafts
SEED = 300  # of the captions


class Nets(NamedTuple):
    target: torch.nn.Module
    drafter: torch.nn.Module
    tokenizer: torch.nn.Module


@dataclass(frozen=True, eq=False)
class Played:
    """Pictures under one rule. length [K]: codes per pass of the target; score [K]; off [K]: total variation of what
    comes out from the target, mean per tested code; macs [K]: multiply-adds, drafts included; lean [K]: see `lean`; ids
    int64 [K, N]; q, and what was written there (see `seen`)."""

    length: np.ndarray
    score: np.ndarray
    off: np.ndarray
    macs: np.ndarray
    lean: np.ndarray
    ids: torch.Tensor
    q: torch.Tensor


def nets() -> Nets:
    return Nets(load("scene-ar-1").model, load(DRAFTER).model, load(CODES).model)


def played(found: Nets, rule: Exact, count: int, *, light: bool = True, favourite: bool = False, seed: int = 0,
           ahead: int = 4) -> Played:
    """`count` captions of the world, each drawn once; two rules with one seed see the same captions and dice."""
    plan, rows = DraftPlan(ahead, favourite, kernels.Sampler(1.0)), []
    for number, things in enumerate(scenes.several(count, SEED + seed)):
        chain = started(found, scenes.caption(things), light, plan)
        dice = torch.rand(chain.size, 3, generator=torch.Generator().manual_seed(1000 * seed + number))
        rows.append((things, list(rounds(chain, rule, dice))))
    return Played(*map(np.array, zip(*(numbers(found, rule, things, done) for things, done in rows))),
                  torch.stack([done[-1].ids for _, done in rows]), torch.stack([seen(done) for _, done in rows]))


@torch.inference_mode()
def started(found: Nets, caption: str, light: bool, plan: DraftPlan) -> Chain:
    return Chain(found.target, found.drafter, condition(caption, light, found.tokenizer.entries.device), plan)


def numbers(found: Nets, rule: Exact, things, done) -> tuple[float, ...]:
    """The numbers of `Played` for one picture."""
    tested = [one for each in done for one in each.tested]
    painted = picture(found.tokenizer, done[-1].ids[None].to(found.tokenizer.entries.device), -1, found.target.grid)
    away = [off(rule, one.q, one.p) for one in tested[::EVERY]]
    return (len(done[-1].ids) / len(done), scenes.score(things, scenes.parse(painted)), float(np.mean(away)),
            sum(each.cost.macs for each in done), lean(tested, done[-1].ids))


def lean(tested, ids: torch.Tensor) -> float:
    """By how much what stands at the tested places is what the drafter overrates: the mean of
    (1 - b) - max(0, 1 - p / q), b = sum of min(p, q). Draws from q average 0; a rule that draws replacements from q
    instead of norm(max(q - p, 0)) moves q by just this share of itself, so no other statistic sees it as well."""
    q, p = (torch.stack([getattr(one, side) for one in tested]).double() for side in "qp")  # [T, V]
    stands = ids[[one.position for one in tested]][:, None]
    refused = 1 - torch.minimum(p, q).sum(1)
    return float((refused - (1 - p / q.clamp_min(1e-30)).clamp_min(0).gather(1, stands)[:, 0]).mean())


@torch.inference_mode()
def alone(found: Nets, caption: str, light: bool) -> torch.Tensor:
    """Codes [N] of a picture that the target draws by itself, one pass per code, with the cache that rounds have."""
    chain = started(found, caption, light, DraftPlan())
    for u in torch.rand(chain.size, generator=torch.Generator().manual_seed(0)).tolist():
        chain.settle([pick(chain.verify([])[0], u)])
    return ids_of(chain)


def seen(done) -> torch.Tensor:
    """The target's distribution at every code of a picture, [N, V]: each was tested or drawn from it once."""
    q = {one.position: one.q for each in done for one in each.tested}
    q |= {each.first + each.accepted: each.drawn_from for each in done
          if each.last is not None and each.first + each.accepted not in q}
    return torch.stack([q[at] for at in range(len(q))])

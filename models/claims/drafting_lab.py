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
from models.claims.scene_lab import requests
from models.loops.sample.acceptance_rules import Exact, off
from models.loops.sample.drafting_records import CODES, DRAFTER, condition
from models.loops.sample.speculative_decoding import Chain, Plan, rounds
from models.loops.unmask.canvases import picture
from models.worlds import scenes

EVERY = 5  # tested codes whose output distribution is added up over all drafts


class Nets(NamedTuple):
    target: torch.nn.Module
    drafter: torch.nn.Module
    tokenizer: torch.nn.Module


@dataclass(frozen=True, eq=False)
class Played:
    """Pictures under one rule. length [K]: codes per pass of the target; score [K]; off [K]: total variation of what
    comes out from the target, mean per tested code; ids int64 [K, N]; q, and what was written there (see `seen`)."""

    length: np.ndarray
    score: np.ndarray
    off: np.ndarray
    relaxed: np.ndarray
    ids: torch.Tensor
    q: torch.Tensor


def nets() -> Nets:
    return Nets(load("scene-ar-1").model, load(DRAFTER).model, load(CODES).model)


def played(found: Nets, rule: Exact, count: int, *, light: bool = True, favourite: bool = False, seed: int = 0,
           ahead: int = 4) -> Played:
    """`count` captions of the world, each drawn once; two rules with one seed see the same captions and dice."""
    plan, rows = Plan(ahead, favourite, kernels.Sampler(1.0)), []
    for number, things in enumerate(requests(count, 300 + seed)):
        chain = started(found, scenes.caption(things), light, plan)
        dice = torch.rand(chain.size, 3, generator=torch.Generator().manual_seed(1000 * seed + number))
        rows.append((things, list(rounds(chain, rule, dice))))
    return Played(*map(np.array, zip(*(numbers(found, rule, things, done) for things, done in rows))),
                  torch.stack([done[-1].ids for _, done in rows]), torch.stack([seen(done) for _, done in rows]))


@torch.inference_mode()
def started(found: Nets, caption: str, light: bool, plan: Plan) -> Chain:
    return Chain(found.target, found.drafter, condition(caption, light, found.tokenizer.entries.device), plan)


def numbers(found: Nets, rule: Exact, things, done) -> tuple[float, float, float, float]:
    """Codes per pass, parser score, mean distance of what comes out, share of drafts accepted only by borrowing."""
    tested = [one for each in done for one in each.tested]
    painted = picture(found.tokenizer, done[-1].ids[None].to(found.tokenizer.entries.device), -1, found.target.grid)
    away = [off(rule, one.q, one.p) for one in tested[::EVERY]]
    return (len(done[-1].ids) / len(done), scenes.score(things, scenes.parse(painted)), float(np.mean(away)),
            float(np.mean([one.relaxed for one in tested])))


def seen(done) -> torch.Tensor:
    """The target's distribution at every code of a picture, [N, V]: each was tested or drawn from it once."""
    q = {one.position: one.q for each in done for one in each.tested}
    q |= {each.first + each.accepted: each.drawn_from for each in done
          if each.last is not None and each.first + each.accepted not in q}
    return torch.stack([q[at] for at in range(len(q))])


def chi_square(ours: np.ndarray, theirs: np.ndarray, least: int = 10) -> tuple[float, int]:
    """Two samples of codes [A] and [B] compared: statistic and degrees of freedom; rare codes share one class."""
    size = int(max(ours.max(), theirs.max())) + 1
    table = np.stack([np.bincount(sample, minlength=size) for sample in (ours, theirs)]).astype(float)
    rare = table.sum(0) < least
    table = np.concatenate([table[:, ~rare], table[:, rare].sum(1, keepdims=True)], 1)
    table = table[:, table.sum(0) > 0]
    expected = table.sum(1, keepdims=True) * table.sum(0) / table.sum()
    return float(((table - expected) ** 2 / expected).sum()), table.shape[1] - 1


def beyond(statistic: float, freedom: int) -> float:
    """p-value: probability of a chi-square value at least this large."""
    if not freedom:
        return 1.0
    return float(torch.special.gammaincc(torch.tensor(freedom / 2).double(), torch.tensor(statistic / 2).double()))

"""Unmask: one evaluation of the network: what it may look at, what it answers, and what it costs.

`Full` is the base model, every row at every move; a method with its own choice of rows brings its own evaluation from
the same parts (`branches`, `read`, `indices`).

A backbone is asked for four things: look(ids, cond), one pass over everything, in its own form; read(looked,
positions), logits [B, P, V] from that; with_null(cond), the condition and then the one that says nothing; spent(tokens,
read_out), rows and multiply-adds of one sample's pass. What a condition is, only the backbone knows.

Letters: B samples, N tokens, P evaluated masked positions, V vocabulary, C condition words, D width.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from models.trace import Cost


@dataclass(frozen=True)
class Move:
    """One evaluation and the `count` tokens it reveals. ahead: how many more are picked out now, by the same ranking,
    for each of the moves that follow; those moves reveal just them."""

    count: int
    label: str = "full"
    ahead: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Moment:
    """What an evaluation may look at. ids [B, N]; masked and fresh (revealed by the last move) bool [B, N]; aside
    int64 [B, N]: j where the j-th move after the one that picked it out will reveal it, else 0; the same number of
    tokens in every sample; made: share of the moves before it."""

    index: int
    move: Move
    ids: Tensor
    masked: Tensor
    fresh: Tensor
    aside: Tensor
    made: float = 0.0


@dataclass(frozen=True, eq=False)
class Evaluation:
    """logits [B, P, V] at the masked positions [B, P]; rows bool [B, N] tokens recomputed; cost with its own ms."""

    positions: Tensor
    logits: Tensor
    rows: Tensor
    cost: Cost


@dataclass
class Full:
    """Every row at every move: the base model, with classifier-free guidance g: (1 + g) conditional - g unconditional.

    cond: the backbone's condition for B samples, or None; forbidden ids are never proposed. Both branches run as one
    batch. Moves after the share `until` are not guided (arXiv 2404.07724 does so in diffusion): one branch, half the
    work.
    """

    model: nn.Module
    cond: Any = None
    guidance: float = 0.0
    forbidden: tuple[int, ...] = ()
    until: float = 1.0

    def __call__(self, moment: Moment) -> Evaluation:
        guidance = self.guidance if moment.made < self.until else 0.0
        ids, cond = branches(self.model, moment.ids, self.cond, guidance)
        looked, positions = self.model.look(ids, cond), indices(moment.masked)
        logits = read(self.model, looked, positions, guidance, self.forbidden)
        cost = full_cost(self.model, len(ids), looked.shape[1], positions.shape[1])
        return Evaluation(positions, logits, torch.ones_like(moment.masked), cost)


def branches(model, ids: Tensor, cond: Any, guidance: float) -> tuple[Tensor, Any]:
    """ids and condition of the passes that guidance needs: conditional first, then, if any, unconditional."""
    if cond is None or not guidance:
        return ids, cond
    return torch.cat([ids, ids]), model.with_null(cond)


def read(model, looked: Tensor, positions: Tensor, guidance: float, forbidden: tuple[int, ...] = ()) -> Tensor:
    """Guided logits [B, P, V] at canvas positions [B, P] of what a pass over B or 2B samples left."""
    both = positions.repeat(len(looked) // len(positions), 1)
    logits = guided(model.read(looked, both).float(), len(positions), guidance)
    if forbidden:
        logits[..., list(forbidden)] = float("-inf")
    return logits


def guided(logits: Tensor, samples: int, guidance: float) -> Tensor:
    """(1 + g) conditional - g unconditional of logits [2B, P, V]; unchanged where there is one branch."""
    if len(logits) == samples:
        return logits
    return (1 + guidance) * logits[:samples] - guidance * logits[samples:]


def indices(chosen: Tensor) -> Tensor:
    """Ascending positions [B, P] of bool [B, N] with P true entries in every sample."""
    return chosen.nonzero()[:, 1].reshape(len(chosen), -1)


def full_cost(model, batch: int, tokens: int, read_out: int, layers: int | None = None) -> Cost:
    """One pass of `batch` samples over all tokens, condition included; layers: how many, by default all."""
    rows, macs = model.spent(tokens, read_out, layers)
    return Cost(1, batch * rows, batch * macs)


def full_work(model, counts: Sequence[int], guidance: float, until: float = 1.0) -> int:
    """Multiply-adds of `Full` moves that reveal these counts."""
    masked, spent = sum(counts), 0
    everyone = masked + model.cond_length
    for index, count in enumerate(counts):
        batch = 1 + (guidance > 0 and index / len(counts) < until)
        spent += full_cost(model, batch, everyone, masked).macs
        masked -= count
    return spent

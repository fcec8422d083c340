"""Trials: continuations of one text, rolled out side by side until each stops, and what each of them saw."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

import kernels
from kernels import Sampler

SURELY = 1 - 1e-4  # trials of the same words differ by rounding, which depends on the machine: the first one is kept


@dataclass(frozen=True, eq=False)
class LogitsMoment:
    """Logits [P, V] before and after the warpers at P units: one where a decision is made, more along a trial, and then
    the units that were written there."""

    logits: Tensor
    warped: Tensor
    ids: tuple[int, ...] = ()

    @cached_property
    def entropy(self) -> float:
        """Nats at the first unit, before the warpers."""
        return float(kernels.vocab_stats(self.logits[0], top_k=1).entropy)

    @cached_property
    def warped_entropy(self) -> float:
        """Nats at the first unit, after the warpers."""
        return float(kernels.vocab_stats(self.warped[0], top_k=1).entropy)

    @cached_property
    def cut(self) -> list[float]:
        """Probability [P] of the units that the warpers exclude."""
        inside = self.logits.masked_fill(self.warped.isneginf(), float("-inf"))
        kept = kernels.vocab_stats(inside, top_k=1).lse - kernels.vocab_stats(self.logits, top_k=1).lse
        return (-torch.expm1(kept)).clamp_min(0).tolist()


@dataclass(eq=False)
class Trial:
    """One continuation: its units, their log-probabilities after the warpers, why it stopped, and what it saw [V]."""

    ids: list[int] = field(default_factory=list)
    logp: list[float] = field(default_factory=list)
    stop: str = ""
    logits: list[Tensor] = field(default_factory=list)
    warped: list[Tensor] = field(default_factory=list)

    @property
    def perplexity(self) -> float:
        """exp(- mean log p) over all its units, the first and the last included."""
        return math.exp(-sum(self.logp) / len(self.logp))


@dataclass(frozen=True)
class Ends:
    """What ends a trial: the unit that ends a text, the stop units, or its length."""

    end: int | None
    stops: frozenset[int]
    longest: int

    def reason(self, ids: list[int]) -> str:
        """Why a trial is over, or "" while it runs."""
        if ids[-1] == self.end:
            return "the end of the text"
        if ids[-1] in self.stops:
            return "punctuation"
        return "the length limit" if len(ids) >= self.longest else ""


def roll_out(live, sampler: Sampler, over: Ends, dice: torch.Generator, forced: int | None = None):
    """Continues every text of `live` until it stops: trials, the least perplexing one, its source before its last unit.

    All running trials share one model call per unit; a finished one leaves the batch. `live` must be the caller's to
    give away: pass a fork.
    """
    trials = [Trial() for _ in live.logits]
    running, kept = list(range(len(trials))), None
    while True:
        extend([trials[k] for k in running], live.logits, sampler, dice, forced)
        for k in running:
            trials[k].stop = over.reason(trials[k].ids)
        for row, k in enumerate(running):
            if trials[k].stop and (kept is None or trials[k].perplexity < SURELY * trials[kept[0]].perplexity):
                kept = k, live.select([row]) if len(running) > 1 else live
        rows = [row for row, k in enumerate(running) if not trials[k].stop]
        if not rows:
            return trials, *kept
        live = live if len(rows) == len(running) else live.select(rows)
        running = [running[row] for row in rows]
        live.push([trials[k].ids[-1] for k in running])


def extend(trials: list[Trial], logits: Tensor, sampler: Sampler, dice, forced: int | None) -> None:
    """One more unit for each trial, drawn from the warped logits [B, V]; the first one too, it is never the argmax."""
    warped = kernels.warp(logits, sampler)
    units = kernels.draw(warped, Sampler(), dice) if forced is None else torch.full(logits.shape[:1], forced)
    seen = warped if forced is None else logits  # a visitor may choose what the warpers exclude
    logp = kernels.vocab_stats(seen, top_k=1, chosen=units.to(seen.device)).chosen_logp.tolist()
    for row, unit in enumerate(units.tolist()):
        trials[row].ids.append(unit)
        trials[row].logp.append(logp[row])
        trials[row].logits.append(logits[row])
        trials[row].warped.append(warped[row])

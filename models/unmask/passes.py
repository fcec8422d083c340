"""Unmask: one evaluation of the network: what it may look at, what it answers, and what it costs.

`Full` is the base model, every row at every move; a method with its own choice of rows brings its own evaluation from
the same parts (`branches`, `read`, `indices`).

Letters: B samples, N tokens, P evaluated masked positions, V vocabulary, C condition words, D width.
"""
from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.trace import Cost


@dataclass(frozen=True)
class Move:
    """One evaluation and the `count` tokens it reveals. ahead: how many more are picked out now, by the same ranking,
    for the moves that follow; those moves take from them only."""

    count: int
    label: str = "full"
    ahead: int = 0


@dataclass(frozen=True, eq=False)
class Moment:
    """What an evaluation may look at. ids [B, N]; masked, fresh (revealed by the last move) and aside (picked out for
    moves to come) bool [B, N], with the same number of tokens in every sample; made: share of the moves before it."""

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

    cond int64 [B, C] or None; forbidden ids are never proposed. Both branches run as one batch. Moves after the share
    `until` are not guided (arXiv 2404.07724 does so in diffusion): one branch, half the work.
    """

    model: nn.Module
    cond: Tensor | None = None
    guidance: float = 0.0
    forbidden: tuple[int, ...] = ()
    until: float = 1.0

    def __call__(self, moment: Moment) -> Evaluation:
        guidance = self.guidance if moment.made < self.until else 0.0
        ids, cond = branches(moment.ids, self.cond, guidance)
        hidden, angles = self.model.embed(ids, cond)
        for layer in self.model.layers:
            hidden = layer(hidden, position_embeddings=angles)
        positions = indices(moment.masked)
        logits = read(self.model, hidden, positions, guidance, self.forbidden)
        everything = hidden.shape[1]
        cost = full_cost(self.model, len(ids), everything, positions.shape[1])
        return Evaluation(positions, logits, torch.ones_like(moment.masked), cost)


def branches(ids: Tensor, cond: Tensor | None, guidance: float) -> tuple[Tensor, Tensor | None]:
    """ids and condition of the passes that guidance needs: conditional first, then, if any, unconditional."""
    if cond is None or not guidance:
        return ids, cond
    return torch.cat([ids, ids]), torch.cat([cond, torch.zeros_like(cond)])


def read(model, hidden: Tensor, positions: Tensor, guidance: float, forbidden: tuple[int, ...] = ()) -> Tensor:
    """Guided logits [B, P, V] at canvas positions [B, P] of last-layer states [B or 2B, C + N, D]."""
    places = positions.repeat(len(hidden) // len(positions), 1) + model.cond_length
    picked = hidden.gather(1, places[..., None].expand(-1, -1, hidden.shape[2]))  # [B or 2B, P, D]
    logits = guided(model.head(picked).float(), len(positions), guidance)
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
    """Rows and multiply-adds of one pass over all tokens: projections and MLP, attention, head at `read_out` tokens.

    layers: how many layers of the model's shape are run, all of its own by default.
    """
    attention = model.layers[0].self_attn
    width = attention.q_proj.out_features
    linear = sum(m.weight.numel() for m in model.layers[0].modules() if isinstance(m, nn.Linear))
    per_layer = tokens * linear + 2 * tokens * tokens * width
    head = read_out * model.vocab_size * model.config.hidden_size
    layers = len(model.layers) if layers is None else layers
    return Cost(1, batch * layers * tokens, batch * (layers * per_layer + head))

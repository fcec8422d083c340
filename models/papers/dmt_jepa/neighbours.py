"""Which neighbours a patch's target is made of, and how far a prediction is from it.

Windows end at the border; in the reference they wrap around there. Letters as in network.py.
"""
from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

NEIGHBOURS, SIDE = 4, 8  # k; patches a side
AROUND = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx)


@cache
def windows(side: int = SIDE, wrap: bool = False) -> Tensor:
    """The 8 neighbours [N, 8] of every patch, -1 beyond the border unless the grid wraps around there."""
    at = torch.arange(side * side)
    y, x = (axis[:, None] + torch.tensor(steps) for axis, steps in zip((at // side, at % side), zip(*AROUND)))
    inside = (y >= 0) & (y < side) & (x >= 0) & (x < side)
    return torch.where(inside | wrap, y % side * side + x % side, -1)


def likeness_around(h: Tensor, wrap: bool = False) -> Tensor:
    """Cosine [B, N, 8] of every patch with its neighbours, -inf beyond the border."""
    unit, near = F.normalize(h, dim=-1), windows(wrap=wrap).to(h.device)
    like = (unit @ unit.transpose(1, 2)).gather(2, near.clamp_min(0).expand(len(h), -1, -1))
    return like.masked_fill(near < 0, -torch.inf)


def likest(h: Tensor, keep: int = NEIGHBOURS, wrap: bool = False) -> Tensor:
    """Bool [B, N, N]: the neighbours that make up the target of each patch, fewer than `keep` in a corner."""
    like, near = likeness_around(h, wrap), windows(wrap=wrap).to(h.device)
    best = like.topk(keep, -1)  # [B, N, k]
    chosen = torch.zeros(*h.shape[:2], h.shape[1], dtype=torch.bool, device=h.device)
    ids = near.expand(len(h), -1, -1).gather(2, best.indices)
    itself = torch.arange(h.shape[1], device=h.device)[:, None]
    chosen.scatter_(2, torch.where(ids < 0, itself, ids), True)
    return chosen & (torch.arange(h.shape[1], device=h.device) != itself)


def picked(tokens: Tensor, ids: Tensor) -> Tensor:
    """Tokens [B, ..., D] at ids [B, ...] of [B, N, D]."""
    flat = ids.flatten(1)
    return tokens.gather(1, flat[..., None].expand(-1, -1, tokens.shape[-1])).unflatten(1, ids.shape[1:])


def errors(predicted: Tensor, target: Tensor) -> Tensor:
    """Smooth-L1 of every patch, mean over its numbers: [..., D] -> [...]."""
    return F.smooth_l1_loss(predicted, target, reduction="none").mean(-1)

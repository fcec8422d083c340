"""Patch Mixing (arXiv 2306.17848, project page): which cells come from another photo, and how the label follows.

    x~ = (1 - M) x_A + M x_B        same positions, M: N1 of N cells, uniformly at random
    y~ = (1 - r) y_A + r y_B        r = N1 / N; label smoothing on the final vector

CutMix (arXiv 1905.04899), the control, fills one rectangle of the same area. M is a map of pixels, so that grids of any
cell size, shifted grids and rectangles are one thing. Ours, because the page leaves it open: applied to every second
picture, r uniform in 0.05..0.6, smoothing 0.1.
Letters: B photos, S side of a photo in pixels, C classes.
"""
from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

CELL, OFTEN, LEAST, MOST, SMOOTHING = 8, 0.5, 0.05, 0.6, 0.1


def shares(count: int, rng: np.random.Generator) -> np.ndarray:
    """r [B] that training asks for, before it is rounded to whole cells: 0 where a picture stays as it is."""
    drawn = rng.uniform(LEAST, MOST, count)
    return np.where(rng.random(count) < OFTEN, drawn, 0.0)


def scattered(share: np.ndarray, rng: np.random.Generator, cell: int = CELL, side: int = 64, shift: int = 0) -> Tensor:
    """M bool [B, S, S]: round(r N) cells of a grid, uniformly at random. shift: by how many pixels the grid lies lower
    and to the right (it wraps around, so that every cell is whole)."""
    grid = side // cell
    order = rng.random((len(share), grid * grid)).argsort(1).argsort(1)
    chosen = order < np.round(np.asarray(share)[:, None] * grid * grid)  # [B, N]
    found = torch.from_numpy(chosen).view(-1, grid, grid)
    return found.repeat_interleave(cell, 1).repeat_interleave(cell, 2).roll((shift, shift), (1, 2))


def rectangle(share: np.ndarray, rng: np.random.Generator, side: int = 64) -> Tensor:
    """CutMix's M bool [B, S, S]: one rectangle of about r S^2 pixels, wholly inside, of a shape drawn at random."""
    long = np.sqrt(share) * rng.uniform(0.8, 1.25, len(share))
    sides = np.clip(np.round(side * np.stack([long, share / np.maximum(long, 1e-9)], 1)), 0, side)  # [B, 2]
    start = np.floor(rng.random((len(share), 2)) * (side - sides + 1))
    at = np.arange(side)
    down, across = ((at >= start[:, [k]]) & (at < start[:, [k]] + sides[:, [k]]) for k in (0, 1))  # [B, S]
    return torch.from_numpy(down[:, :, None] & across[:, None])


def pasted(pixels: Tensor, other: Tensor, mask: Tensor) -> Tensor:
    """x~ [B, 3, S, S]: where M says so, the other photo at the same positions."""
    return torch.where(mask[:, None], other, pixels)


def mixed_labels(labels: Tensor, others: Tensor, mask: Tensor, classes: int, smoothing: float = SMOOTHING) -> Tensor:
    """y~ [B, C]: labels follow the area that is really covered, then smoothing."""
    r = mask.float().mean((1, 2))[:, None]
    hard = (1 - r) * one_hot(labels, classes) + r * one_hot(others, classes)
    return (1 - smoothing) * hard + smoothing / classes


def soft_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Mean over photos, in nats."""
    return -(target * logits.float().log_softmax(-1)).sum(-1).mean()

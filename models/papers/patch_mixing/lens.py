"""What a classifier's answer hangs on, c-RISE, and how far cells hear each other; networks are called, never opened.

c-RISE (contrastive RISE, arXiv 2306.17848; RISE: arXiv 1806.07421). A photo is looked at through random masks m, drawn
at low resolution and enlarged smoothly; with d = f_A - f_B, the probability of its class minus that of the pasted one,

    S(l) = E[d(x m) m_l] / E[m_l] - E[d(x m)]

is how much a visible cell l speaks for A (above 0) or for B. Taking the mean away is ours: without it every cell of a
photo that is recognised is important. Hidden places have the mean colour of all photos.
Letters: B photos, K masks, N = 64 cells, C classes, D features.
"""
from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from models.claims.probe import in_batches
from models.papers.patch_mixing.mixing import CELL

KEEP = 0.5  # of the low-resolution mask


def masks(count: int, side: int, generator: torch.Generator) -> Tensor:
    """m [K, 1, S, S] in 0..1: a grid of cells on or off, one cell larger than the photo, moved at random."""
    grid = side // CELL
    low = (torch.rand(count, 1, grid + 1, grid + 1, generator=generator) < KEEP).float()
    large = interpolate(low, scale_factor=CELL, mode="bilinear", align_corners=False)
    down, across = torch.randint(CELL, (2, count), generator=generator).tolist()
    return torch.stack([one[:, y : y + side, x : x + side] for one, y, x in zip(large, down, across)])


def importance(told: Tensor, masks: Tensor, own: int, foreign: int) -> Tensor:
    """S [N] in points of probability, from answers [K, C] to the photo behind the masks."""
    d, m = told[:, own] - told[:, foreign], avg_pool2d(masks, CELL).flatten(1)  # [K], [K, N]
    return 100 * ((d[:, None] * m).mean(0) / m.mean(0) - d.mean())


def through(answer, pixels: Tensor, masks: Tensor) -> Tensor:
    """Answers [K, C] to one photo [1, 3, S, S] behind every mask; answer(pixels [B, 3, S, S]) -> [B, C]."""
    return in_batches(answer, pixels * masks.to(pixels)).float().cpu()


def on_foreign(values, area) -> float:
    """Which part of the importance [N], whatever its sign, lies on foreign cells; area [N]: how foreign a cell is."""
    much = np.abs(np.asarray(values, np.float64))
    return float((much * np.asarray(area)).sum() / max(much.sum(), 1e-12))


def moves(told: Tensor, masks: Tensor, own: int, foreign: int, area, groups: int = 10) -> float:
    """By how much on_foreign would move with other masks: its standard error, a tenth of the masks left out at a time
    (jackknife)."""
    group = torch.arange(len(told)) % groups
    left = [on_foreign(importance(told[group != k], masks[group != k], own, foreign), area) for k in range(groups)]
    return float(np.std(left) * (groups - 1) ** 0.5)


def hearing(features, pixels: Tensor) -> Tensor:
    """Rows [N, N] of features(pixels) -> [B, N, D]: how much the last feature of a cell changes when another one is
    painted in the mean colour, as a share of all its changes."""
    grid = pixels.shape[-1] // CELL
    spots = torch.eye(grid * grid, device=pixels.device).view(-1, 1, grid, grid)
    spots = spots.repeat_interleave(CELL, 2).repeat_interleave(CELL, 3).bool()
    changed = in_batches(features, pixels.masked_fill(spots, 0.0)).float() - features(pixels).float()  # [key, query, D]
    far = changed.norm(dim=-1).T  # [query, key]
    return far / far.sum(1, keepdim=True).clamp_min(1e-12)

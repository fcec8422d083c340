"""What a network really errs by under given masks, for many photos at once: the claim and the recipe ask alike.

Letters: K photos, L patches.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from models.engine.statistics import spearman
from models.loops.mask import photos
from models.papers.hpm.network import hard_mask, hard_ratio


def errors(model, pixels: Tensor, noise: Tensor, mask_ratio: float, normalised: bool = False, size: int = 100
           ) -> tuple[Tensor, Tensor]:
    """Error of every patch and mask (1 = hidden), both [K, L], where each photo keeps its patches of lowest noise."""
    found, n_mask = [], photos.masked_count(noise.shape[1], mask_ratio)
    for some, places in zip(pixels.split(size), noise.split(size)):
        patches, mask = photos.rebuild(model, some, places, n_mask)
        found.append((photos.patch_error(patches, model.patchify(some), normalised).float(), mask.float()))
    return tuple(torch.cat(part) for part in zip(*found))


def by_trial(model, pixels: Tensor, rounds: int, mask_ratio: float, seed: int = 7) -> tuple[Tensor, Tensor]:
    """True difficulty [K, L], each patch's error averaged over the random masks that hide it (NaN: none did), and every
    photo's mean error [K] under those masks."""
    dice, total, times = torch.Generator().manual_seed(seed), 0.0, 0.0
    for _ in range(rounds):
        error, mask = errors(model, pixels, torch.rand(pixels.shape[0], model.patches, generator=dice), mask_ratio)
        total, times = total + error * mask, times + mask
    return torch.where(times > 0, total / times, torch.nan), total.sum(1) / times.sum(1)


def correlations(scores: Tensor, truth: Tensor) -> np.ndarray:
    """Rank correlation [K] of scores and truth [K, L] within each photo; patches without a truth (NaN) are left out."""
    return np.array([spearman(s, t) for s, t in zip(scores.double().numpy(), truth.double().numpy(), strict=True)])


def mined(model, pixels: Tensor, scores: Tensor, mask_ratio: float, seed: int):
    """Mean error [K] of the hidden patches under HPM's masks at the end of its schedule, mined by scores [K, L]."""
    noise, _ = hard_mask(scores, hard_ratio(1.0), mask_ratio, torch.Generator().manual_seed(seed))
    error, mask = errors(model, pixels, noise, mask_ratio)
    return ((error * mask).sum(1) / mask.sum(1)).numpy()

"""What a patch size is (arXiv 2502.03738): how many tokens a picture becomes, what they cost and what they retain.

    L = (S / p)^2 tokens;  token = W x + b, x the 3 p^2 numbers of a patch, W [D, 3 p^2]   # everything else is the same

Letters: S picture side and p patch side in pixels, L patches, D width, K photos.
"""
from __future__ import annotations

import torch
from torch import Tensor

WIDTH, LAYERS, HEADS, STEPS = 96, 4, 3, 500  # of every network; steps of 32 photos
CLASSES = (0, 2, 3, 4, 6, 7, 8, 9, 10, 20, 21, 28, 29, 30, 34, 36, 37, 40, 45, 48)  # of the 50 of photo-vit-1
HELD = 4000  # of the first training photos, nobody learns from these
SIDE = 64  # of the larger pictures


def count(side: int, patch: int) -> int:
    """L. ValueError where patches do not fill the picture."""
    if side % patch:
        raise ValueError(f"patches of {patch} pixels do not fill a picture of {side}; choose a divisor of it")
    return (side // patch) ** 2


def macs(side: int, patch: int) -> int:
    """Multiply-adds of one picture: patch projection, layers (D^2 per token, pairs of tokens), head."""
    patches = count(side, patch)
    sequence = patches + 1  # the class token
    layer = 12 * sequence * WIDTH**2 + 2 * sequence**2 * WIDTH
    return patches * 3 * patch**2 * WIDTH + LAYERS * layer + len(CLASSES) * WIDTH


def as_costly(patch: int, other: int) -> int:
    """Steps in which patches of this size cost what STEPS steps of the other size do."""
    return round(STEPS * macs(SIDE, other) / macs(SIDE, patch))


def some_of(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Which photos are of CLASSES, bool [K], and the place of each of these among CLASSES."""
    mine = labels[:, None] == torch.tensor(CLASSES)
    return mine.any(1), mine[mine.any(1)].int().argmax(1)

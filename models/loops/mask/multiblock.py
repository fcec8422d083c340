"""I-JEPA's multiblock masks (arXiv 2301.08243): four target blocks, and a context block without them.

One step has one size of block, as the reference draws it; every photo has places of its own. The reference cuts the
contexts of a batch to the least of them, from the end; here every context has KEPT patches, drawn at random, and masks
that leave fewer are drawn again. On an 8 x 8 grid target blocks have 9, 12 or (rarely) 16 patches.

Letters: B photos, N patches, n kept, T patches of a block.
"""
from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

BLOCKS, KEPT = 4, 24
AREA, ASPECT, CONTEXT = (0.15, 0.2), (0.75, 1.5), (0.85, 1.0)  # shares of the grid; height over width


class Multiblock(NamedTuple):
    """context [B, n] and blocks [B, 4, T]: places of patches."""

    context: Tensor
    blocks: Tensor


def multiblock(count: int, dice: np.random.Generator, side: int = 8) -> Multiblock:
    """Masks of so many photos."""
    sizes = sized(dice.uniform(*AREA), dice.uniform(*ASPECT), side), sized(dice.uniform(*CONTEXT), 1.0, side)
    blocks, seen = drawn(count, *sizes, side, dice)
    while (few := seen.sum(1) < KEPT).any():
        blocks[few], seen[few] = drawn(int(few.sum()), *sizes, side, dice)
    order = np.argsort(~seen + dice.random(seen.shape), 1)[:, :KEPT]  # the seen come first
    return Multiblock(torch.from_numpy(np.sort(order, 1)), torch.from_numpy(blocks))


def sized(share: float, aspect: float, side: int) -> tuple[int, int]:
    """Height and width of a block with this share of the grid."""
    return tuple(min(side, max(1, round((share * ratio) ** 0.5 * side))) for ratio in (aspect, 1 / aspect))


def drawn(count: int, target: tuple[int, int], context: tuple[int, int], side: int, dice: np.random.Generator
          ) -> tuple[np.ndarray, np.ndarray]:
    """Target blocks [B, 4, T], and the context block without them bool [B, N]."""
    blocks = placed_blocks((count, BLOCKS), target, side, dice)
    seen = np.zeros((count, side * side), bool)
    np.put_along_axis(seen, placed_blocks((count,), context, side, dice), True, 1)
    np.put_along_axis(seen, blocks.reshape(count, -1), False, 1)
    return blocks, seen


def placed_blocks(shape: tuple[int, ...], size: tuple[int, int], side: int, dice: np.random.Generator) -> np.ndarray:
    """The patches [*shape, T] of blocks somewhere on the grid."""
    top, left = (dice.integers(side - one + 1, size=(*shape, 1)) for one in size)
    return side * top + left + np.add.outer(side * np.arange(size[0]), np.arange(size[1])).ravel()

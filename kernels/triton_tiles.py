"""What the Triton kernels share: reading a tile, sizes that are powers of two, and whether they are being interpreted.

Without a GPU they run in Triton's interpreter (TRITON_INTERPRET=1) on CPU tensors, for tests. There tl.dot of bf16 is
silently wrong, so inputs are widened when interpreting.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from triton import knobs

PATH = "cuda-triton"


@triton.jit
def load_tile(base, rows, row_stride, wide, width, limit):
    """[len(rows), len(wide)] with zeros outside."""
    at = base + rows[:, None] * row_stride + wide[None, :]
    return tl.load(at, mask=(rows[:, None] < limit) & (wide[None, :] < width), other=0.0)


def power(width: int, least: int = 16) -> int:
    """The next power of two; tl.dot needs at least 16."""
    return max(least, triton.next_power_of_2(width))


def interpreted() -> bool:
    return knobs.runtime.interpret


def widened(dtype: torch.dtype) -> bool:
    """Whether products of this type must be made in fp32 here."""
    return interpreted() and dtype == torch.bfloat16

"""Where logits come from: a table that exists, or a projection that makes a tile of it when asked."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from kernels.reference import wide
from kernels.threads import scratch

PATH = "cpu-tiled"
TILE = 4096  # columns; a few large tiles, because finding the largest entries costs the same for every row of a tile
TILE_SCORES = 1 << 18  # tiles of few rows may be wider when nothing is made again


class Source(Protocol):
    """Where logits come from."""

    @property
    def path(self) -> str:
        """Names the code that reads it."""

    @property
    def asks(self) -> bool:
        """Whether a draw may look which rows need their logits in full: asking a device makes the host wait."""

    rows: int
    columns: int
    width: int  # columns of a tile
    dtype: torch.dtype
    device: torch.device

    def tile(self, columns: slice, rows: Tensor | slice = slice(None)) -> Tensor:
        """Logits [R, W] in the statistics' precision; they may be overwritten by the next call in this thread."""

    def at(self, ids: Tensor) -> Tensor:
        """One logit per row [T]."""


class Given:
    """Logits [T, V] that exist."""

    path, asks = PATH, True

    def __init__(self, logits: Tensor) -> None:
        self.logits, (self.rows, self.columns) = logits, logits.shape
        self.width = even_width(self.columns, max(TILE, TILE_SCORES // max(1, self.rows)))
        self.dtype, self.device = wide(logits.dtype), logits.device

    def tile(self, columns: slice, rows: Tensor | slice = slice(None)) -> Tensor:
        return self.logits[rows, columns].to(self.dtype)

    def at(self, ids: Tensor) -> Tensor:
        return self.logits.gather(1, ids[:, None])[:, 0].to(self.dtype)


class Head:
    """Logits hidden [T, D] @ weight [V, D].T + bias [V], made tile by tile in the precision of the weight."""

    path, asks = PATH, True

    def __init__(self, hidden: Tensor, weight: Tensor, bias: Tensor | None) -> None:
        self.hidden, self.weight, self.bias = hidden.to(weight.dtype), weight, bias
        self.rows, self.columns = hidden.shape[0], weight.shape[0]
        self.width = even_width(self.columns, TILE)
        self.dtype, self.device = wide(weight.dtype), weight.device

    def tile(self, columns: slice, rows: Tensor | slice = slice(None)) -> Tensor:
        hidden, weight = self.hidden[rows], self.weight[columns].T
        out = scratch("logits", (hidden.shape[0], weight.shape[1]), hidden.dtype)
        if self.bias is None:
            torch.mm(hidden, weight, out=out)
        else:
            torch.addmm(self.bias[columns], hidden, weight, out=out)
        return out if out.dtype == self.dtype else scratch("wide", tuple(out.shape), self.dtype).copy_(out)

    def at(self, ids: Tensor) -> Tensor:
        logit = (self.hidden.to(self.dtype) * self.weight[ids].to(self.dtype)).sum(-1)
        logit = logit if self.bias is None else logit + self.bias[ids]
        return self.rounded(logit)

    def rounded(self, logit: Tensor) -> Tensor:
        """As the tiles are."""
        return logit.to(self.weight.dtype).to(self.dtype)


def even_width(columns: int, widest: int) -> int:
    """Width of an even number of tiles, so that two threads get as many; a multiple of 64.

    It must not depend on the number of threads: the same seed draws the same tokens on any machine.
    """
    tiles = -(-columns // widest)
    tiles += tiles % 2 if tiles > 1 else 0
    width = -(-columns // max(1, tiles))
    return max(1, min(columns, -(-width // 64) * 64))

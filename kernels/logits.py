"""Where logits come from: a table that exists, or a projection that makes a tile of it when asked."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import linear

from kernels.reference import wide


class Source(Protocol):
    """Where logits come from."""

    rows: int
    columns: int
    dtype: torch.dtype
    device: torch.device

    def tile(self, columns: slice, rows: Tensor | slice = slice(None)) -> Tensor:
        """Logits [R, W] in the statistics' precision."""

    def at(self, ids: Tensor) -> Tensor:
        """One logit per row [T]."""


class Given:
    """Logits [T, V] that exist."""

    def __init__(self, logits: Tensor) -> None:
        self.logits, (self.rows, self.columns) = logits, logits.shape
        self.dtype, self.device = wide(logits.dtype), logits.device

    def tile(self, columns: slice, rows: Tensor | slice = slice(None)) -> Tensor:
        return self.logits[rows, columns].to(self.dtype)

    def at(self, ids: Tensor) -> Tensor:
        return self.logits.gather(1, ids[:, None])[:, 0].to(self.dtype)


class Head:
    """Logits hidden [T, D] @ weight [V, D].T + bias [V], made tile by tile in the precision of the weight."""

    def __init__(self, hidden: Tensor, weight: Tensor, bias: Tensor | None) -> None:
        self.hidden, self.weight, self.bias = hidden.to(weight.dtype), weight, bias
        self.rows, self.columns = hidden.shape[0], weight.shape[0]
        self.dtype, self.device = wide(weight.dtype), weight.device

    def tile(self, columns: slice, rows: Tensor | slice = slice(None)) -> Tensor:
        bias = None if self.bias is None else self.bias[columns]
        return linear(self.hidden[rows], self.weight[columns], bias).to(self.dtype)

    def at(self, ids: Tensor) -> Tensor:
        logit = (self.hidden.to(self.dtype) * self.weight[ids].to(self.dtype)).sum(-1)
        logit = logit if self.bias is None else logit + self.bias[ids]
        return logit.to(self.weight.dtype).to(self.dtype)  # rounded as the tiles are

"""MEAP's rule: some tokens of a causal model's input are [MASK], and nothing else changes."""
from __future__ import annotations

import torch
from torch import Tensor


def punched(ids: Tensor, share: float, blank: int, generator: torch.Generator) -> Tensor:
    """ids [B, L] with max(1, int(share * L)) places of each row holding `blank`, never the last one.

    The reference draws one set of places for all rows of a micro-batch; here each row has its own, which is the same
    rule, better mixed. The targets are no business of this function: they stay the true tokens.
    """
    rows, length = ids.shape
    count = max(1, int(share * length))
    where = torch.rand(rows, length - 1, generator=generator).topk(count).indices  # [B, count], all different
    return ids.scatter(1, where, blank)

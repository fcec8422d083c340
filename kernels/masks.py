"""Which query may attend to which key: the one reading of `mask` and `causal` that every attention path shares."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def check(q: Tensor, k: Tensor, v: Tensor | None, mask: Tensor | None) -> None:
    """Raises ValueError with what to change when shapes do not fit together."""
    if q.ndim != 4 or k.ndim != 4:
        raise ValueError(f"q and k must be [B, H, N, D]; got {list(q.shape)} and {list(k.shape)}.")
    if v is not None and v.shape[:3] != k.shape[:3]:
        raise ValueError(f"v must have the batch, heads and keys of k {list(k.shape[:3])}; got {list(v.shape[:3])}.")
    if q.shape[0] != k.shape[0] or q.shape[3] != k.shape[3] or q.shape[1] % k.shape[1]:
        raise ValueError(
            f"q {list(q.shape)} and k {list(k.shape)} need the same batch and width, "
            "and a number of query heads that is a multiple of the key heads."
        )
    full = (q.shape[0], q.shape[1], q.shape[2], k.shape[2])
    if mask is not None and (
        mask.ndim != 4 or any(have not in (1, want) for have, want in zip(mask.shape, full, strict=True))
    ):
        raise ValueError(f"mask must broadcast to {list(full)} and have four dimensions; got {list(mask.shape)}.")


def clean(mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """Bool masks stay; additive masks become `dtype` with -inf wherever they hold a "minus a lot" constant.

    transformers fills masks with finfo.min, which would give a fully masked row uniform attention instead of none.
    """
    if mask is None or mask.dtype == torch.bool:
        return mask
    if not mask.is_floating_point():
        return mask.bool()
    low = torch.finfo(mask.dtype).min / 2
    return mask.to(dtype).masked_fill(mask <= low, float("-inf"))


def row_indices(rows: Sequence[int] | Tensor, queries: int, device: torch.device) -> Tensor:
    """Query indices [R], negative ones counted from the end; ValueError beyond the sequence."""
    rows = torch.as_tensor(rows, device=device).long().reshape(-1)
    if rows.numel() and not bool(((rows >= -queries) & (rows < queries)).all()):
        raise ValueError(f"Query indices must lie in 0 .. {queries - 1}; got {rows.tolist()[:8]}.")
    return rows % max(1, queries)


def apply(scores: Tensor, mask: Tensor | None) -> Tensor:
    """Scores with -inf where a bool mask forbids, or plus an additive mask."""
    if mask is None:
        return scores
    if mask.dtype == torch.bool:
        return scores.masked_fill(~mask, float("-inf"))
    return scores + mask


def chosen_queries(
    received_from: Sequence[int] | Tensor | None, batch: int, queries: int, device: torch.device
) -> Tensor | None:
    """Query weights [B, N] (0 or 1) from indices [R] or a bool [N] or [B, N]; None means every query."""
    if received_from is None:
        return None
    received_from = torch.as_tensor(received_from, device=device)
    if received_from.dtype == torch.bool:
        if received_from.shape[-1] != queries or received_from.ndim > 2:
            raise ValueError(f"received_from as bool must be [N] or [B, N] with N = {queries}.")
        return received_from.expand(batch, queries).float()
    weights = torch.zeros(queries, device=device)
    weights[row_indices(received_from, queries, device)] = 1.0
    return weights.expand(batch, queries)

"""The public door to one step of filling in masked tokens; the order of revealing is kernels/revealing.py's."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.dispatch import unmasking_path
from kernels.records import UnmaskStep
from kernels.revealing import ORDERS, priority, settle, without_token
from kernels.sampling import Sampler
from kernels.vocabulary import vocab_stats


def unmask_step(
    logits: Tensor,
    ids: Tensor,
    mask_id: int,
    *,
    n_reveal: int | Tensor,
    order: str = "confidence",
    gumbel_temperature: float = 0.0,
    sampler: Sampler | None = None,
    allowed: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> UnmaskStep:
    """Proposes a token for every masked position and reveals the n_reveal[b] that come first in `order`.

    logits [B, N, V]; ids [B, N] holding `mask_id` where unknown; n_reveal an int or [B]; allowed bool [N] or [B, N]
    says which positions may be revealed now (all by default). The mask token itself is never proposed. The proposal is
    the most probable token, or a draw when a sampler is given; its confidence is its probability at temperature 1.
    Order: "confidence" highest log-probability first, "entropy" lowest first, "margin" largest gap between the two best
    first, "peak" largest probability of any token first, "leftmost" from the left, "random" any. With draws,
    "confidence" lets the drawn tokens choose the positions, which distorts what is drawn; the other orders do not.
    `gumbel_temperature` times Gumbel noise is added to all but "random", as MaskGIT does (arXiv 2202.04200). Exactly
    min(n_reveal, allowed masked positions) are revealed; ties go to the earlier position. Known tokens never change.
    Nothing here waits for the device. ValueError: unknown order, shapes that do not fit.
    """
    if order not in ORDERS:
        raise ValueError(f"order must be one of {', '.join(ORDERS)}; got {order!r}.")
    if logits.ndim != 3 or logits.shape[:2] != ids.shape:
        raise ValueError(f"logits must be [B, N, V] for ids {list(ids.shape)}; got {list(logits.shape)}.")
    stats = vocab_stats(without_token(logits, mask_id), top_k=2, sampler=sampler, generator=generator)
    proposal = stats.top_ids[..., 0] if stats.sample is None else stats.sample
    proposal_logp = logits.gather(-1, proposal[..., None])[..., 0].to(stats.lse.dtype) - stats.lse
    rank = priority(order, stats, proposal_logp, gumbel_temperature, generator)
    if unmasking_path(ids) == "cuda-triton":
        from kernels import triton_unmasking  # triton is optional

        filled = triton_unmasking.settle(rank, proposal, proposal_logp, ids, mask_id, allowed, n_reveal)
    else:
        filled = settle(rank, proposal, proposal_logp, ids, mask_id, allowed, n_reveal)
    return UnmaskStep(*filled, stats.entropy, stats.path)

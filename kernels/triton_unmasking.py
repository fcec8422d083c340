"""The end of an unmasking step on CUDA, in Triton: which positions are filled in, in one kernel instead of twenty.

No sort: a position is revealed when fewer than n open ones come before it, and counting those is N comparisons for each
of N positions, shared among programs. Scores are compared in their own precision, so the choice is the plain code's.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels import revealing

PLACES, OTHERS = 32, 128  # positions of a program, and those it compares them with at a time


@triton.jit
def score_of(Score, Ids, Allowed, base, allowed, a_n, n, N, mask_id, ALLOWED: tl.constexpr):
    """Scores of positions n, NaN first as in a sort, and which of them are masked and open."""
    ids = tl.load(Ids + base + n, mask=n < N, other=0)
    masked = (n < N) & (ids == mask_id)
    open_now = masked
    if ALLOWED:
        open_now = masked & (tl.load(Allowed + allowed + n * a_n, mask=n < N, other=0) != 0)
    score = tl.load(Score + base + n, mask=n < N, other=0.0)
    return tl.where(score != score, float("inf"), score), ids, masked, open_now


@triton.jit(do_not_specialize=["count", "mask_id"])
def reveal(Score, Proposal, Logp, Ids, Allowed, Count, NewIds, Revealed, Confidence, Sampled, a_b, a_n, N, count,
           mask_id, ALLOWED: tl.constexpr, COUNTED: tl.constexpr, BN: tl.constexpr, BM: tl.constexpr):
    """One program per sample and block of its positions."""
    b, n = tl.program_id(0), tl.program_id(1) * BN + tl.arange(0, BN)
    base, allowed, inside = b.to(tl.int64) * N, b * a_b, n < N
    mine, ids, masked, open_now = score_of(Score, Ids, Allowed, base, allowed, a_n, n, N, mask_id, ALLOWED)
    before = tl.zeros([BN], tl.int32)
    for start in range(0, N, BM):
        m = start + tl.arange(0, BM)
        other, _, _, rivals = score_of(Score, Ids, Allowed, base, allowed, a_n, m, N, mask_id, ALLOWED)
        ahead = (other[None, :] > mine[:, None]) | ((other[None, :] == mine[:, None]) & (m[None, :] < n[:, None]))
        before += tl.sum((ahead & rivals[None, :]).to(tl.int32), 1)
    if COUNTED:
        count = tl.load(Count + b)
    revealed = open_now & (before < count)
    logp = tl.load(Logp + base + n, mask=inside, other=0.0)
    sampled = tl.where(masked, tl.load(Proposal + base + n, mask=inside, other=0).to(ids.dtype), ids)
    tl.store(NewIds + base + n, tl.where(revealed, sampled, ids), mask=inside)
    tl.store(Revealed + base + n, revealed.to(tl.int8), mask=inside)
    tl.store(Confidence + base + n, tl.where(masked, tl.exp(logp), 1.0), mask=inside)
    tl.store(Sampled + base + n, sampled, mask=inside)


def settle(
    score: Tensor, proposal: Tensor, logp: Tensor, ids: Tensor, mask_id: int, allowed: Tensor | None,
    n_reveal: int | Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """CUDA twin of `revealing.settle`."""
    batch, length = ids.shape
    score, proposal, logp, ids = (x.contiguous() for x in (score, proposal, logp, ids))
    new_ids, sampled, confidence = torch.empty_like(ids), torch.empty_like(ids), torch.empty_like(logp)
    revealed = torch.empty_like(ids, dtype=torch.bool)
    open_to = ids if allowed is None else allowed.expand(batch, length).view(torch.int8)
    counted = isinstance(n_reveal, Tensor)
    counts = n_reveal.to(ids.device).reshape(-1).expand(batch).contiguous() if counted else ids
    if ids.numel():
        with torch.cuda.device_of(ids):
            reveal[batch, triton.cdiv(length, PLACES)](
                score, proposal, logp, ids, open_to, counts, new_ids, revealed.view(torch.int8), confidence, sampled,
                *open_to.stride(), length, 0 if counted else n_reveal, mask_id, ALLOWED=allowed is not None,
                COUNTED=counted, BN=PLACES, BM=OTHERS,
            )
    return new_ids, revealed, confidence, sampled


def agrees(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the kernel fills in exactly what the plain code does: ties, -inf, closed positions, counts per sample."""
    make = torch.Generator().manual_seed(0)
    score = torch.randint(-3, 3, (5, 37), generator=make).to(dtype)  # many ties
    score[:, 3:9] = float("-inf")
    ids = torch.randint(0, 3, (5, 37), generator=make)
    proposal, logp = torch.randint(5, 9, (5, 37), generator=make), torch.rand(5, 37, generator=make).to(dtype).neg()
    allowed, counts = torch.rand(5, 37, generator=make) > 0.3, torch.tensor([0, 1, 4, 20, 99])
    score, proposal, logp, ids, allowed, counts = (x.to(device) for x in (score, proposal, logp, ids, allowed, counts))
    for rest in ((allowed, counts), (None, 3)):
        found, expected = (one(score, proposal, logp, ids, 2, *rest) for one in (settle, revealing.settle))
        if not all(torch.allclose(a.to(dtype), b.to(dtype)) for a, b in zip(found, expected, strict=True)):
            return False
    return True

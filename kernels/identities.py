"""The statistics from three identities that hold for any attention, and need no softmax table: an independent oracle.

1. entropy = lse - E[s], and E[s_i] = scale * q_i . (P K)_i: attention once more with the keys as values.
2. log of the attention received by key j = log-sum-exp over queries i of (s_ij - lse_i): attention with queries and
   keys exchanged and -lse as a bias.
3. peak = exp(max_j s_ij - lse_i).
Also the path for devices without a kernel of ours: scores are made for a block of queries at a time, so memory stays
linear in the sequence. Nothing is shared with the direct kernels but the reading of the mask.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kernels import masks
from kernels.records import AttentionStats
from kernels.reference import score, wide

PATH = "identities"
BLOCK = 256  # queries, and then keys, at a time


def attention_stats(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    scale: float | None = None,
    causal: bool = False,
    mask: Tensor | None = None,
    received_from: Tensor | None = None,
) -> AttentionStats:
    """Twin of `kernels.attention_stats` from the identities."""
    dtype, group = wide(q.dtype), q.shape[1] // k.shape[1]
    keys, values = (x.repeat_interleave(group, dim=1).to(dtype) for x in (k, v))
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    chosen = masks.chosen_queries(received_from, q.shape[0], q.shape[2], q.device)
    blocks, received = [], keys.new_full(keys.shape[:3], float("-inf"))  # log of the attention received
    for rows in torch.arange(q.shape[2], device=q.device).split(BLOCK):
        scores = score(q, k, scale, causal, mask, rows)  # [B, H, n, M]
        lse = scores.logsumexp(-1)
        dead = lse == float("-inf")
        lse_safe = lse.masked_fill(dead, 0)
        attend = torch.exp(scores - lse_safe[..., None])
        both = attend @ torch.cat([values, keys], -1)  # [B, H, n, Dv + D]
        out, mean_key = both.split([values.shape[-1], keys.shape[-1]], -1)
        expected = (q[:, :, rows].to(dtype) * mean_key).sum(-1) * scale + bias_share(attend, mask, rows)
        peak = torch.exp(scores.amax(-1) - lse_safe).masked_fill(dead, 0)
        blocks.append((out, lse, (lse_safe - expected).masked_fill(dead, 0), peak))
        gone = dead if chosen is None else dead | (chosen[:, None, rows] == 0)
        weight = (-lse_safe).masked_fill(gone, float("-inf"))
        received = torch.logaddexp(received, torch.logsumexp(scores + weight[..., None], dim=2))
    out, lse, entropy, peak = (torch.cat(parts, 2) for parts in zip(*blocks, strict=True))
    return AttentionStats(out.to(q.dtype), lse, entropy, peak, received.exp(), PATH)


def bias_share(attend: Tensor, mask: Tensor | None, rows: Tensor) -> Tensor | float:
    """Expected additive bias [B, H, n], which q . (P K) does not hold."""
    if mask is None or mask.dtype == torch.bool:
        return 0.0
    bias = masks.clean(mask, attend.dtype).nan_to_num(neginf=0.0)
    return (attend * (bias if bias.shape[2] == 1 else bias[:, :, rows])).sum(-1)

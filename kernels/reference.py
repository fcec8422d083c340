"""The plain truth: every kernel written with whole score tables, to be read and to be tested against."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kernels import masks
from kernels.records import AttentionStats, VocabStats
from kernels.sampling import Sampler, draw

PATH = "reference"


def wide(dtype: torch.dtype) -> torch.dtype:
    """Statistics are fp32, or fp64 for fp64 inputs."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def probabilities(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Softmax [..., M] and log-sum-exp [...]; a row of -inf gives zeros and -inf instead of NaN."""
    lse = scores.logsumexp(-1)
    safe = lse.masked_fill(lse == float("-inf"), 0.0)
    return (scores - safe[..., None]).exp(), lse


def entropy_of(probs: Tensor) -> Tensor:
    """Entropy [...] in nats of probabilities [..., M], with 0 log 0 = 0."""
    return torch.special.entr(probs).sum(-1)


def score(q: Tensor, k: Tensor, scale: float | None, causal: bool, mask: Tensor | None, rows: Tensor | None = None):
    """Scaled and masked scores [B, H, R, M] of queries `rows` (all by default), in the statistics' precision."""
    queries, keys, dtype = q.shape[2], k.shape[2], wide(q.dtype)
    rows = torch.arange(queries, device=q.device) if rows is None else rows
    k = k.repeat_interleave(q.shape[1] // k.shape[1], dim=1).to(dtype)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    scores = (q[:, :, rows].to(dtype) * scale) @ k.transpose(-1, -2)
    if causal:
        seen = torch.arange(keys, device=q.device) <= rows[:, None] + keys - queries  # the ends are aligned
        scores = masks.apply(scores, seen)
    mask = masks.clean(mask, dtype)
    return masks.apply(scores, mask if mask is None or mask.shape[2] == 1 else mask[:, :, rows])


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
    """Twin of `kernels.attention_stats` that makes the whole N x M table."""
    probs, lse = probabilities(score(q, k, scale, causal, mask))  # [B, H, N, M]
    values = v.repeat_interleave(q.shape[1] // v.shape[1], dim=1).to(probs.dtype)
    chosen = masks.chosen_queries(received_from, q.shape[0], q.shape[2], q.device)
    received = probs.sum(2) if chosen is None else (chosen[:, None, None].to(probs.dtype) @ probs)[:, :, 0]
    peak = probs.amax(-1) if probs.shape[-1] else torch.zeros_like(lse)
    out = (probs @ values).to(q.dtype)
    return AttentionStats(out, lse, entropy_of(probs), peak, received, PATH)


def attention_rows(
    q: Tensor,
    k: Tensor,
    rows: Sequence[int] | Tensor,
    *,
    scale: float | None = None,
    causal: bool = False,
    mask: Tensor | None = None,
) -> Tensor:
    """Twin of `kernels.attention_rows`; it makes R x M scores, so it serves every device and length."""
    masks.check(q, k, None, mask)
    return probabilities(score(q, k, scale, causal, mask, masks.row_indices(rows, q.shape[2], q.device)))[0]


def vocab_stats(
    logits: Tensor,
    *,
    top_k: int = 8,
    chosen: Tensor | None = None,
    sampler: Sampler | None = None,
    generator: torch.Generator | None = None,
) -> VocabStats:
    """Twin of `kernels.vocab_stats` that makes the whole log-softmax table."""
    scores = logits.to(wide(logits.dtype))
    lse = scores.logsumexp(-1)
    logp = scores - lse[..., None]
    top_logp, top_ids = logp.topk(min(top_k, logits.shape[-1]), dim=-1)
    entropy = entropy_of(logp.exp())
    chosen_logp = None if chosen is None else logp.gather(-1, chosen[..., None])[..., 0]
    sample = None if sampler is None else draw(scores, sampler, generator)
    return VocabStats(lse, entropy, top_ids, top_logp, chosen_logp, sample, PATH)


def head_stats(hidden: Tensor, weight: Tensor, *, bias: Tensor | None = None, **options) -> VocabStats:
    """Twin of `kernels.head_stats` that makes the logits first."""
    return vocab_stats(torch.nn.functional.linear(hidden, weight, bias), **options)

"""Attention with statistics on CUDA, in Triton: a flash forward that also keeps entropy and peak, and a column pass.

The forward is the online softmax of FlashAttention with one more running sum, sum_j exp(s_j - m) (s_j - m), from which
the entropy follows. The column pass recomputes scores and uses the forward's log-sum-exp, so it needs no second softmax
and no atomic additions: one program per key block, hence the same result every time.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels import masks, reference
from kernels.records import AttentionStats
from kernels.triton_tiles import PATH, load_tile, power, widened

QUERIES, KEYS = 64, 64  # rows and columns of a score tile
NO_MASK, BOOL_MASK, ADDED_MASK = 0, 1, 2


@triton.jit
def score_tile(q, k, rows, columns, mask_at, mask_row, mask_column, scale, shift, N, M,
               CAUSAL: tl.constexpr, MASK: tl.constexpr):
    """Scores of one tile in units of log 2, and which of them count."""
    s = tl.dot(q, k, input_precision="ieee") * scale
    seen = (rows[:, None] < N) & (columns[None, :] < M)
    if CAUSAL:
        seen = seen & (columns[None, :] <= rows[:, None] + shift)
    if MASK > 0:
        at = mask_at + rows[:, None] * mask_row + columns[None, :] * mask_column
        value = tl.load(at, mask=seen, other=0)
        if MASK == 1:
            seen = seen & (value != 0)
        else:
            seen = seen & (value > -1e29)
            s = s + value * 1.4426950408889634
    return s, seen


@triton.jit
def forward(Q, K, V, Mask, Out, Lse, Entropy, Peak,
            q_b, q_h, q_n, k_b, k_h, k_n, v_b, v_h, v_n, m_b, m_h, m_n, m_m, o_b, o_h, o_n,
            H, GROUP, N, M, D, DV, scale, shift,
            CAUSAL: tl.constexpr, MASK: tl.constexpr, WIDE: tl.constexpr, BD: tl.constexpr, BV: tl.constexpr,
            BN: tl.constexpr, BM: tl.constexpr):
    """One program per block of queries of one head."""
    block, bh = tl.program_id(0), tl.program_id(1)
    b, h = bh // H, bh % H
    rows, d, dv = block * BN + tl.arange(0, BN), tl.arange(0, BD), tl.arange(0, BV)
    q = load_tile(Q + b * q_b + h * q_h, rows, q_n, d, D, N)
    keys, values = K + b * k_b + (h // GROUP) * k_h, V + b * v_b + (h // GROUP) * v_h
    if WIDE:
        q = q.to(tl.float32)
    top = tl.full([BN], -1e30, tl.float32)
    mass, energy = tl.zeros([BN], tl.float32), tl.zeros([BN], tl.float32)
    out = tl.zeros([BN, BV], tl.float32)
    last = tl.minimum(M, (block + 1) * BN + shift) if CAUSAL else M
    for start in range(0, last, BM):
        columns = start + tl.arange(0, BM)
        k, v = load_tile(keys, columns, k_n, d, D, M), load_tile(values, columns, v_n, dv, DV, M)
        if WIDE:
            k, v = k.to(tl.float32), v.to(tl.float32)
        s, seen = score_tile(q, tl.trans(k), rows, columns, Mask + b * m_b + h * m_h, m_n, m_m, scale, shift, N, M,
                             CAUSAL, MASK)
        higher = tl.maximum(top, tl.max(tl.where(seen, s, -1e30), 1))
        below = tl.where(seen, s - higher[:, None], 0.0)
        p = tl.where(seen, tl.exp2(below), 0.0)
        fade = tl.exp2(top - higher)
        energy = fade * (energy + mass * (top - higher)) + tl.sum(p * below, 1)
        mass = fade * mass + tl.sum(p, 1)
        out = out * fade[:, None] + tl.dot(p.to(v.dtype), v, input_precision="ieee")
        top = higher
    some = mass > 0
    safe = tl.where(some, mass, 1.0)
    log_mass = tl.log2(safe)
    inside, at = rows < N, bh * N + rows
    tl.store(Lse + at, tl.where(some, (top + log_mass) * 0.6931471805599453, float("-inf")), mask=inside)
    tl.store(Entropy + at, tl.where(some, tl.maximum((log_mass - energy / safe) * 0.6931471805599453, 0.0), 0.0),
             mask=inside)
    tl.store(Peak + at, tl.where(some, 1.0 / safe, 0.0), mask=inside)
    tl.store(Out + b * o_b + h * o_h + rows[:, None] * o_n + dv[None, :],
             (out / safe[:, None]).to(Out.dtype.element_ty), mask=inside[:, None] & (dv[None, :] < DV))


@triton.jit
def columns_received(Q, K, Mask, Lse, Weight, Received,
                     q_b, q_h, q_n, k_b, k_h, k_n, m_b, m_h, m_n, m_m, H, GROUP, N, M, D, scale, shift,
                     CAUSAL: tl.constexpr, MASK: tl.constexpr, WIDE: tl.constexpr, CHOSEN: tl.constexpr,
                     BD: tl.constexpr, BN: tl.constexpr, BM: tl.constexpr):
    """One program per block of keys of one head: the sum over queries of exp(s - lse)."""
    block, bh = tl.program_id(0), tl.program_id(1)
    b, h = bh // H, bh % H
    columns, d = block * BM + tl.arange(0, BM), tl.arange(0, BD)
    k = load_tile(K + b * k_b + (h // GROUP) * k_h, columns, k_n, d, D, M)
    if WIDE:
        k = k.to(tl.float32)
    k = tl.trans(k)
    received = tl.zeros([BM], tl.float32)
    first = tl.maximum(0, block * BM - shift) // BN * BN if CAUSAL else 0
    for start in range(first, N, BN):
        rows = start + tl.arange(0, BN)
        q = load_tile(Q + b * q_b + h * q_h, rows, q_n, d, D, N)
        if WIDE:
            q = q.to(tl.float32)
        s, seen = score_tile(q, k, rows, columns, Mask + b * m_b + h * m_h, m_n, m_m, scale, shift, N, M, CAUSAL, MASK)
        lse = tl.load(Lse + bh * N + rows, mask=rows < N, other=0.0) * 1.4426950408889634
        p = tl.where(seen, tl.exp2(tl.where(seen, s - lse[:, None], 0.0)), 0.0)
        if CHOSEN:
            p = p * tl.load(Weight + b * N + rows, mask=rows < N, other=0.0)[:, None]
        received += tl.sum(p, 0)
    tl.store(Received + bh * M + columns, received, mask=columns < M)


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
    """CUDA twin of `kernels.attention_stats`."""
    batch, heads, queries, width = q.shape
    keys, out_width = k.shape[2], v.shape[3]
    q, k, v = (x if x.stride(3) == 1 else x.contiguous() for x in (q, k, v))
    scale = (width**-0.5 if scale is None else scale) * math.log2(math.e)
    kind, mask = mask_of(mask, (batch, heads, queries, keys), q)
    chosen = masks.chosen_queries(received_from, batch, queries, q.device)
    out = q.new_empty(batch, queries, heads, out_width).transpose(1, 2)
    lse, entropy, peak = (q.new_empty(batch, heads, queries, dtype=torch.float32) for _ in range(3))
    received = q.new_empty(batch, heads, keys, dtype=torch.float32)
    tile = {"BD": power(width), "BN": QUERIES, "BM": KEYS, "CAUSAL": causal, "MASK": kind, "WIDE": widened(q.dtype)}
    sizes = (heads, heads // k.shape[1], queries, keys, width)
    with torch.cuda.device_of(q):
        forward[triton.cdiv(queries, QUERIES), batch * heads](
            q, k, v, mask, out, lse, entropy, peak, *q.stride()[:3], *k.stride()[:3], *v.stride()[:3], *mask.stride(),
            *out.stride()[:3], *sizes, out_width, scale, keys - queries, BV=power(out_width), **tile)
        columns_received[triton.cdiv(keys, KEYS), batch * heads](
            q, k, mask, lse, lse if chosen is None else chosen.contiguous(), received, *q.stride()[:3],
            *k.stride()[:3], *mask.stride(), *sizes, scale, keys - queries, CHOSEN=chosen is not None, **tile)
    return AttentionStats(out, lse, entropy, peak, received, PATH)


def mask_of(mask: Tensor | None, shape: tuple[int, ...], like: Tensor) -> tuple[int, Tensor]:
    """Kind of mask, and it expanded to [B, H, N, M] without being copied (strides 0)."""
    if mask is None:
        return NO_MASK, like.new_empty(1, 1, 1, 1)
    mask = masks.clean(mask, torch.float32)
    if mask.dtype == torch.bool:
        return BOOL_MASK, mask.view(torch.int8).expand(shape)
    return ADDED_MASK, mask.expand(shape)


def agrees(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the kernels agree with the reference on this device: ugly length, causal, padded, grouped."""
    make = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, heads, 75, 40, generator=make).to(device, dtype) for heads in (4, 2, 2))
    mask = (torch.rand(1, 1, 75, 75, generator=make) > 0.3).to(device)
    found = attention_stats(q, k, v, causal=True, mask=mask)
    expected = reference.attention_stats(q, k, v, causal=True, mask=mask)
    tolerance = 2e-3 if dtype == torch.float32 else 3e-2
    return all(torch.allclose(one.float(), two.float(), atol=tolerance, rtol=tolerance)
               for one, two in zip(found[:5], expected[:5], strict=True))

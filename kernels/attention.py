"""Attention that says what it did, at the cost of attention that does not: the public entry and its choice of path."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from kernels import blocked, identities, masks, native, reference
from kernels.dispatch import at_once, attention_path
from kernels.records import AttentionStats

attention_rows = reference.attention_rows


def attention_stats(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    scale: float | None = None,
    causal: bool = False,
    mask: Tensor | None = None,
    received_from: Sequence[int] | Tensor | None = None,
) -> AttentionStats:
    """Softmax attention with log-sum-exp, entropy and peak per query and attention received per key.

    q [B, H, N, D]; k [B, Hkv, M, D] and v [B, Hkv, M, Dv] with H a multiple of Hkv (grouped-query). `scale` is
    D ** -0.5 by default. `causal` aligns the last query with the last key, as decoding with a cache needs. `mask`
    broadcasts to [B, H, N, M]: bool, true where a query may attend, or additive. `received_from` limits the queries
    whose attention counts as received: indices, or bool [N] or [B, N]; all by default.
    A query that may attend to nothing gets output, entropy and peak 0 and log-sum-exp -inf.
    fp64, fp32, bf16 and fp16 inputs; statistics in fp32 (fp64 for fp64). Entropy in nats. Only the reference path,
    taken when gradients are wanted, is differentiable. ValueError when shapes do not fit.
    """
    masks.check(q, k, v, mask)
    path = attention_path(q, k, v, mask)
    options: dict[str, Any] = {"scale": scale, "causal": causal, "mask": mask, "received_from": received_from}
    if path in ("cpu-eager", "cpu-blocked"):
        return blocked.attention_stats(q, k, v, whole=path == "cpu-eager", **options)
    if path == "cpu-compiled":
        return blocked.attention_stats(q, k, v, whole=at_once(q, k), compiled=native.ready(), **options)
    if path == "cuda-triton":
        from kernels import triton_attention  # triton is optional

        return triton_attention.attention_stats(q, k, v, **options)
    if path == "identities":
        return identities.attention_stats(q, k, v, **options)
    return reference.attention_stats(q, k, v, **options)

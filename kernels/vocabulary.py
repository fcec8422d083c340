"""The public doors to statistics of next-token distributions: which path serves a call; the work is kernels/tiles.py's.

Not covered: what the paths do; see kernels/tiles.py (CPU), kernels/triton_vocabulary.py (CUDA), kernels/reference.py.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kernels import reference
from kernels.dispatch import vocabulary_path
from kernels.logits import Given, Head
from kernels.records import VocabStats
from kernels.sampling import Sampler
from kernels.tiles import WHOLE, sweep, tiled


def vocab_stats(
    logits: Tensor,
    *,
    top_k: int = 8,
    chosen: Tensor | None = None,
    sampler: Sampler | None = None,
    generator: torch.Generator | None = None,
) -> VocabStats:
    """Log-sum-exp, entropy, top-k, log-probability of chosen tokens and a draw, from logits [..., V].

    Everything but the draw is at temperature 1. `chosen` ids [...]; `sampler` asks for a draw with `generator`. Results
    have the leading shape [...]; statistics are fp32 (fp64 for fp64 logits). ValueError: top_k below 1, `chosen` of
    another shape. Differentiable on the reference path, which is taken when gradients are wanted.
    """
    check(logits.shape[:-1], top_k, chosen)
    options: dict[str, Any] = {"top_k": top_k, "chosen": chosen, "sampler": sampler, "generator": generator}
    path, flat, shape = vocabulary_path(logits), logits.reshape(-1, logits.shape[-1]), logits.shape[:-1]
    if path == "reference":
        return reference.vocab_stats(logits, **options)
    if path == "cuda-triton":
        from kernels import triton_vocabulary  # triton is optional

        return tiled(triton_vocabulary.Table(flat), triton_vocabulary.sweep, shape, **options)
    return tiled(Given(flat), sweep, shape, **options)


def head_stats(
    hidden: Tensor,
    weight: Tensor,
    *,
    bias: Tensor | None = None,
    top_k: int = 8,
    chosen: Tensor | None = None,
    sampler: Sampler | None = None,
    generator: torch.Generator | None = None,
) -> VocabStats:
    """`vocab_stats` of hidden [..., D] @ weight [V, D].T + bias [V], without holding more than a million logits."""
    if hidden.shape[-1] != weight.shape[1]:
        raise ValueError(f"hidden {list(hidden.shape)} and weight {list(weight.shape)} need the same last dimension.")
    check(hidden.shape[:-1], top_k, chosen)
    options: dict[str, Any] = {"top_k": top_k, "chosen": chosen, "sampler": sampler, "generator": generator}
    path, flat, shape = vocabulary_path(weight, hidden, bias), hidden.reshape(-1, hidden.shape[-1]), hidden.shape[:-1]
    if path == "reference":
        return reference.head_stats(hidden, weight, bias=bias, **options)
    if path == "cuda-triton":
        from kernels import triton_vocabulary

        source = triton_vocabulary.head_of(flat, weight, bias, sampler)
        return tiled(source, triton_vocabulary.sweep, shape, **options)
    if flat.shape[0] * weight.shape[0] > WHOLE:
        return tiled(Head(flat, weight, bias), sweep, shape, **options)
    logits = torch.nn.functional.linear(flat.to(weight.dtype), weight, bias)
    return tiled(Given(logits), sweep, shape, **options)


def check(shape: torch.Size, top_k: int, chosen: Tensor | None) -> None:
    if top_k < 1:
        raise ValueError("top_k must be at least 1.")
    if chosen is not None and chosen.shape != shape:
        raise ValueError(f"chosen must have the shape {list(shape)}; got {list(chosen.shape)}.")

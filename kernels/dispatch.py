"""Which path runs is decided at every call, from the tensors; tests may force one.

Never at import: on hosted GPUs the device exists only inside the task that uses it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

FORCED: ContextVar[str | None] = ContextVar("forced_kernel_path", default=None)
PATHS = ("reference", "cpu-eager", "cpu-blocked", "cpu-tiled", "cuda-triton", "identities")
TRITON_WIDTH = 256  # widest head whose tiles fit on chip
EAGER_QUERIES = 256  # a whole table at once pays for short sequences,
EAGER_SCORES = 96 * 2048  # as long as all heads fit one block of the blocked path


@contextmanager
def override(path: str) -> Iterator[None]:
    """Runs every kernel of this context on the named path where it has one; ValueError lists the paths."""
    if path not in PATHS:
        raise ValueError(f"Unknown kernel path {path!r}; there are {', '.join(PATHS)}.")
    token = FORCED.set(path)
    try:
        yield
    finally:
        FORCED.reset(token)


def differentiable(*tensors: Tensor | None) -> bool:
    """True when gradients are wanted: only the reference has them."""
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def attention_path(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> str:
    """Path for attention of queries [B, H, N, D] over keys [B, Hkv, M, D]."""
    if FORCED.get() is not None:
        return FORCED.get()
    if differentiable(q, k, v, mask):
        return "reference"
    if q.device.type != "cpu":
        return "cuda-triton" if triton_serves(q, v) else "identities"
    batch, heads, queries, _ = q.shape
    small = queries <= EAGER_QUERIES and batch * heads * queries * k.shape[2] <= EAGER_SCORES
    return "cpu-eager" if small else "cpu-blocked"


def triton_serves(q: Tensor, v: Tensor) -> bool:
    """True where triton is installed and its kernels have shown on this device that they agree with the reference."""
    if q.device.type != "cuda" or q.dtype == torch.float64 or max(q.shape[3], v.shape[3]) > TRITON_WIDTH:
        return False
    try:
        from kernels import triton_attention
    except ImportError:
        return False
    return triton_attention.usable(q.device, q.dtype)


def vocabulary_path(*tensors: Tensor | None) -> str:
    """Path for statistics of logits, or of a projection that makes them."""
    if FORCED.get() == "reference" or differentiable(*tensors) or tensors[0].device.type != "cpu":
        return "reference"
    return "cpu-tiled"

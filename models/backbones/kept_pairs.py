"""A block of transformers' ViT or ViTMAE taken apart, for methods that choose which pairs its attention computes.

    q, k, v = heads_of(layer, hidden)
    hidden = finished(layer, hidden, masked(layer.attention, q, k, v, keys))

keys [B, H, N - 1, b]: the tokens that each patch may look at; the class token, which comes first, looks at all. alive
bool [B, N]: tokens that nobody looks at any more are False. The attention is the library's own, so `observe` sees it.
Letters: B pictures, H heads, N tokens, b kept keys, d head width, D width.
"""
from __future__ import annotations

import sys

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def heads_of(layer: nn.Module, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """q, k, v [B, H, N, d] of a layer."""
    attention, x = layer.attention, layer.layernorm_before(hidden)
    return tuple(part(x).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)
                 for part in (attention.q_proj, attention.k_proj, attention.v_proj))


def allowed(keys: Tensor | None, tokens: int, alive: Tensor | None = None) -> Tensor | None:
    """Bool [B, H, N, N] (or what broadcasts to it) of the pairs that are computed; the class token's row is full."""
    if keys is None:
        return None if alive is None else alive[:, None, None]
    rows = torch.zeros(*keys.shape[:3], tokens, dtype=torch.bool, device=keys.device).scatter_(-1, keys, True)
    full = F.pad(rows, (0, 0, 1, 0), value=True)
    return full if alive is None else full & alive[:, None, None]


def masked(attention: nn.Module, q: Tensor, k: Tensor, v: Tensor, keys: Tensor | None, alive: Tensor | None = None
           ) -> Tensor:
    """What every query hears [B, N, H, d] under a mask, or densely: every pair is computed all the same."""
    may, mask, library = allowed(keys, k.shape[2], alive), None, sys.modules[type(attention).__module__]
    if may is not None:
        mask = torch.zeros((), dtype=q.dtype, device=q.device).masked_fill(~may, float("-inf"))
    run = library.ALL_ATTENTION_FUNCTIONS.get_interface(attention.config._attn_implementation,
                                                        library.eager_attention_forward)
    return run(attention, q, k, v, mask, dropout=0.0, scaling=attention.scaling)[0]


def finished(layer: nn.Module, hidden: Tensor, mixed: Tensor) -> Tensor:
    """The block's output [B, N, D] from what its attention heard."""
    hidden = hidden + layer.attention.o_proj(mixed.flatten(2))
    return hidden + layer.mlp(layer.layernorm_after(hidden))

"""One more token of each text through Llama layers behind their cache: in one call of C (kernels/decoder.c) where
nobody looks inside, by the layers themselves everywhere else. A small network spends most of a token on calling its
parts.

    states = one_token(layers, hidden, angles, cache)  # None: call the layers

Letters: B texts, D width, G key heads, T tokens before, W head width.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

import kernels
from models.backbones import instrument, silence

ROOM, MOST = 64, 64  # tokens that a cache grows by; texts
LOOKED = ("_forward_hooks", "_forward_pre_hooks")


def next_logits(model: nn.Module, ids: Tensor, cache, keep: int = 1) -> Tensor:
    """Logits [B, T or 1, V] of a causal LM behind ids [B, T] and a DynamicCache; keep: 0 for all, 1 for the last."""
    from transformers import LlamaForCausalLM

    if ids.shape[1] == 1 and type(model) is LlamaForCausalLM and cache.layers:
        hidden = model.model.embed_tokens(ids)
        angles = model.model.rotary_emb(hidden, torch.tensor([[cache.get_seq_length()]], device=ids.device))
        states = one_token(model.model.layers, hidden, angles, cache)
        if states is not None:
            return model.lm_head(model.model.norm(states))
    return model(ids, past_key_values=cache, use_cache=True, logits_to_keep=keep).logits


def one_token(layers: Sequence[nn.Module], hidden: Tensor, angles: tuple[Tensor, Tensor], cache) -> Tensor | None:
    """States [B, 1, D] behind all layers from the inputs [B, 1, D] of the first, after the T tokens of a DynamicCache,
    which takes the new one; None, and nothing has happened, where the layers must be called. angles: cos and sin
    [1, 1, W]."""
    fits = hidden.shape[1] == 1 and len(hidden) <= MOST and len(cache.layers) == len(layers)
    fits = fits and len(angles[0]) == 1 and not angles[0].shape[-1] % kernels.LANES
    if not (fits and kernels.decodes(hidden)) or instrument.ACTIVE.get() or silence.SILENT.get():
        return None
    held = [made_ready(layer, cached) for layer, cached in zip(layers, cache.layers)]
    if None in held:
        return None
    at, first = cache.get_seq_length(), layers[0]
    states = kernels.decode_token(hidden[:, 0], [one.weights for one in held], [one.tables for one in held], at,
                                  *(part[0, 0] for part in angles), first.input_layernorm.variance_epsilon,
                                  first.self_attn.scaling)
    for cached, one in zip(cache.layers, held):
        cached.keys, cached.values = (table[:, :, : at + 1] for table in one.tables)
    return states[:, None]


class ReadyLayer(NamedTuple):
    """What a layer of a cache remembers: whose it is, its nine weights, keys and values [B, G, more than T, W]."""

    layer: nn.Module
    weights: tuple[Tensor, ...]
    tables: tuple[Tensor, ...]


def made_ready(layer: nn.Module, cached) -> ReadyLayer | None:
    """A layer and its part of the cache, with room for a token; None where there is more to the layer, or a hook."""
    held = getattr(cached, "held", None)
    if held is None or held.layer is not layer:
        weights = weights_of(layer, cached)
        held = weights and ReadyLayer(layer, weights, (cached.keys[:, :, :0],))
    if held is None or any(vars(layer)[look] for look in LOOKED):
        return None
    table, keys = held.tables[0], cached.keys
    if table.shape[2] <= keys.shape[2] or table.data_ptr() != keys.data_ptr():  # full, or cached anew by the library
        held = held._replace(tables=tuple(nn.functional.pad(part, (0, 0, 0, ROOM)) for part in (keys, cached.values)))
    cached.held = held
    return held


def weights_of(layer: nn.Module, cached) -> tuple[Tensor, ...] | None:
    """The nine weights of a plain Llama layer in the order of decoder.c; None where there is more to it, or a hook."""
    from transformers.cache_utils import DynamicLayer
    from transformers.models.llama.modeling_llama import LlamaDecoderLayer

    if type(layer) is not LlamaDecoderLayer or type(cached) is not DynamicLayer or not cached.is_initialized:
        return None
    attention, mlp = layer.self_attn, layer.mlp
    first = [attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj]
    then = [mlp.gate_proj, mlp.up_proj, mlp.down_proj]
    if any(vars(part)[look] for part in (attention, mlp) for look in LOOKED) or not all(map(plain, first + then)):
        return None
    return tuple(part.weight for part in (layer.input_layernorm, *first, layer.post_attention_layernorm, *then))


def plain(part: nn.Module) -> bool:
    """Whether a projection is a matrix alone, in whole vectors of decoder.c."""
    return (type(part) is nn.Linear and part.bias is None and part.weight.is_contiguous()
            and not any(size % kernels.LANES for size in part.weight.shape))

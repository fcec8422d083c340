"""BICO's way of reading while it trains (arXiv 2311.07468): a causal Llama that also looks ahead.

With rotary positions the score of query m and key n depends on m - n, which a causal network has only seen from 0 up.
So a key that comes later is turned the other way round, with the sine negated, and looks like one that came before:

    S = tril((R_m q)(R_n k)) + triu((R_-m q)(R_-n k), 1)     / sqrt(W), then hidden keys left out, then softmax

No softmax of our own: queries hold both turnings side by side, every key comes once with either one and zeros in the
other's place, and a mask says which of the two a query sees. The weights are those of the network as it is.
Letters: B texts, N tokens, H heads, W head width, V words.
"""
from __future__ import annotations

from copy import deepcopy
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

import kernels
from models.backbones.rows import fused, project
from models.backbones.silence import quiet
from models.backbones.stand_in import stirred
from models.worlds.world import END, PAD


class BothWays(NamedTuple):
    """What one layer attends with: q, k, v [B, H, N, W] as they are turned, q_back, k_back turned back; mask bool
    [B, 1, N, 2 N]: first the keys up to each query, then those behind it."""

    q: Tensor
    k: Tensor
    v: Tensor
    q_back: Tensor
    k_back: Tensor
    mask: Tensor
    scale: float

    def doubled(self) -> tuple[Tensor, Tensor]:
        """Queries [B, H, N, 2 W] and keys [B, H, 2 N, 2 W] whose products are those of either turning."""
        width = self.q.shape[-1]
        return torch.cat([self.q, self.q_back], -1), torch.cat([pad(self.k, (0, width)), pad(self.k_back, (width, 0))],
                                                               2)

    def mixed(self) -> Tensor:
        """[B, H, N, W]"""
        return fused(*self.doubled(), torch.cat([self.v, self.v], 2), self.scale, mask=self.mask)

    def rows(self) -> Tensor:
        """Exact attention [B, H, N, N]."""
        every = torch.arange(self.q.shape[2])
        return sum(kernels.attention_rows(*self.doubled(), every, scale=self.scale, mask=self.mask).chunk(2, -1))

    def products(self) -> tuple[Tensor, Tensor]:
        """(R_m q)(R_n k) and (R_-m q)(R_-n k) of all pairs, scaled, each [B, H, N, N]."""
        return (self.q @ self.k.transpose(-1, -2) * self.scale,
                self.q_back @ self.k_back.transpose(-1, -2) * self.scale)

    def scores(self) -> Tensor:
        """S [B, H, N, N], before any key is left out."""
        ahead, back = self.products()
        return ahead.tril() + back.triu(1)


def both_ways(attention: nn.Module, normed: Tensor, turn: tuple[Tensor, Tensor], back: tuple[Tensor, Tensor],
              seen: Tensor, flip: bool = True) -> BothWays:
    """turn, back: cos and sin [1, N, W] of the places m, and of -2 m, which take R_m to R_-m. seen bool [B, N]: keys
    that anyone may look at. flip=False leaves later keys as rotary positions have them."""
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    q, k, v = project(attention, normed, turn)
    k, v = (part.repeat_interleave(attention.num_key_value_groups, 1) for part in (k, v))
    turned = apply_rotary_pos_emb(q, k, *back) if flip else (q, k)
    before = torch.ones(2 * (normed.shape[1],), dtype=torch.bool, device=normed.device).tril()  # [N, N]
    mask = torch.cat([before & seen[:, None], ~before & seen[:, None]], -1)[:, None]
    return BothWays(q, k, v, *turned, mask, attention.scaling)


def look_around(model, ids: Tensor, seen: Tensor, flip: bool = True, found: list[BothWays] | None = None) -> Tensor:
    """Logits [B, N, V] of a causal network that looks both ways at the keys `seen`. found: takes every layer's."""
    hidden, places = model.model.embed_tokens(ids), torch.arange(ids.shape[1], device=ids.device)[None]
    turn, back = (model.model.rotary_emb(hidden, at) for at in (places, -2 * places))
    for layer in model.model.layers:
        ways = both_ways(layer.self_attn, layer.input_layernorm(hidden), turn, back, seen, flip)
        hidden = hidden + layer.self_attn.o_proj(quiet(layer.self_attn, ways.mixed().transpose(1, 2)).flatten(2))
        hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
        if found is not None:
            found.append(ways)
    return model.lm_head(model.model.norm(hidden))


def selected(ids: Tensor, rate: float, dice: Tensor) -> Tensor:
    """Which words are hidden, bool [B, N]: each with this chance (dice [B, N] in 0..1), no special token."""
    return (dice < rate) & (ids != END) & (ids != PAD)


def told_by_the_one_before(logits: Tensor, ids: Tensor, at: Tensor) -> Tensor:
    """Cross-entropy (nats, mean) of the tokens at places `at`, bool [B, N]: token i is told by state i - 1, as in a
    causal network, and not by its own. Nothing tells the first."""
    return cross_entropy(logits[:, :-1][at[:, 1:]].float(), ids[:, 1:][at[:, 1:]])


# ---- for tests: tale-ar-1's stand-in, with other weights for each arm

STAND_INS = {name: lambda bundle, std=std: (stirred(deepcopy(bundle("tale-ar-1").model), std=std),
                                            bundle("tale-ar-1").tokenizer)
             for name, std in (("tale-bico-1", 0.3), ("tale-bico-noflip-1", 0.31), ("tale-bico-ntp-1", 0.32))}

"""SimMIM (arXiv 2111.09886) on transformers' ViTMAE: hidden patches stay in the encoder, all as one learned vector.

    x_0 = [CLS], (hidden ? mask_token : z) + positions        # z: patch embeddings
    x_l = block_l(x_{l-1});  patches = linear(LN(x_L))        # no decoder; L1 on the pixels of hidden patches

`vit` is an MAE's encoder, so that photos of which nothing is hidden are read as any MAE reads them. How far mask tokens
stand from seen ones (arXiv 2404.08330 asks it by entropies; the formula is ours), V seen patches, M hidden ones:

    H_l = mean over i in V, j in M of JS(q_i, q_j), q = softmax over channels of LN(x_l)          # bits, 0..1

Letters: B pictures, L patches, N = L + 1 tokens, D width, H heads, P numbers of a patch.
"""
from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import ViTMAEConfig, ViTMAEForPreTraining
from transformers.models.vit_mae.modeling_vit_mae import ViTMAEModel, ViTMAEPreTrainedModel


class MaskedPass(NamedTuple):
    """z [B, L, D] of all patches, those that are hidden included; states [B, N, D] at the input and after each block;
    weights [B, H, N, N] of each block where attention is "eager", else None; patches [B, L, P] as painted."""

    z: Tensor
    states: list[Tensor]
    weights: list[Tensor | None]
    patches: Tensor

    def error(self, target: Tensor, mask: Tensor) -> Tensor:
        """Mean L1 distance [B] of the hidden patches' pixels; mask bool [B, L]."""
        return ((self.patches - target).abs().mean(-1) * mask).sum(1) / mask.sum(1)


class SimMIMForPreTraining(ViTMAEPreTrainedModel):
    """The encoder, the mask vector and one linear layer."""

    def __init__(self, config: ViTMAEConfig):
        super().__init__(config)
        self.vit = ViTMAEModel(config)
        self.mask_token = nn.Parameter(config.initializer_range * torch.randn(1, 1, config.hidden_size))
        self.pixel_head = nn.Linear(config.hidden_size, config.patch_size**2 * config.num_channels)
        self.post_init()

    patchify, unpatchify = ViTMAEForPreTraining.patchify, ViTMAEForPreTraining.unpatchify

    def bias(self, block: int, mask: Tensor) -> Tensor | None:
        """What a block adds to its attention logits [B, H, N, N], for methods that weigh pairs of tokens."""

    def forward(self, pixels: Tensor, mask: Tensor) -> MaskedPass:
        """pixels [B, 3, S, S]; mask bool [B, L], True = hidden."""
        embeddings, weights = self.vit.embeddings, []
        z, places = embeddings.patch_embeddings(pixels), embeddings.position_embeddings
        tokens = torch.where(mask[..., None], self.mask_token.to(z.dtype), z) + places[:, 1:]
        first = (embeddings.cls_token + places[:, :1]).expand(len(z), -1, -1)
        states = [torch.cat([first, tokens], 1)]
        for number, layer in enumerate(self.vit.layers):
            x = states[-1]
            heard, weight = layer.attention(layer.layernorm_before(x), self.bias(number, mask))
            x = x + heard
            states.append(x + layer.mlp(layer.layernorm_after(x)))
            weights.append(weight)
        return MaskedPass(z, states, weights, self.pixel_head(self.vit.layernorm(states[-1]))[:, 1:])


def hiding(noise: Tensor, count: int) -> Tensor:
    """Bool [B, L]: the `count` patches of highest noise are hidden."""
    return torch.zeros_like(noise, dtype=torch.bool).scatter_(1, noise.topk(count, 1).indices, True)


def picked(tokens: Tensor, which: Tensor) -> Tensor:
    """[B, L, ...] -> [B, n, ...]: those of bool [B, L], of which every picture has n."""
    return tokens[which].unflatten(0, (len(tokens), -1))


def entropy(q: Tensor) -> Tensor:
    return -(q * q.clamp_min(1e-12).log2()).sum(-1)


def heterogeneity(x: Tensor, mask: Tensor) -> Tensor:
    """H_l [B] of tokens [B, N, D]; mask bool [B, L]. ValueError where nothing is hidden: an MAE's encoder has no mask
    tokens to compare with."""
    if x.shape[1] != mask.shape[1] + 1 or not mask.any(1).all() or mask.all(1).any():
        raise ValueError("heterogeneity compares mask tokens with seen ones: here there are not both")
    q = F.layer_norm(x[:, 1:].float(), x.shape[-1:]).softmax(-1)  # [B, L, D]
    seen, hidden = picked(q, ~mask)[:, :, None], picked(q, mask)[:, None]  # [B, V, 1, D], [B, 1, M, D]
    return (entropy((seen + hidden) / 2) - (entropy(seen) + entropy(hidden)) / 2).mean((1, 2))

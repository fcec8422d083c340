"""MaskAlign (arXiv 2211.08887): a student of few patches matches what a frozen teacher of all patches makes of them.

    x^b = output of student block b on [CLS] and the kept patches     # before the final norm
    s^a = Head_a(sum_b W[a, b] x^b)                                   # Dynamic Alignment; W starts as identity + 0.01
    y^a = LayerNorm(t^a) without affine, of teacher layer a on the whole picture, at the same places
    loss = sum over the top 5 levels of 1/5 of 2 smooth-L1(s^a, y^a), mean over tokens ([CLS] too) and channels

Nothing is said of patches that are not kept. Letters: B pictures, L patches, K kept, N = 1 + K or 1 + L tokens, R
layers of both, A levels with a loss, D width.
"""
from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import kernels
from models.loops.mask.loop import block_macs
from models.loops.mask.photos import masked_count

LEVELS, RATIO = 5, 0.7  # top levels with a loss; share of the patches that the student does not see
KEPT = 64 - masked_count(64, RATIO)  # K in training


class DynamicAlignment(nn.Module):
    """W [R, R], unconstrained, and a linear head for each of the top levels. W's rows of other levels have no use."""

    def __init__(self, layers: int, width: int, levels: int):
        super().__init__()
        self.mix = nn.Parameter((torch.eye(layers) + 0.01).flatten())  # a vector is shipped in half precision
        self.levels = nn.ModuleList(nn.Linear(width, width) for _ in range(levels))

    @property
    def w(self) -> Tensor:
        """[R, R], level by block."""
        return self.mix.unflatten(0, (math.isqrt(len(self.mix)), -1))

    def forward(self, states: Tensor) -> Tensor:
        """states [R, B, N, D] -> s [A, B, N, D]."""
        fused = torch.einsum("ab,b...->a...", self.w[-len(self.levels):], states)
        return torch.stack([head(one) for head, one in zip(self.levels, fused)])


class WholeSight(NamedTuple):
    """What the teacher makes of pictures: every layer's output [R, B, N, D], before the final norm, and the last
    layer's attention [B, L] from [CLS], mean over heads."""

    states: Tensor
    importance: Tensor

    def targets(self, levels: int = LEVELS) -> Tensor:
        """y [A, B, N, D] of the top levels."""
        top = self.states[-levels:].float()
        return F.layer_norm(top, top.shape[-1:])


@torch.no_grad()
def whole(teacher: nn.Module, pixels: Tensor) -> WholeSight:
    """The teacher's pass over all patches. Nothing is hidden from it: that is where the context comes from."""
    hidden, states = teacher.vit.embeddings(pixels), []
    for layer in teacher.vit.layers:
        before, hidden = hidden, layer(hidden)
        states.append(hidden)
    attention, x = layer.attention, layer.layernorm_before(before)
    q, k = (part.unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)
            for part in (attention.q_proj(x[:, :1]), attention.k_proj(x)))
    rows = kernels.attention_rows(q, k, [0], scale=attention.scaling)  # [B, H, 1, N]
    return WholeSight(torch.stack(states), rows[:, :, 0, 1:].float().mean(1))


def drawn(importance: Tensor, noise: Tensor) -> Tensor:
    """The order [B, L] in which patches are drawn without replacement, each next one in proportion to its importance
    among those that are left. noise [B, L], uniform on 0 to 1: waiting times -log(noise) / importance come in this
    order, as exponential clocks do."""
    return (-noise.clamp_min(1e-12).log() / importance.to(noise)).argsort(1)


def blocks(model: nn.Module, pixels: Tensor, kept: Tensor) -> Tensor:
    """Output [R, B, 1 + K, D] of every block of a ViT, before the final norm, that sees the patches `kept` [B, K]."""
    embeddings, states = model.vit.embeddings, []
    tokens = embeddings.patch_embeddings(pixels) + embeddings.position_embeddings[:, 1:]
    first = (embeddings.cls_token + embeddings.position_embeddings[:, :1]).expand(len(tokens), -1, -1)
    hidden = torch.cat([first, tokens.gather(1, kept[..., None].expand(-1, -1, tokens.shape[2]))], 1)
    for layer in model.vit.layers:
        hidden = layer(hidden, None)
        states.append(hidden)
    return torch.stack(states)


def seen(order: Tensor, kept: int = KEPT) -> Tensor:
    """Places [B, 1 + K] of [CLS] and the first patches of an order, among [CLS] and all patches."""
    return F.pad(order[:, :kept] + 1, (1, 0))


def at(tokens: Tensor, places: Tensor) -> Tensor:
    """Of tokens [A, B, N, D] those at `places` [B, K]: [A, B, K, D]."""
    return tokens.gather(2, places[None, ..., None].expand(len(tokens), -1, -1, tokens.shape[-1]))


def token_errors(s: Tensor, y: Tensor) -> Tensor:
    """2 smooth-L1 [A, B, N], mean over channels; its mean is the loss, because all levels weigh the same."""
    return 2 * F.smooth_l1_loss(s.float(), y, reduction="none").mean(-1)


def training_work(c, kept: int, rebuilt: bool = False) -> tuple[int, int]:
    """Multiply-adds of one photo in training, by a ViTMAE's config: of the teacher's pass, a network of the student's
    size; and of all that learns, where going back counts as two passes. rebuilt: a decoder says the features of hidden
    patches instead."""
    count, wide, d = (c.image_size // c.patch_size) ** 2, c.hidden_size, c.decoder_hidden_size
    layers, cut = c.num_hidden_layers, count * c.num_channels * c.patch_size**2
    levels = min(LEVELS, layers)
    asked = (count + 2) * wide * wide + (count + 1) * wide  # q and k once more, for the last layer's row
    teacher = cut * wide + layers * block_macs(count + 1, wide, c.intermediate_size) + asked
    student = cut * wide + layers * block_macs(kept + 1, wide, c.intermediate_size)
    if not rebuilt:
        return teacher, 3 * (student + (kept + 1) * wide * levels * (layers + wide))
    decoder = c.decoder_num_hidden_layers * block_macs(count + 1, d, c.decoder_intermediate_size)
    return teacher, 3 * (student + (kept + 1) * wide * d + decoder + (count - kept) * d * levels * wide)

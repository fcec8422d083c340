"""What networks of next-scale prediction share (VAR, arXiv 2404.02905): what a scale reads, where its tokens stand, the
order of scales and the head. Between reading and head each paper has layers of its own.

The input of a scale is no embedding of tokens. It is what the coarser maps add up to, upsampled and filtered, taken at
this scale's own size (`ScaleTokenizer.following`), so that each place reads where it stands and predicts its own token.
Scale 1 reads the caption's words and a learned start. Rotary places are the middles of the tokens, measured in cells of
the masked model of the same scenes, so that one geometry serves all scales.

Letters: B samples, C caption words, L tokens of all scales, M tokens of one, F features' channels, D width, V entries.
"""
from __future__ import annotations

import torch
from torch import Tensor, nn

from models.backbones.masked import rotary
from models.backbones.scales import Scaled


class NextScale(Scaled, nn.Module):
    """vocab_size V and channels F are the tokenizer's; span: the picture's side in units of rotary positions;
    cond_vocab_size: words of captions including 0, which says nothing. prefix: how many words stand before scale 1."""

    prefix = 0

    def __init__(self, vocab_size: int, channels: int, scales: tuple[int, ...], hidden_size: int, cond_vocab_size: int,
                 span: float, rope_theta: float):
        super().__init__()
        self.vocab_size, self.scales, self.span, self.rope_theta = vocab_size, tuple(scales), span, rope_theta
        self.embed_cond = nn.Embedding(cond_vocab_size, hidden_size)
        self.embed_start = nn.Parameter(0.02 * torch.randn(hidden_size))
        self.embed_features = nn.Linear(channels, hidden_size)
        self.embed_places = nn.Embedding(self.length, hidden_size)
        self.embed_levels = nn.Embedding(len(self.scales), hidden_size)
        self.lm_head = nn.Linear(hidden_size, vocab_size)
        for part in (self.embed_places, self.embed_levels, self.lm_head):
            nn.init.normal_(part.weight, std=0.02)

    def turns(self) -> Tensor:
        """Rotary positions [L, 2]: every token's middle; the first fine cell's is 1."""
        return self.middles() * self.span + 0.5

    def angles(self) -> tuple[Tensor, Tensor]:
        """cos and sin [1, prefix + L, W]; the caption is not turned."""
        weight = self.lm_head.weight
        rows, columns = self.turns().to(weight.device).T
        return rotary(rows, columns, self.prefix, self.config.head_dim, self.rope_theta, weight.dtype)

    def start(self, cond: Tensor) -> Tensor:
        """What scale 1 reads [B, 1, D]: a learned start and the sum of the words."""
        return self.embed_start + self.embed_cond(cond).sum(1, keepdim=True)

    def level(self, scale: int, features: Tensor | None, cond: Tensor) -> Tensor:
        """The first layer's inputs [B, p * p, D] of one scale from its features [B, p * p, F], None for the first."""
        hidden = self.start(cond) if features is None else self.embed_features(features)
        return hidden + self.embed_places.weight[self.place(scale)] + self.embed_levels.weight[scale]

    def reads(self, features: Tensor, cond: Tensor) -> Tensor:
        """The same [B, M + 1, D] of the first M + 1 tokens, whole scales, from features [B, M, F] of the scales that
        are coarser than each and words [B, C]; M + 1 = L for the whole pyramid."""
        end = 1 + features.shape[1]
        return torch.cat([
            self.level(k, features[:, self.place(k).start - 1 : self.place(k).stop - 1] if k else None, cond)
            for k in range(len(self.scales)) if self.place(k).stop <= end], 1)

    def ranks(self) -> Tensor:
        """The scale [prefix + L] of every token; the caption counts as the scale before the first, -1."""
        return torch.cat([torch.full((self.prefix,), -1), self.level_of()]).to(self.lm_head.weight.device)

    def mask(self) -> Tensor:
        """Bool [1, 1, prefix + L, prefix + L], block-causal: a query of scale i sees keys of scales j <= i."""
        level = self.ranks()
        return (level[:, None] >= level)[None, None]

    def around(self) -> int:
        """Multiply-adds of one token outside the layers."""
        return self.lm_head.weight.numel() + self.embed_features.weight.numel()

"""A masked diffusion over blocks of words that come one after the other (arXiv 2503.09573).

    p(x) = prod_b p(x_b | x_<b)     each factor a masked diffusion inside block b, whose length may be any

A token looks at its own block and at all blocks before it. In training a noisy and a clean copy stand side by side: a
noisy block looks at itself and at the clean blocks before it, so that all blocks of a text are learned in one pass. In
writing, the keys and values of finished blocks are kept (`BlockStream`).
Letters: B texts, R of them in a pass, N tokens, W tokens of a window, D width, V words.
"""
from __future__ import annotations

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from models.backbones.masked import MaskedTransformer
from models.worlds.world import MASK

SIZES = (1, 2, 4, 8, 16)
LONGEST = SIZES[-1]


class BlockDiffusionLM(nn.Module, PyTorchModelHubMixin):
    """The layers of a causal language model under the names that they have there, so that a difference can be shipped.
    """

    def __init__(self, vocab_size: int, hidden_size: int = 192, num_hidden_layers: int = 6,
                 num_attention_heads: int = 4, intermediate_size: int = 512):
        super().__init__()
        self.model = MaskedTransformer(vocab_size, hidden_size, num_hidden_layers, num_attention_heads, None,
                                       intermediate_size, positions="1d", mask_token_id=MASK)

    def forward(self, noisy: Tensor, clean: Tensor, blocks: Tensor) -> Tensor:
        """Logits [B, N, V] of a noisy copy [B, N] whose clean one stands beside it; blocks [B, N]: the number of the
        block that each token belongs to."""
        count = noisy.shape[1]
        hidden, (cos, sin) = self.model.embed(torch.cat([noisy, clean], 1))
        turned = cos[:, :count].repeat(1, 2, 1), sin[:, :count].repeat(1, 2, 1)  # both copies stand in the same places
        seen = side_by_side(blocks)[:, None]
        for layer in self.model.layers:
            hidden = layer(hidden, attention_mask=seen, position_embeddings=turned)
        return self.head(hidden[:, :count])

    def head(self, hidden: Tensor) -> Tensor:
        """Logits without the mask, which is no word."""
        logits = self.model.head(hidden)
        return logits.index_fill(-1, torch.tensor(MASK, device=logits.device), float("-inf"))


def side_by_side(blocks: Tensor) -> Tensor:
    """Who sees whom [B, 2N, 2N], the noisy copy first: a noisy block itself and the clean ones before it, a clean one
    itself and those before it."""
    mine, theirs = blocks[:, :, None], blocks[:, None]
    return torch.cat([torch.cat([mine == theirs, mine > theirs], 2),
                      torch.cat([torch.zeros_like(mine == theirs), mine >= theirs], 2)], 1)

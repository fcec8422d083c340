"""VAR's transformer (arXiv 2404.02905): all tokens of a scale are predicted at once, from all coarser scales.

What a scale reads is models/backbones/next_scale.py's. Attention is block-causal: a query of scale i sees keys of
scales j <= i, and the caption.

The paper's class enters by AdaLN. Here the caption's words stand before the first scale, as in the masked model of the
same scenes, from whose layers this one starts: RMSNorm, SwiGLU and rotary positions are that model's. Left out:
normalised queries and keys, drop-path.

Letters: B samples, C caption words, L tokens of all scales, M tokens of one, F features' channels, D width, V entries.
"""
from __future__ import annotations

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from models.backbones.masked import MaskedTransformer, block_config, blocks
from models.backbones.next_scale import NextScale
from models.backbones.rows import layer_work
from models.backbones.scales import SCALES
from models.backbones.stand_in import stirred


class ScaleTransformer(NextScale, PyTorchModelHubMixin):
    """Logits of every token of a pyramid given the coarser scales and a caption.

    vocab_size V and channels F are the tokenizer's; span: the picture's side in units of rotary positions;
    cond_vocab_size: words of captions including 0, which says nothing; cond_length C.
    """

    def __init__(self, vocab_size: int = 1536, channels: int = 32, scales: tuple[int, ...] = SCALES,
                 hidden_size: int = 192, num_hidden_layers: int = 6, num_attention_heads: int = 4,
                 intermediate_size: int = 512, cond_vocab_size: int = 37, cond_length: int = 4, span: float = 16.0,
                 rope_theta: float = 100.0, rms_norm_eps: float = 1e-5):
        super().__init__(vocab_size, channels, scales, hidden_size, cond_vocab_size, span, rope_theta)
        self.cond_length = self.prefix = cond_length
        self.config = block_config(hidden_size, num_attention_heads, intermediate_size, rms_norm_eps,
                                   vocab_size=vocab_size, num_hidden_layers=num_hidden_layers)
        self.embed_slots = nn.Embedding(cond_length, hidden_size)
        self.layers = blocks(self.config, num_hidden_layers)
        self.norm = LlamaRMSNorm(hidden_size, eps=rms_norm_eps)

    @classmethod
    @torch.no_grad()
    def beside(cls, trunk: MaskedTransformer, tokenizer) -> ScaleTransformer:
        """A network for a tokenizer's pyramid that starts from a masked model's layers, words and places."""
        c = trunk.config
        made = cls(tokenizer.codebook_size, tokenizer.channels, tokenizer.scales, c.hidden_size, len(trunk.layers),
                   c.num_attention_heads, c.intermediate_size, trunk.embed_cond.num_embeddings, trunk.cond_length,
                   float(trunk.grid[0]), trunk.rope_theta)
        for name in ("layers", "norm", "embed_cond", "embed_slots"):
            getattr(made, name).load_state_dict(getattr(trunk, name).state_dict())
        if hasattr(trunk, "embed_rows"):
            rows, columns = made.turns().clamp(1, made.span).round().long().T - 1
            made.embed_places.weight.copy_(trunk.embed_rows.weight[rows] + trunk.embed_columns.weight[columns])
        return made

    def caption(self, cond: Tensor) -> Tensor:
        """The first layer's inputs [B, C, D] of caption words int64 [B, C]."""
        return self.embed_cond(cond) + self.embed_slots.weight

    def states(self, hidden: Tensor, angles, cache: DynamicCache | None = None, mask: Tensor | None = None) -> Tensor:
        """Last states [B, M, D] before the final norm; behind a cache every row sees all of it, and needs no mask."""
        for layer in self.layers:
            hidden = layer(hidden, position_embeddings=angles, past_key_values=cache, attention_mask=mask)
        return hidden

    def head(self, hidden: Tensor) -> Tensor:
        """Logits [B, M, V]."""
        return self.lm_head(self.norm(hidden))

    def work(self, scale: int) -> int:
        """Multiply-adds of one sample's pass over a scale behind a cache; the first also computes the caption."""
        seen, tokens = self.cond_length + self.place(scale).stop, self.scales[scale] ** 2
        rows = tokens + (self.cond_length if scale == 0 else 0)
        return len(self.layers) * layer_work(self.layers[0], rows, seen) + tokens * self.around()

    def forward(self, features: Tensor, cond: Tensor) -> Tensor:
        """Logits [B, M + 1, V] of what `reads` reads. What is left out changes nothing."""
        hidden = torch.cat([self.caption(cond), self.reads(features, cond)], 1)
        there = slice(hidden.shape[1])
        hidden = self.states(hidden, [part[:, there] for part in self.angles()], mask=self.mask()[..., there, there])
        return self.head(hidden[:, self.cond_length :])


# ---- for tests: tiny random weights in the shipped layout; `bundle` gives other checkpoints' stand-ins

STAND_INS = {"scene-var-1": lambda bundle: stirred(ScaleTransformer(
    64, 10, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64), std=0.2)}

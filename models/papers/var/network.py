"""VAR's transformer (arXiv 2404.02905): all tokens of a scale are predicted at once, from all coarser scales.

The input of a scale is no embedding of tokens. It is what the coarser maps add up to, upsampled and filtered, taken at
this scale's own size (`ScaleTokenizer.following`), so that each place reads where it stands and predicts its own token.
Scale 1 reads the caption's words and a learned start. Attention is block-causal: a query of scale i sees keys of
scales j <= i, and the caption.

The paper's class enters by AdaLN. Here the caption's words stand before the first scale, as in the masked model of the
same scenes, from whose layers this one starts: RMSNorm, SwiGLU and rotary positions are that model's. Rotary places
are the middles of the tokens, measured in its cells, so that one geometry serves all scales. Left out: normalised
queries and keys, drop-path.

Letters: B samples, C caption words, L tokens of all scales, M tokens of one, F features' channels, D width, V entries.
"""
from __future__ import annotations

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from models.backbones.masked import MaskedTransformer, block_config, blocks, rotary
from models.backbones.rows import layer_work
from models.backbones.scales import SCALES, Scaled
from models.backbones.stand_in import stirred


class ScaleTransformer(Scaled, nn.Module, PyTorchModelHubMixin):
    """Logits of every token of a pyramid given the coarser scales and a caption.

    vocab_size V and channels F are the tokenizer's; span: the picture's side in units of rotary positions;
    cond_vocab_size: words of captions including 0, which says nothing; cond_length C.
    """

    def __init__(self, vocab_size: int = 1536, channels: int = 32, scales: tuple[int, ...] = SCALES,
                 hidden_size: int = 192, num_hidden_layers: int = 6, num_attention_heads: int = 4,
                 intermediate_size: int = 512, cond_vocab_size: int = 37, cond_length: int = 4, span: float = 16.0,
                 rope_theta: float = 100.0, rms_norm_eps: float = 1e-5):
        super().__init__()
        self.vocab_size, self.scales, self.cond_length = vocab_size, tuple(scales), cond_length
        self.span, self.rope_theta = span, rope_theta
        self.config = block_config(hidden_size, num_attention_heads, intermediate_size, rms_norm_eps,
                                   vocab_size=vocab_size, num_hidden_layers=num_hidden_layers)
        self.embed_cond = nn.Embedding(cond_vocab_size, hidden_size)
        self.embed_slots = nn.Embedding(cond_length, hidden_size)
        self.embed_start = nn.Parameter(0.02 * torch.randn(hidden_size))
        self.embed_features = nn.Linear(channels, hidden_size)
        self.embed_places = nn.Embedding(self.length, hidden_size)
        self.embed_levels = nn.Embedding(len(self.scales), hidden_size)
        self.layers = blocks(self.config, num_hidden_layers)
        self.norm = LlamaRMSNorm(hidden_size, eps=rms_norm_eps)
        self.lm_head = nn.Linear(hidden_size, vocab_size)
        for part in (self.embed_places, self.embed_levels, self.lm_head):
            nn.init.normal_(part.weight, std=0.02)

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

    def turns(self) -> Tensor:
        """Rotary positions [L, 2]: every token's middle; the first fine cell's is 1."""
        return self.middles() * self.span + 0.5

    def angles(self) -> tuple[Tensor, Tensor]:
        """cos and sin [1, C + L, W]; the caption is not turned."""
        weight = self.lm_head.weight
        rows, columns = self.turns().to(weight.device).T
        return rotary(rows, columns, self.cond_length, self.config.head_dim, self.rope_theta, weight.dtype)

    def caption(self, cond: Tensor) -> Tensor:
        """The first layer's inputs [B, C, D] of caption words int64 [B, C]."""
        return self.embed_cond(cond) + self.embed_slots.weight

    def start(self, cond: Tensor) -> Tensor:
        """What scale 1 reads [B, 1, D]: a learned start and the sum of the words."""
        return self.embed_start + self.embed_cond(cond).sum(1, keepdim=True)

    def level(self, scale: int, features: Tensor | None, cond: Tensor) -> Tensor:
        """The first layer's inputs [B, p * p, D] of one scale from its features [B, p * p, F], None for the first."""
        hidden = self.start(cond) if features is None else self.embed_features(features)
        return hidden + self.embed_places.weight[self.place(scale)] + self.embed_levels.weight[scale]

    def states(self, hidden: Tensor, angles, cache: DynamicCache | None = None, mask: Tensor | None = None) -> Tensor:
        """Last states [B, M, D] before the final norm; behind a cache every row sees all of it, and needs no mask."""
        for layer in self.layers:
            hidden = layer(hidden, position_embeddings=angles, past_key_values=cache, attention_mask=mask)
        return hidden

    def head(self, hidden: Tensor) -> Tensor:
        """Logits [B, M, V]."""
        return self.lm_head(self.norm(hidden))

    def mask(self) -> Tensor:
        """Bool [1, 1, C + L, C + L]: who may look at whom; the caption counts as the scale before the first."""
        level = torch.cat([torch.full((self.cond_length,), -1), self.level_of()]).to(self.lm_head.weight.device)
        return (level[:, None] >= level)[None, None]

    def work(self, scale: int) -> int:
        """Multiply-adds of one sample's pass over a scale behind a cache; the first also computes the caption."""
        seen, tokens = self.cond_length + self.place(scale).stop, self.scales[scale] ** 2
        rows = tokens + (self.cond_length if scale == 0 else 0)
        around = tokens * (self.lm_head.weight.numel() + self.embed_features.weight.numel())
        return len(self.layers) * layer_work(self.layers[0], rows, seen) + around

    def forward(self, features: Tensor, cond: Tensor) -> Tensor:
        """Logits [B, M + 1, V] of the first M + 1 tokens, whole scales, from features [B, M, F] of the scales that are
        coarser than each and words [B, C]; M + 1 = L for the whole pyramid. What is left out changes nothing."""
        end = 1 + features.shape[1]
        levels = [self.level(k, features[:, self.place(k).start - 1 : self.place(k).stop - 1] if k else None, cond)
                  for k in range(len(self.scales)) if self.place(k).stop <= end]
        hidden = torch.cat([self.caption(cond), *levels], 1)
        there = slice(hidden.shape[1])
        hidden = self.states(hidden, [part[:, there] for part in self.angles()], mask=self.mask()[..., there, there])
        return self.head(hidden[:, self.cond_length :])


# ---- for tests: tiny random weights in the shipped layout; `bundle` gives other checkpoints' stand-ins

STAND_INS = {"scene-var-1": lambda bundle: stirred(ScaleTransformer(
    64, 10, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64), std=0.2)}

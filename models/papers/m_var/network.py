"""M-VAR's transformer (arXiv 2411.10433): softmax attention inside each scale, a state-space scan over all of them.

A block has three sub-layers, each x + gamma * f(LN(x) (1 + scale) + shift): attention under a block-diagonal mask (a
query of scale i sees keys of scale i alone, in both directions), Mamba-2 over the whole sequence from coarse to fine,
and an MLP. Nine vectors a block come from the caption by AdaLN; here the linear map to them is one for all blocks and
every block adds its own (VAR's shared variant), and a caption is the sum of its words.

The two controls are the same code: `ssm` off leaves attention inside scales alone ("intra only"), and with `across` on
top a query sees all coarser scales too, which is VAR with AdaLN of six vectors. Queries and keys are normalised as in
VAR's code: without it every query of a first training came to look at one key (NOTES.md).

Letters: B samples, M tokens, L tokens of all scales, D width, V entries, G vectors of a block (9, or 6 without SSM).
"""
from __future__ import annotations

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import DynamicCache
from transformers.models.qwen3.modeling_qwen3 import Qwen3Attention

from models.backbones.masked import block_config
from models.backbones.next_scale import NextScale
from models.backbones.rows import linear_work
from models.backbones.scales import SCALES
from models.backbones.stand_in import stirred
from models.papers.m_var.ssm import Carried, Mamba2


class DecoupledScales(NextScale, PyTorchModelHubMixin):
    """Logits of every token of a pyramid given the coarser scales and a caption.

    across: queries see all coarser scales instead of their own alone; ssm: the scan is there; state: its N.
    """

    def __init__(self, vocab_size: int = 1536, channels: int = 32, scales: tuple[int, ...] = SCALES,
                 hidden_size: int = 128, num_hidden_layers: int = 5, num_attention_heads: int = 4,
                 intermediate_size: int = 512, cond_vocab_size: int = 37, span: float = 16.0, rope_theta: float = 100.0,
                 across: bool = False, ssm: bool = True, state: int = 16, head: int = 32):
        super().__init__(vocab_size, channels, scales, hidden_size, cond_vocab_size, span, rope_theta)
        self.across = across
        self.config = block_config(hidden_size, num_attention_heads, intermediate_size, vocab_size=vocab_size,
                                   num_hidden_layers=num_hidden_layers)
        scans = [Mamba2(hidden_size, state, head=head) if ssm else None for _ in range(num_hidden_layers)]
        self.layers = nn.ModuleList(DecoupledBlock(self.config, place, scan) for place, scan in enumerate(scans))
        self.embed_modulation = nn.Linear(hidden_size, self.layers[0].own.numel())
        nn.init.normal_(self.embed_modulation.weight, std=0.02)
        nn.init.zeros_(self.embed_modulation.bias)

    def mask(self) -> Tensor:
        """Bool [1, 1, L, L]: block-diagonal, or block-causal where attention goes across."""
        level = self.ranks()
        return super().mask() if self.across else (level[:, None] == level)[None, None]

    def told(self, cond: Tensor) -> Tensor:
        """What all blocks are modulated by [B, G, D], of caption words int64 [B, C]."""
        return self.embed_modulation(F.silu(self.embed_cond(cond).sum(1))).unflatten(1, (-1, self.config.hidden_size))

    def states(self, hidden: Tensor, told: Tensor, angles, mask: Tensor | None = None,
               cache: DynamicCache | None = None, carried: list[Carried | None] | None = None) -> Tensor:
        """Last states [B, M, D]. carried: what every layer's scan was left with before these tokens; it is replaced by
        what it is left with after them. cache: keys and values of the coarser scales, where attention goes across."""
        carried = [None] * len(self.layers) if carried is None else carried
        for place, layer in enumerate(self.layers):
            hidden, carried[place] = layer(hidden, told, angles, mask, cache, carried[place])
        return hidden

    def head(self, hidden: Tensor) -> Tensor:
        """Logits [B, M, V]."""
        return self.lm_head(F.layer_norm(hidden, hidden.shape[-1:]))

    def forward(self, features: Tensor, cond: Tensor) -> Tensor:
        """Logits [B, M + 1, V] of what `reads` reads. What is left out changes nothing."""
        hidden = self.reads(features, cond)
        there = slice(hidden.shape[1])
        angles, mask = [part[:, there] for part in self.angles()], self.mask()[..., there, there]
        return self.head(self.states(hidden, self.told(cond), angles, mask))

    def pairs(self, scale: int) -> int:
        """Pairs of query and key that a layer's attention has in a scale."""
        tokens = self.scales[scale] ** 2
        return tokens * (self.place(scale).stop if self.across else tokens)

    def work(self, scale: int) -> int:
        """Multiply-adds of one sample's pass over a scale, behind what is carried or cached."""
        tokens, block = self.scales[scale] ** 2, self.layers[0]
        inside = tokens * (linear_work(block.self_attn) + linear_work(block.mlp))
        inside += 2 * self.config.hidden_size * self.pairs(scale) + (block.ssm.work(tokens) if block.ssm else 0)
        return len(self.layers) * inside + tokens * self.around() + self.embed_modulation.weight.numel()

    def kept(self, scale: int) -> int:
        """Numbers that one sample keeps after a scale: states, or keys and values; nothing where neither is."""
        if self.across:
            return 2 * len(self.layers) * self.place(scale).stop * self.config.hidden_size
        return sum(layer.ssm.carries() for layer in self.layers if layer.ssm)


class DecoupledBlock(nn.Module):
    """Attention, scan, MLP; each changes what the others see, and has a gamma, a scale and a shift of its own."""

    def __init__(self, config, place: int, ssm: Mamba2 | None):
        super().__init__()
        width = config.hidden_size
        self.self_attn, self.ssm = Qwen3Attention(config, place), ssm
        self.self_attn.is_causal = False
        self.mlp = nn.Sequential(nn.Linear(width, config.intermediate_size), nn.GELU(approximate="tanh"),
                                 nn.Linear(config.intermediate_size, width))
        start = torch.tensor([1.0, 0.0, 0.0])[None, :, None].repeat(3 if ssm else 2, 1, width)  # gamma, scale, shift
        self.own = nn.Parameter(start.flatten(0, 1))  # [G, D]

    def forward(self, x: Tensor, told: Tensor, angles, mask, cache, carried: Carried | None):
        """x [B, M, D] after the block, and what the scan carries on."""
        vectors = (self.own + told).unflatten(1, (-1, 3))  # [B, sub-layers, 3, D]
        attend = lambda seen: self.self_attn(seen, position_embeddings=angles, attention_mask=mask,  # noqa: E731
                                             past_key_values=cache)[0]
        x = x + modulated(attend, x, vectors[:, 0])
        if self.ssm:
            seen, (gamma, scale, shift) = F.layer_norm(x, x.shape[-1:]), vectors[:, 1, :, None].unbind(1)
            y, carried = self.ssm(seen * (1 + scale) + shift, carried)
            x = x + gamma * y
        return x + modulated(self.mlp, x, vectors[:, -1]), carried


def modulated(part, x: Tensor, vectors: Tensor) -> Tensor:
    """gamma * part(LN(x) (1 + scale) + shift), of vectors [B, 3, D]."""
    gamma, scale, shift = vectors[:, :, None].unbind(1)
    return gamma * part(F.layer_norm(x, x.shape[-1:]) * (1 + scale) + shift)


# ---- for tests: tiny random weights in the shipped layout

def _tiny(**options):
    return lambda bundle: stirred(DecoupledScales(64, 10, hidden_size=32, num_hidden_layers=2, intermediate_size=64,
                                                  state=8, head=16, **options), std=0.2)


STAND_INS = {"scene-mvar-1": _tiny(), "scene-mvar-full-1": _tiny(across=True, ssm=False),
             "scene-mvar-intra-1": _tiny(ssm=False)}

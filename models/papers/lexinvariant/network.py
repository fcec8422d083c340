"""A causal network without a table of symbols: every sequence brings random vectors of its own, in and out.

Letters: B sequences, T places, V symbols, d size of a symbol's vector, D width, L layers, P width of the probes.
"""
from __future__ import annotations

import math

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import LlamaRMSNorm, LlamaRotaryEmbedding

from models.backbones.masked import block_config, blocks
from models.backbones.stand_in import stirred


class LexinvariantLM(nn.Module, PyTorchModelHubMixin):
    """Llama's blocks over vectors. learned: a table of its own instead, the ordinary model that stands beside it.

    The probes say which real symbol stands at a place, from each layer's states. They are read beside the network:
    nothing flows from them into it.
    """

    def __init__(self, vocab_size: int = 37, hidden_size: int = 128, num_hidden_layers: int = 6,
                 num_attention_heads: int = 4, intermediate_size: int = 384, vector_size: int = 64,
                 probe_size: int = 128, learned: bool = False):
        super().__init__()
        self.config = block_config(hidden_size, num_attention_heads, intermediate_size, vocab_size=vocab_size,
                                   num_hidden_layers=num_hidden_layers)
        self.vocab_size, self.vector_size = vocab_size, vector_size
        # Vectors fill half of the width, so that what is found out about symbols has room beside them.
        self.enter = nn.Linear(vector_size, hidden_size, bias=False)
        self.layers = blocks(self.config, num_hidden_layers, causal=True)
        self.turn, self.norm = LlamaRotaryEmbedding(self.config), LlamaRMSNorm(hidden_size, eps=1e-5)
        self.leave = nn.Linear(hidden_size, vector_size, bias=False)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                nn.init.normal_(weight, std=vector_size**-0.5 if name.startswith("enter") else 0.02)
        self.embed = nn.Parameter(torch.randn(vocab_size, vector_size)) if learned else None
        self.probe_in = nn.Parameter(torch.randn(num_hidden_layers, hidden_size, probe_size) / hidden_size**0.5)
        self.probe_out = nn.Parameter(torch.randn(num_hidden_layers, probe_size, vocab_size) / probe_size**0.5)

    @property
    def device(self) -> torch.device:
        return self.probe_in.device

    def vectors(self, count: int, dice: torch.Generator) -> Tensor:
        """Fresh vectors [B, V, d], one table per sequence; the learned table where there is one."""
        if self.embed is not None:
            return self.embed.expand(count, -1, -1)
        return torch.randn(count, self.vocab_size, self.vector_size, generator=dice).to(self.device)

    def states(self, ids: Tensor, table: Tensor) -> tuple[Tensor, ...]:
        """What each layer makes of ids int64 [B, T] under vectors [B, V, d]: L tensors [B, T, D]."""
        hidden = self.enter(table.gather(1, ids[..., None].expand(-1, -1, self.vector_size)))
        angles, found = self.turn(hidden, torch.arange(ids.shape[1], device=ids.device)[None]), []
        for layer in self.layers:
            hidden = layer(hidden, position_embeddings=angles, attention_mask=None)
            found.append(hidden)
        return tuple(found)

    def logits(self, state: Tensor, table: Tensor) -> Tensor:
        """[B, T, V] from the last states: on the very vectors that were read, so no symbol has a weight of its own."""
        return self.leave(self.norm(state)) @ table.transpose(1, 2) / math.sqrt(self.vector_size)

    def forward(self, ids: Tensor, table: Tensor) -> Tensor:
        return self.logits(self.states(ids, table)[-1], table)

    def deciphered(self, states: tuple[Tensor, ...]) -> Tensor:
        """Logits [L, B, T, V] of which real symbol stands at each place, layer by layer."""
        hidden = torch.stack([state.detach() for state in states])  # [L, B, T, D]
        size = hidden.square().mean(-1, keepdim=True).add(1e-5).rsqrt()
        inner = torch.einsum("lbtd,ldp->lbtp", hidden * size, self.probe_in).relu()
        return torch.einsum("lbtp,lpv->lbtv", inner, self.probe_out)


def tiny(symbols: int, learned: bool = False) -> LexinvariantLM:
    return stirred(LexinvariantLM(symbols, 32, 2, 2, 64, 16, 16, learned))


STAND_INS = {"story-lexinvariant-1": lambda bundle: tiny(37), "story-plain-1": lambda bundle: tiny(37, True),
             "markov-lexinvariant-1": lambda bundle: tiny(5)}

"""A causal network without a table of symbols: every sequence brings random vectors of its own, in and out.

Letters: B sequences, T places, V symbols, d size of a symbol's vector, D width, L layers, P width of the probes.
"""
from __future__ import annotations

import math

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from models.backbones.masked import block_config, blocks
from models.backbones.stand_in import stirred

SHARP = 7.0  # how much more the place before is looked at than its neighbours, to begin with


class LexinvariantLM(nn.Module, PyTorchModelHubMixin):
    """Llama's blocks over vectors. learned: a table of its own instead, the ordinary model that stands beside it.

    Rotary angles turn a part of each head only, so that equal vectors match at any distance. The probes say which real
    symbol stands at a place, from each layer's states. They are read beside the network: nothing flows back into it.
    """

    def __init__(self, vocab_size: int = 37, hidden_size: int = 128, num_hidden_layers: int = 6,
                 num_attention_heads: int = 2, intermediate_size: int = 384, vector_size: int = 40,
                 probe_size: int = 128, learned: bool = False):
        super().__init__()
        self.config = block_config(hidden_size, num_attention_heads, intermediate_size, vocab_size=vocab_size,
                                   num_hidden_layers=num_hidden_layers)
        self.vocab_size, self.vector_size, self.head = vocab_size, vector_size, hidden_size // num_attention_heads
        self.turning = (self.head - vector_size) // 2  # pairs of a head's numbers that turn with the place
        self.enter = nn.Linear(vector_size, hidden_size)  # its bias is the same for all symbols
        self.layers = blocks(self.config, num_hidden_layers, causal=True)
        self.norm = LlamaRMSNorm(hidden_size, eps=1e-5)
        self.leave = nn.Linear(hidden_size, vector_size, bias=False)
        self.begin()
        self.embed = nn.Parameter(torch.randn(vocab_size, vector_size)) if learned else None
        self.probe_in = nn.Parameter(torch.randn(num_hidden_layers, hidden_size, probe_size) / hidden_size**0.5)
        self.probe_out = nn.Parameter(torch.randn(num_hidden_layers, probe_size, vocab_size) / probe_size**0.5)

    @torch.no_grad()
    def begin(self, came: float = 2.0, followed: float = 1.5, match: float = 1.0, loud: float = 0.6) -> None:
        """Starts as one who counts what came and what followed what; no weight knows a symbol.

        The width has four parts: the vector that is read, what is to be said, the vector before it, and a constant. In
        the first layer one head fetches the vector before, and one copies all, evenly, into what is to be said. In the
        second one looks for places behind the same vector and copies what stands there.
        """
        size, width = self.vector_size, self.config.hidden_size
        for weight in self.parameters():
            if weight.dim() == 2:
                nn.init.normal_(weight, std=0.02)
        read, said, before = (slice(i * size, (i + 1) * size) for i in range(3))
        fixed, one = slice(3 * size, width), torch.eye(size)
        self.enter.weight[read] += one
        self.enter.bias.zero_()[fixed] = 1.0
        self.leave.weight[:, said] += loud * one
        self._copies(0, 0, before, 1.0)
        self._copies(0, 1, said, came)
        self._copies(1, 0, said, followed)
        constant = (width - 3 * size) * (width / (width - 2 * size)) ** 0.5  # the sum of its normed numbers
        pairs, high = torch.arange(self.turning), (SHARP * self.head**0.5) ** 0.5 / constant
        waves, half = self.waves(), self.head // 2
        first, second = (layer.self_attn for layer in self.layers[:2])
        first.q_proj.weight[pairs, fixed] += high * waves[pairs, None].cos()
        first.q_proj.weight[half + pairs, fixed] -= high * waves[pairs, None].sin()
        first.k_proj.weight[pairs, fixed] += high
        still = torch.cat([torch.arange(self.turning, half), half + torch.arange(self.turning, half)])
        second.q_proj.weight[still, read] += match * one
        second.k_proj.weight[still, before] += match * one

    def _copies(self, layer: int, head: int, to: slice, gain: float) -> None:
        """A head of this layer copies the vectors that it looks at into a part of the width."""
        own, attention = slice(head * self.head, head * self.head + self.vector_size), self.layers[layer].self_attn
        attention.v_proj.weight[own, : self.vector_size] += torch.eye(self.vector_size)
        attention.o_proj.weight[to, own] += gain * torch.eye(self.vector_size)

    @property
    def device(self) -> torch.device:
        return self.probe_in.device

    def waves(self) -> Tensor:
        """By how much each pair of a head's numbers turns from place to place: 1 to 1 / 512, the rest not at all."""
        found = torch.zeros(self.head // 2)
        found[: self.turning] = 512.0 ** -torch.linspace(0, 1, self.turning)
        return found

    def vectors(self, count: int, dice: torch.Generator) -> Tensor:
        """Fresh vectors [B, V, d], one table per sequence; the learned table where there is one."""
        if self.embed is not None:
            return self.embed.expand(count, -1, -1)
        return drawn(count, self.vocab_size, self.vector_size, dice).to(self.device)

    def states(self, ids: Tensor, table: Tensor) -> tuple[Tensor, ...]:
        """What each layer makes of ids int64 [B, T] under vectors [B, V, d]: L tensors [B, T, D]."""
        hidden, found = self.enter(table.gather(1, ids[..., None].expand(-1, -1, self.vector_size))), []
        turned = torch.arange(ids.shape[1], device=ids.device)[:, None] * self.waves().to(ids.device).repeat(2)
        angles = turned.cos()[None].to(hidden.dtype), turned.sin()[None].to(hidden.dtype)
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


def drawn(count: int, symbols: int, size: int, dice: torch.Generator) -> Tensor:
    """Random vectors [B, V, d] of norm sqrt(d), made orthogonal, as a wide network's nearly are by themselves."""
    return math.sqrt(size) * torch.linalg.qr(torch.randn(count, size, symbols, generator=dice))[0].transpose(1, 2)


def tiny(symbols: int, learned: bool = False) -> LexinvariantLM:
    return stirred(LexinvariantLM(symbols, 128, 2, 2, 64, 40, 16, learned))


STAND_INS = {"story-lexinvariant-1": lambda bundle: tiny(37), "story-plain-1": lambda bundle: tiny(37, True),
             "markov-lexinvariant-1": lambda bundle: tiny(5)}

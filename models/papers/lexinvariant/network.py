"""A causal network without a table of symbols: every sequence brings random vectors of its own, in and out.

Letters: B sequences, T places, V symbols, d size of a symbol's vector, D width, L layers, P width of the probes.
"""
from __future__ import annotations

import math

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaModel


class LexinvariantLM(nn.Module, PyTorchModelHubMixin):
    """Llama's blocks over vectors. learned: a table of its own instead, the ordinary model that stands beside it.

    The probes say which real symbol stands at a place, from each layer's states. They are read beside the network:
    nothing flows from them into it.
    """

    def __init__(self, vocab_size: int = 37, hidden_size: int = 128, num_hidden_layers: int = 6,
                 num_attention_heads: int = 4, intermediate_size: int = 384, max_position_embeddings: int = 512,
                 vector_size: int = 64, learned: bool = False, probe_size: int = 128):
        super().__init__()
        self.body = LlamaModel(LlamaConfig(
            vocab_size=1, hidden_size=hidden_size, intermediate_size=intermediate_size,
            num_hidden_layers=num_hidden_layers, num_attention_heads=num_attention_heads,
            num_key_value_heads=num_attention_heads, max_position_embeddings=max_position_embeddings,
            rms_norm_eps=1e-5, attn_implementation="sdpa", use_cache=False, pad_token_id=None,
            bos_token_id=None, eos_token_id=None))
        self.body.embed_tokens = None  # no symbol has a vector of its own
        self.config, self.vocab_size = self.body.config, vocab_size
        self.vector_size = vector_size
        self.enter = nn.Linear(vector_size, hidden_size, bias=False)  # vectors fill half of the width, so that what
        self.leave = nn.Linear(hidden_size, vector_size, bias=False)  # is found out about symbols has room beside them
        nn.init.normal_(self.enter.weight, std=vector_size**-0.5)
        nn.init.normal_(self.leave.weight, std=0.02)
        self.embed = nn.Parameter(torch.randn(vocab_size, vector_size)) if learned else None
        if probe_size:
            self.probe_in = nn.Parameter(torch.randn(num_hidden_layers, hidden_size, probe_size) / hidden_size**0.5)
            self.probe_out = nn.Parameter(torch.randn(num_hidden_layers, probe_size, vocab_size) / probe_size**0.5)

    @property
    def device(self) -> torch.device:
        return self.body.norm.weight.device

    def states(self, ids: Tensor, table: Tensor) -> tuple[Tensor, ...]:
        """What each layer makes of ids int64 [B, T] under vectors [B, V, d]: L tensors [B, T, D], the last normed."""
        vectors = table.gather(1, ids[..., None].expand(-1, -1, table.shape[-1]))
        return self.body(inputs_embeds=self.enter(vectors), output_hidden_states=True).hidden_states[1:]

    def logits(self, state: Tensor, table: Tensor) -> Tensor:
        """[B, T, V]: the very vectors that were read, so that no symbol has a weight of its own."""
        return self.leave(state) @ table.transpose(1, 2) / math.sqrt(self.vector_size)

    def forward(self, ids: Tensor, table: Tensor) -> Tensor:
        return self.logits(self.states(ids, table)[-1], table)

    def deciphered(self, states: tuple[Tensor, ...]) -> Tensor:
        """Logits [L, B, T, V] of which real symbol stands at each place, layer by layer."""
        hidden = torch.stack([state.detach() for state in states])  # [L, B, T, D]
        size = hidden.square().mean(-1, keepdim=True).add(1e-5).rsqrt()
        inner = torch.einsum("lbtd,ldp->lbtp", hidden * size, self.probe_in).relu()
        return torch.einsum("lbtp,lpv->lbtv", inner, self.probe_out)

    def vectors(self, count: int, dice: torch.Generator | None = None) -> Tensor:
        """Fresh vectors [B, V, d], one table per sequence; the learned table where there is one."""
        if self.embed is not None:
            return self.embed.expand(count, -1, -1)
        return torch.randn(count, self.vocab_size, self.vector_size, generator=dice).to(self.device)

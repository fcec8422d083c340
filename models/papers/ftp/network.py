"""Future token prediction on a frozen Llama (arXiv 2410.18160): one vector of a shallow encoder, N words of a decoder.

    z_i = Norm(first layers of the trunk, changed at low rank)(x_<=i)        [D], causal
    c_i = reshape(W z_i)                                                     [P, W], pseudo-tokens
    y_1 .. y_N = Decoder(start, x_{i+1} .. x_{i+N-1}; cross-attention to c_i alone)

The decoder is transformers' GPT-2 with cross-attention (the paper's kind of block), so nothing but c_i tells it of the
text. Input and output words are the trunk's own table, by a projection. Its control stands on all layers of the trunk:
N linear maps of z_i, one per distance, that know nothing of each other (arXiv 2404.19737).

Letters: B texts, T tokens, M vectors, N words ahead, P pseudo-tokens, D width of the trunk, W of the decoder, V words.
"""
from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn
from torch.nn.functional import embedding
from transformers import GPT2Config, GPT2Model

import kernels
from models.backbones import lora
from models.backbones.stand_in import stirred


class FutureNetwork(nn.Module, PyTorchModelHubMixin):
    """What both share: changes of rank `rank` of a trunk's first `depth` layers. It belongs to one trunk (a
    LlamaForCausalLM's name, and its revision)."""

    def __init__(self, trunk: str, trunk_revision: str, depth: int, ahead: int, rank: int, sizes):
        super().__init__()
        self.trunk, self.trunk_revision, self.depth, self.ahead = trunk, trunk_revision, depth, ahead
        self.layers = lora.changes(*sizes, depth, rank, 2.0 * rank)

    @classmethod
    def beside(cls, base, name: str = "", revision: str = "", **options):
        c = base.config
        keys = c.hidden_size // c.num_attention_heads * c.num_key_value_heads
        return cls(trunk=name, trunk_revision=revision, sizes=(c.hidden_size, c.intermediate_size, keys), **options)

    def on(self, base) -> FutureReader:
        return FutureReader(base, self)

    def states(self, z: Tensor, told: Tensor) -> Tensor:
        """States [M, K + 1, D] for the trunk's head, of the words 1 .. K + 1 behind vectors z [M, D]; told [M, K, D]:
        the embeddings of the first K of them."""
        raise NotImplementedError


class FutureDecoder(FutureNetwork):
    def __init__(self, trunk: str = "tale-ar-1", trunk_revision: str = "", depth: int = 4, ahead: int = 8,
                 rank: int = 32, sizes: tuple[int, int, int] = (192, 512, 192), pseudo: int = 8, width: int = 128,
                 heads: int = 4, blocks: int = 2):
        super().__init__(trunk, trunk_revision, depth, ahead, rank, sizes)
        self.pseudo, self.width = pseudo, width
        self.expand = nn.Linear(sizes[0], pseudo * width)
        self.start = nn.Parameter(torch.randn(width) * 0.02)
        self.into, self.out = nn.Linear(sizes[0], width), nn.Linear(width, sizes[0])
        self.decoder = GPT2Model(GPT2Config(
            vocab_size=1, n_positions=ahead, n_embd=width, n_layer=blocks, n_head=heads, add_cross_attention=True,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, use_cache=False, attn_implementation="sdpa"))

    def states(self, z, told):
        start = self.start.expand(len(z), 1, -1)
        inputs = torch.cat([start, self.into(told).to(start.dtype)], 1)  # [M, K + 1, W]
        memory = self.expand(z).view(len(z), self.pseudo, self.width)  # all that it knows of the text
        return self.out(self.decoder(inputs_embeds=inputs, encoder_hidden_states=memory).last_hidden_state)


class FutureHeads(FutureNetwork):
    """The control: the first word by the trunk's own head, each later one by a linear map of its own before that head.
    """

    def __init__(self, trunk: str = "tale-ar-1", trunk_revision: str = "", depth: int = 6, ahead: int = 8,
                 rank: int = 32, sizes: tuple[int, int, int] = (192, 512, 192)):
        super().__init__(trunk, trunk_revision, depth, ahead, rank, sizes)
        self.heads = nn.ModuleList(nn.Linear(sizes[0], sizes[0]) for _ in range(ahead - 1))
        for head in self.heads:
            nn.init.eye_(head.weight)
            nn.init.zeros_(head.bias)

    def states(self, z, told):
        return torch.stack([z, *(head(z) for head in self.heads[: told.shape[1]])], 1)


class FutureReader:
    """A trunk that reads with what was learned beside it; the trunk itself is not touched."""

    def __init__(self, base, network: FutureNetwork):
        self.base, self.network, self.ahead = base, network, network.ahead
        shallow = copy.copy(base.model)
        shallow._modules = {**base.model._modules, "layers": base.model.layers[: network.depth]}
        self.body = lora.changed(shallow, network.layers)
        self.table = base.get_input_embeddings().weight  # [V, D], tied

    def vectors(self, ids: Tensor) -> Tensor:
        """z [B, T, D] of texts [B, T]."""
        return self.body(ids, use_cache=False).last_hidden_state

    def logits(self, z: Tensor, told: Tensor) -> Tensor:
        """[M, K + 1, V] of the words 1 .. K + 1 behind vectors z [M, D], told the first K of them, ids [M, K]."""
        return self.network.states(z, embedding(told, self.table)) @ self.table.T

    def ahead_of(self, z: Tensor, k: int, paths: int) -> Tensor:
        """Probabilities [M, V] of the word k places ahead of vectors z [M, D]; see `foreseen`."""
        def last(told: Tensor) -> Tensor:  # [M, L, j]
            many = z[:, None].expand(-1, told.shape[1], -1).flatten(0, 1)
            return self.logits(many, told.flatten(0, 1))[:, -1].float().unflatten(0, told.shape[:2])

        return foreseen(last, len(z), k, paths)


@torch.no_grad()
def foreseen(logits: Callable[[Tensor], Tensor], count: int, k: int, paths: int) -> Tensor:
    """Probabilities [M, V] of the word k places ahead of `count` vectors, whatever stands between: the mean over the
    likeliest `paths` of k - 1 words. logits(told [M, L, j]) -> [M, L, V]: of the word behind j given ones."""
    told, weight = torch.zeros(count, 1, 0, dtype=torch.long), torch.zeros(count, 1)
    for _ in range(k - 1):
        found = kernels.vocab_stats(logits(told), top_k=paths)
        weight, best = (weight[..., None] + found.top_logp).flatten(1).topk(paths, 1)  # [M, paths]
        told = told[torch.arange(count)[:, None], best // paths]
        told = torch.cat([told, found.top_ids.flatten(1).gather(1, best)[..., None]], -1)
    last = logits(told)
    share = (weight - weight.amax(1, keepdim=True)).exp()
    chances = (last - kernels.vocab_stats(last, top_k=1).lse[..., None]).exp()
    return (chances * (share / share.sum(1, keepdim=True))[..., None]).sum(1)


# ---- for tests: tiny random weights in the shipped layout; `bundle` gives other checkpoints' stand-ins

STAND_INS = {name: lambda bundle, kind=kind, own=own: stirred(kind.beside(
    bundle("tale-ar-1").model, depth=2, rank=4, ahead=8, **own))
    for name, kind, own in (("tale-ftp-1", FutureDecoder, {"width": 32, "heads": 2}),
                            ("tale-heads-1", FutureHeads, {}))}

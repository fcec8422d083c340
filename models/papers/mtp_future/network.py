"""Gated LoRA, masks and the sampler of multi-token prediction, on a frozen Llama (arXiv 2507.11851).

    y_t = W x_t + g_t (alpha / r) B A x_t       g_t = 1 for a mask, 0 for a real token
    z_i = last state (after the final norm) at mask m_i behind x_n; it speaks of x_{n+1+i}, as x_n speaks of x_{n+1}
    sampler: Unembed(z_i + MLP([z_i ; E(y_{i-1})])),  y_0 = x_{n+1},  MLP = 2 x (Linear -> SiLU -> LayerNorm)

Real tokens take the base's own path, number for number, and `CallLayout` hides the masks from them: the base inside
this network is the untouched model, which is what makes it a free verifier. The z_i added to the MLP is ours: the
sampler starts close to the mask's own guess and learns what the token just before changes.

Letters: B texts, T rows of a call, D width, r rank, V vocabulary, M mask rows.
"""

from __future__ import annotations

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from models.backbones.layout import CallLayout
from models.backbones.lora import Gate, changed, changes
from models.backbones.stand_in import stirred
from models.loops.sample.cached_lm import nats


class FutureSampler(nn.Module):
    """States [..., D] for the head, from mask states [..., D] and the embeddings [..., D] of the tokens before them."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(2 * width, hidden), nn.SiLU(), nn.LayerNorm(hidden),
                                 nn.Linear(hidden, width), nn.SiLU(), nn.LayerNorm(width))
        nn.init.constant_(self.mlp[-1].weight, 0.1)

    def forward(self, states: Tensor, before: Tensor) -> Tensor:
        return states + self.mlp(torch.cat([states, before], -1))


class FutureAdapters(nn.Module, PyTorchModelHubMixin):
    """All that is trained: mask embeddings, low-rank changes of every linear layer, and the sampler. It belongs to one
    base model of the same shape (`trunk`, a LlamaForCausalLM's name, and its revision)."""

    def __init__(self, trunk: str = "text-ar-1", trunk_revision: str = "", masks: int = 8, rank: int = 16,
                 alpha: float = 32.0, sampler_size: int = 256, hidden_size: int = 256, intermediate_size: int = 576,
                 num_hidden_layers: int = 6, num_attention_heads: int = 4, num_key_value_heads: int = 2):
        super().__init__()
        self.trunk, self.trunk_revision, self.masks = trunk, trunk_revision, masks
        keys = hidden_size // num_attention_heads * num_key_value_heads
        self.embed_masks = nn.Embedding(masks, hidden_size)
        self.layers = changes(hidden_size, intermediate_size, keys, num_hidden_layers, rank, alpha)
        self.sampler = FutureSampler(hidden_size, sampler_size)

    @classmethod
    def beside(cls, base, name: str = "", revision: str = "", noise: float = 0.1, **options) -> FutureAdapters:
        """Untrained adapters for a base model: they change nothing, and every mask is an average token and some noise,
        in units of the tokens' spread. Without noise they are what the base is fed with that knows of no masks."""
        shape = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
        made = cls(name, revision, **{part: getattr(base.config, part) for part in shape}, **options)
        table = base.get_input_embeddings().weight.detach().float()
        made.embed_masks.weight.data.mul_(noise * table.std()).add_(table.mean(0))
        return made.to(base.device, base.dtype)

    def on(self, base) -> AdaptedReader:
        return AdaptedReader(base, self)


class AdaptedReader:
    """A base model that can read masks; the base itself is not touched (models/backbones/lora.py). tokens: E, ids [...]
    -> [..., D]; head: the base's own, states [..., D] -> logits [..., V]."""

    def __init__(self, base, adapters: FutureAdapters):
        self.base, self.adapters, self.gate = base, adapters, Gate()
        self.body = changed(base.model, adapters.layers, self.gate)
        self.tokens, self.head = base.get_input_embeddings(), base.get_output_embeddings()

    def __call__(self, ids: Tensor, layout: CallLayout, cache=None, gated: bool = True) -> Tensor:
        """Last states [B, T, D] of one call. ids [B, R]: its real tokens, in order; masks need none. cache: a
        DynamicCache of the real tokens before, which grows by all T rows. gated=False opens the gate for real tokens
        too: a mistake that can be looked at."""
        past, masked = cache.get_seq_length() if cache is not None else 0, layout.mask > 0
        gate = masked if gated else torch.ones_like(masked)
        self.gate.rows = gate.to(ids.device, self.base.dtype)[None, :, None] if bool(gate.any()) else None
        masks = self.adapters.embed_masks.weight[layout.mask[masked].to(ids.device) - 1].to(self.base.dtype)
        out = self.body(inputs_embeds=torch.cat([self.tokens(ids), masks.expand(len(ids), -1, -1)], 1),  # reals first
                        past_key_values=cache, use_cache=cache is not None,
                        position_ids=layout.position.to(ids.device)[None],
                        attention_mask=layout.visible(past).to(ids.device)[None, None])
        return out.last_hidden_state

    def sampled(self, states: Tensor, before: Tensor) -> Tensor:
        """The sampler's logits [..., V] for mask states [..., D] and the ids [...] chosen just before them."""
        return self.head(self.adapters.sampler(states, self.tokens(before)))


def behind(reader: AdaptedReader, ids: Tensor, layout: CallLayout) -> tuple[Tensor, Tensor]:
    """Last states of a text's real tokens [B, N, D] and of blocks of masks behind some of them [B, M, D]. The text is
    read first, by the base alone and without gradients; that it cannot see the masks makes this the same as one call.
    """
    from transformers import DynamicCache

    cache = DynamicCache(config=reader.base.config)
    with torch.no_grad():
        real = reader.base.model(ids, past_key_values=cache, use_cache=True).last_hidden_state
    return real, reader(ids[:, :0], layout, cache)


def lesson(reader: AdaptedReader, ids: Tensor, layout: CallLayout) -> dict[str, Tensor]:
    """The three terms of training, each [B, M], for texts [B, N] with blocks of masks behind some of their tokens: the
    masks' own cross-entropy and the sampler's (nats), and the mean square between a mask's state and the base's state
    that speaks of the same token."""
    real, states = behind(reader, ids, layout)
    before, after = ids[:, layout.position], ids[:, layout.position + 1]  # m_i behind x_n: x_{n+i} and x_{n+1+i}
    return {"masks": nats(reader.head(states), after), "sampler": nats(reader.sampled(states, before), after),
            "consistency": (states - real[:, layout.position]).square().mean(-1)}


# ---- for tests: tiny random weights in the shipped layout; `bundle` gives other checkpoints' stand-ins

STAND_INS = {name: lambda bundle, base=base: stirred(FutureAdapters.beside(
    bundle(base).model, rank=4, sampler_size=32), "up.weight", "sampler.mlp.5.weight")
    for name, base in (("text-mtp-1", "text-ar-1"), ("algo-mtp-1", "algo-arithmetic-1"))}

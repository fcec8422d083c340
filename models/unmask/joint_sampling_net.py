"""ADJUST's network and its lesson (arXiv 2509.22738): one layer that tells the masks about a token just drawn.

The paper's fusion is not published; this wiring is ours: u_i = h_i + W e(x_i), one bidirectional layer on u, the frozen
head on what comes out. h is the frozen trunk's last state from the start of the round, e the embedding of the token
that stands there now. W and the layer's two output matrices start at zero, so an untrained layer repeats the trunk.

The lesson is the chain rule of KL(exact joint || ADJUST's joint): at each x_k of the trunk's own one-token-at-a-time
sampling, KL(trunk on x_k || layer on (h(x_0), x_k)), averaged over positions still masked (ours; the paper may use the
chosen one alone). No text enters it but the prompt: teacher and tokens are the trunk's.

Letters: B samples, N tokens, D width, K steps of a round, P positions, V vocabulary.
"""
from __future__ import annotations

from dataclasses import dataclass

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRMSNorm

import kernels
from models.unmask.joint_sampling_records import divergence

NEVER = -1e4  # a logit that is never drawn and, unlike -inf, leaves a finite KL


class JointSampler(nn.Module, PyTorchModelHubMixin):
    """g: one layer on the frozen states of `trunk` (a MaskedTransformer's name; the shape must be its own)."""

    def __init__(self, trunk: str = "text-mdm-1", trunk_revision: str = "", hidden_size: int = 256,
                 num_attention_heads: int = 4, num_key_value_heads: int = 2, intermediate_size: int = 576,
                 rms_norm_eps: float = 1e-5):
        super().__init__()
        self.trunk, self.trunk_revision = trunk, trunk_revision
        config = LlamaConfig(hidden_size=hidden_size, num_attention_heads=num_attention_heads,
                             num_key_value_heads=num_key_value_heads, intermediate_size=intermediate_size,
                             rms_norm_eps=rms_norm_eps, attn_implementation="sdpa")
        self.token_norm = LlamaRMSNorm(hidden_size, eps=rms_norm_eps)
        self.token_projection = nn.Linear(hidden_size, hidden_size, bias=False)
        self.layer = LlamaDecoderLayer(config, 0)
        self.layer.self_attn.is_causal = False
        for matrix in (self.token_projection, self.layer.self_attn.o_proj, self.layer.mlp.down_proj):
            nn.init.zeros_(matrix.weight)

    @classmethod
    def beside(cls, trunk, name: str = "", revision: str = "") -> JointSampler:
        """An untrained layer of the shape of a trunk's own."""
        c = trunk.config
        return cls(name, revision, c.hidden_size, c.num_attention_heads, c.num_key_value_heads, c.intermediate_size,
                   c.rms_norm_eps)

    def forward(self, hidden: Tensor, embedded: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
        """States [B, N, D] for the trunk's head, from its states `hidden` at the start of the round and the embeddings
        `embedded` of the tokens now; both [B, N, D], angles as `trunk.embed` returns them."""
        told = hidden + self.token_projection(self.token_norm(embedded))
        return self.layer(told, position_embeddings=angles)


@dataclass(frozen=True, eq=False)
class Round:
    """K exact steps. hidden [B, N, D] of x_0; x_1 .. x_{K-1} as ids [K - 1, B, N]; the trunk's logits [K - 1, B, P, V]
    on them at positions [K - 1, B, P], of which `counts` bool are masked there; end [B, N] is x_K."""

    hidden: Tensor
    ids: Tensor
    positions: Tensor
    counts: Tensor
    logits: Tensor
    end: Tensor

    def lessons(self) -> dict[str, Tensor]:
        """The K - 1 texts of every sample as one batch for `lesson`, step after step."""
        flat = {name: getattr(self, name).flatten(0, 1) for name in ("ids", "positions", "counts")}
        return {**flat, "hidden": self.hidden.repeat(len(self.ids), 1, 1), "teacher": self.logits.flatten(0, 1)}


def states(trunk, ids: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    """(last states, embeddings) [B, N, D] and rotary tables of one full pass."""
    embedded, angles = trunk.embed(ids)
    hidden = embedded
    for layer in trunk.layers:
        hidden = layer(hidden, position_embeddings=angles)
    return hidden, embedded, angles


def at(table: Tensor, positions: Tensor) -> Tensor:
    """table [B, N, D] at positions [B, P]: [B, P, D]."""
    return table.gather(1, positions[..., None].expand(-1, -1, table.shape[2]))


@torch.no_grad()
def exact_round(trunk, ids: Tensor, steps: int, order: str, generator: torch.Generator,
                forbidden: tuple[int, ...] = (), most: int = 16) -> Round:
    """`steps` exact steps from ids [B, N]: draw one token, read the text again. Every sample needs `steps` masks.

    Of each later text `most` masked positions, drawn at random, are kept for the lesson.
    """
    mask, first, kept = trunk.mask_token_id, None, []
    for step in range(steps):
        hidden, _, _ = states(trunk, ids)
        first = hidden if first is None else first
        masked = ids == mask
        width = int(masked.sum(1).max())
        positions = masked.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :width]  # masked ones first
        logits = trunk.head(at(hidden, positions)).float()
        logits[..., list(forbidden)] = NEVER
        if step:
            kept.append((ids, *some(logits, positions, masked.gather(1, positions), most, generator)))
        shown = ids.gather(1, positions)
        pick = kernels.unmask_step(logits, shown, mask, n_reveal=1, order=order, sampler=kernels.Sampler(),
                                   generator=generator)
        ids = ids.scatter(1, positions, pick.ids)
    return Round(first, *(torch.stack(part) for part in zip(*kept)), ids)


def some(logits: Tensor, positions: Tensor, counts: Tensor, most: int, generator) -> tuple[Tensor, Tensor, Tensor]:
    """`most` of the positions [B, P] that count, drawn at random; padded with ones that do not. -> positions, counts,
    logits."""
    score = torch.rand(counts.shape, generator=generator).to(counts.device).masked_fill(~counts, -1)
    score = F.pad(score, (0, max(0, most - score.shape[1])), value=-1)
    chosen = score.topk(most, dim=1)
    index = chosen.indices.clamp_max(counts.shape[1] - 1)
    return positions.gather(1, index), chosen.values >= 0, at(logits, index)


def lesson(trunk, sampler: JointSampler, hidden: Tensor, ids: Tensor, positions: Tensor, counts: Tensor,
           teacher: Tensor, forbidden: tuple[int, ...] = ()) -> Tensor:
    """KL [B, P], nats, of the teacher's logits [B, P, V] from the layer's at positions [B, P]; 0 where not counted."""
    embedded, angles = trunk.embed(ids)
    logits = trunk.head(at(sampler(hidden, embedded, angles), positions)).float()
    forbid = torch.zeros(logits.shape[-1], device=logits.device)
    forbid[list(forbidden)] = NEVER
    return divergence(teacher, logits + forbid) * counts

"""ADJUST's network and its lesson (arXiv 2509.22738): one layer that tells the masks about a token just drawn.

The paper's fusion is not published; this wiring is ours. A full pass on x_0 leaves its last states h and the stream s
that enters one early layer (`tap`). g is a layer of that shape, at first a copy of it, on u = s + W (e(x_k) - e(x_0)),
e the token embeddings: the stream as the new tokens would have changed it. What g says of u and not of s goes onto h
through a matrix P that starts at zero: h' = h + P (g(u) - g(s)), read by the frozen head. An untrained layer repeats
the trunk, and so does any layer where no token is new. (A layer trained from scratch on h + W e learned nothing in 700
steps: looking at neighbours is what takes longest to learn.)

The lesson is the chain rule of KL(exact joint || ADJUST's joint): at each x_k of the trunk's own one-token-at-a-time
sampling, KL(trunk on x_k || layer on (h(x_0), x_k)), averaged over positions still masked (ours; the paper may use the
chosen one alone). No text enters it but the prompt: teacher and tokens are the trunk's.

Letters: B samples, N tokens, D width, K steps of a round, P positions, V vocabulary.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

import kernels
from models.backbones.rows import picked
from models.backbones.stand_in import stirred
from models.loops.sample.cached_lm import divergence

NEVER = -1e4  # a logit that is never drawn and, unlike -inf, leaves a finite KL


class Start(NamedTuple):
    """What a round keeps of its full pass on x_0, each [B, N, D]: last states, stream at the tap, embeddings."""

    hidden: Tensor
    stream: Tensor
    embedded: Tensor


class JointSampler(nn.Module, PyTorchModelHubMixin):
    """g: one layer on the frozen states of `trunk` (a MaskedTransformer's name; the shape must be its own)."""

    def __init__(self, trunk: str = "text-mdm-2", trunk_revision: str = "", tap: int = 2, hidden_size: int = 256,
                 num_attention_heads: int = 4, num_key_value_heads: int = 2, intermediate_size: int = 576,
                 rms_norm_eps: float = 1e-5):
        super().__init__()
        self.trunk, self.trunk_revision, self.tap = trunk, trunk_revision, tap
        config = LlamaConfig(hidden_size=hidden_size, num_attention_heads=num_attention_heads,
                             num_key_value_heads=num_key_value_heads, intermediate_size=intermediate_size,
                             rms_norm_eps=rms_norm_eps, attn_implementation="sdpa")
        self.token_projection = nn.Linear(hidden_size, hidden_size, bias=False)
        self.layer = LlamaDecoderLayer(config, 0)
        self.layer.self_attn.is_causal = False
        self.state_projection = nn.Linear(hidden_size, hidden_size, bias=False)
        nn.init.eye_(self.token_projection.weight)
        nn.init.zeros_(self.state_projection.weight)

    @classmethod
    def beside(cls, trunk, name: str = "", revision: str = "") -> JointSampler:
        """An untrained layer for a trunk: a copy of its third layer (or its last) that adds nothing yet."""
        c, tap = trunk.config, tap_of(trunk)
        made = cls(name, revision, tap, c.hidden_size, c.num_attention_heads, c.num_key_value_heads,
                   c.intermediate_size, c.rms_norm_eps)
        made.layer.load_state_dict(trunk.layers[tap].state_dict())
        return made

    def said(self, start: Start, embedded: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
        """g(u) [B, N, D] for the embeddings [B, N, D] of the tokens now; angles as `trunk.embed` returns them."""
        told = start.stream + self.token_projection(embedded - start.embedded)
        return self.layer(told, position_embeddings=angles)

    def forward(self, start: Start, embedded: Tensor, angles, before: Tensor | None = None) -> Tensor:
        """States [B, N, D] for the trunk's head. before: `said` of the round's own start, if it is known."""
        before = self.said(start, start.embedded, angles) if before is None else before
        return start.hidden + self.state_projection(self.said(start, embedded, angles) - before)


@dataclass(frozen=True, eq=False)
class ExactRound:
    """K exact steps. begin [B, N] is x_0, hidden and stream [B, N, D] the trunk's on it; x_1 .. x_{K-1} as ids
    [K - 1, B, N]; the trunk's logits [K - 1, B, P, V] on them at positions [K - 1, B, P], of which `counts` bool are
    masked there; end [B, N] is x_K."""

    begin: Tensor
    hidden: Tensor
    stream: Tensor
    ids: Tensor
    positions: Tensor
    counts: Tensor
    logits: Tensor
    end: Tensor

    def lessons(self) -> dict[str, Tensor]:
        """The K - 1 texts of every sample as one batch for `lesson`, step after step."""
        flat = {name: getattr(self, name).flatten(0, 1) for name in ("ids", "positions", "counts")}
        again = {name: torch.cat([getattr(self, name)] * len(self.ids)) for name in ("begin", "hidden", "stream")}
        return {**flat, **again, "teacher": self.logits.flatten(0, 1)}


def tap_of(trunk) -> int:
    """The third layer: in text-mdm-2 two of its heads look left and two right. The last one, where there are fewer."""
    return min(2, len(trunk.layers) - 1)


def full_pass(trunk, embedded: Tensor, angles: tuple[Tensor, Tensor], tap: int) -> Start:
    """The trunk on a text, all layers."""
    hidden = stream = embedded
    for index, layer in enumerate(trunk.layers):
        stream = hidden if index == tap else stream
        hidden = layer(hidden, position_embeddings=angles)
    return Start(hidden, stream, embedded)


@torch.no_grad()
def exact_round(trunk, ids: Tensor, steps: int, order: str, generator: torch.Generator,
                forbidden: tuple[int, ...] = (), most: int = 16) -> ExactRound:
    """`steps` exact steps from ids [B, N]: draw one token, read the text again. Every sample needs `steps` masks.

    Of each later text `most` masked positions, drawn at random, are kept for the lesson.
    """
    mask, begin, first, kept = trunk.mask_token_id, ids, None, []
    for step in range(steps):
        start = full_pass(trunk, *trunk.embed(ids), tap_of(trunk))
        hidden, first = start.hidden, first or start
        masked = ids == mask
        width = int(masked.sum(1).max())
        positions = masked.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :width]  # masked ones first
        logits = trunk.head(picked(hidden, positions)).float()
        logits[..., list(forbidden)] = NEVER
        if step:
            kept.append((ids, *some(logits, positions, masked.gather(1, positions), most, generator)))
        shown = ids.gather(1, positions)
        pick = kernels.unmask_step(logits, shown, mask, n_reveal=1, order=order, sampler=kernels.Sampler(),
                                   generator=generator)
        ids = ids.scatter(1, positions, pick.ids)
    return ExactRound(begin, first.hidden, first.stream, *(torch.stack(part) for part in zip(*kept)), ids)


def some(logits: Tensor, positions: Tensor, counts: Tensor, most: int, generator) -> tuple[Tensor, Tensor, Tensor]:
    """`most` of the positions [B, P] that count, drawn at random; padded with ones that do not. -> positions, counts,
    logits."""
    score = torch.rand(counts.shape, generator=generator).to(counts.device).masked_fill(~counts, -1)
    score = F.pad(score, (0, max(0, most - score.shape[1])), value=-1)
    chosen = score.topk(most, dim=1)
    index = chosen.indices.clamp_max(counts.shape[1] - 1)
    return positions.gather(1, index), chosen.values >= 0, picked(logits, index)


def lesson(trunk, sampler: JointSampler, begin: Tensor, hidden: Tensor, stream: Tensor, ids: Tensor, positions: Tensor,
           counts: Tensor, teacher: Tensor, forbidden: tuple[int, ...] = ()) -> Tensor:
    """KL [B, P], nats, of the teacher's logits [B, P, V] from the layer's at positions [B, P]; 0 where not counted."""
    embedded, angles = trunk.embed(ids)
    start = Start(hidden, stream, trunk.embed(begin)[0])
    logits = trunk.head(picked(sampler(start, embedded, angles), positions)).float()
    forbid = torch.zeros(logits.shape[-1], device=logits.device)
    forbid[list(forbidden)] = NEVER
    return divergence(teacher, logits + forbid) * counts


# ---- for tests: tiny random weights in the shipped layout; `bundle` gives other checkpoints' stand-ins

STAND_INS = {"text-joint-2": lambda bundle: stirred(JointSampler.beside(bundle("text-mdm-2").model),
                                                    "state_projection.weight")}

"""The drafter of speculative decoding: one layer that guesses the target's next state from its last one (EAGLE).

arXiv 2401.15077, as LANTERN uses it. Slot i of the target (models/backbones/causal.py) holds code i - 1 at the place of
code i; its last state f_i is read by the head as the distribution of code i. The drafter's slot i fuses the target's
input there with f_{i-1} and answers a guess of f_i, read by the same frozen head. Behind the last known state it goes
on from its own guesses, so later drafts are worse.

Letters: B samples, M slots, D width, V vocabulary.
"""
from __future__ import annotations

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import DynamicCache

from models.backbones.causal import causal_mask
from models.backbones.masked import block_config, blocks


class FeatureDrafter(nn.Module, PyTorchModelHubMixin):
    """One causal layer over [input ; state before] for the frozen `trunk` (a name; the shape must be its own)."""

    def __init__(self, trunk: str = "scene-ar-1", trunk_revision: str = "", hidden_size: int = 192,
                 num_attention_heads: int = 4, intermediate_size: int = 512, rms_norm_eps: float = 1e-5):
        super().__init__()
        self.trunk, self.trunk_revision = trunk, trunk_revision
        config = block_config(hidden_size, num_attention_heads, intermediate_size, rms_norm_eps)
        self.fuse = nn.Linear(2 * hidden_size, hidden_size, bias=False)
        self.layer, = blocks(config, 1, causal=True)

    @classmethod
    def beside(cls, trunk, name: str = "", revision: str = "") -> FeatureDrafter:
        """An untrained drafter for a trunk: its last layer, over the sum of input and state."""
        c = trunk.config
        made = cls(name, revision, c.hidden_size, c.num_attention_heads, c.intermediate_size, c.rms_norm_eps)
        made.layer.load_state_dict(trunk.layers[-1].state_dict())
        nn.init.eye_(made.fuse.weight[:, : c.hidden_size])
        nn.init.eye_(made.fuse.weight[:, c.hidden_size :])
        return made

    def forward(self, embedded: Tensor, before: Tensor, angles, cache: DynamicCache | None = None) -> Tensor:
        """Guessed states [B, M, D] of M slots from their inputs and the states before them, both [B, M, D]."""
        fused = self.fuse(torch.cat([embedded, before], -1))
        mask = causal_mask(fused.shape[1], cache.get_seq_length() if cache else 0, fused.device)
        return self.layer(fused, position_embeddings=angles, past_key_values=cache, attention_mask=mask)


def lesson(trunk, drafter: FeatureDrafter, ids: Tensor, cond: Tensor, noise: float = 0.0):
    """What a drafter learns on pictures int64 [B, N]: guessed and true states of every code, each [B, N, D].

    noise: half-width of uniform noise on the states it reads, in units of their spread (EAGLE's guard against its own
    later mistakes).
    """
    with torch.no_grad():
        embedded, (cos, sin) = trunk.slots(ids, cond)
        true = trunk.states(embedded, (cos, sin))
    before = true[:, :-1] + noise * true.std() * (2 * torch.rand_like(true[:, :-1]) - 1)
    guessed = drafter(embedded[:, 1:], before, (cos[:, 1:], sin[:, 1:]))
    first = trunk.cond_length - 1
    return guessed[:, first:], true[:, first + 1 :]


def losses(trunk, guessed: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    """EAGLE's two losses: smooth L1 of the states, in units of their spread (the head's norm makes their size
    arbitrary), and cross-entropy (nats) to the target's distribution."""
    with torch.no_grad():
        q = trunk.head(true).float().softmax(-1)
    logp, spread = trunk.head(guessed).float().log_softmax(-1), true.float().std()
    return F.smooth_l1_loss(guessed / spread, true / spread), -(q * logp).sum(-1).mean()

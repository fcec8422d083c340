"""What the kernels return: small frozen records of tensors, none of which refers to a model.

Letters: B batch, H heads, N queries, M keys, D head width, R chosen rows, V vocabulary, K kept tokens. `...` is any
leading shape. Entropies are in nats, log-probabilities are natural logarithms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class AttentionStats(NamedTuple):
    """Attention output with its statistics; `path` names the code that ran."""

    out: Tensor  # [B, H, N, D], dtype of the queries
    lse: Tensor  # [B, H, N], log-sum-exp of the scaled, masked scores; -inf where a query may attend to nothing
    entropy: Tensor  # [B, H, N], nats
    peak: Tensor  # [B, H, N], the largest probability
    received: Tensor  # [B, H, M], attention each key receives, summed over queries
    path: str


class VocabStats(NamedTuple):
    """Statistics of next-token distributions at temperature 1, and one draw from the warped one."""

    lse: Tensor  # [...]
    entropy: Tensor  # [...], nats
    top_ids: Tensor  # [..., top_k], most probable first
    top_logp: Tensor  # [..., top_k]
    chosen_logp: Tensor | None  # [...], of the ids given as `chosen`
    sample: Tensor | None  # [...], drawn when a sampler was given
    path: str


@dataclass(frozen=True)
class Compacted:
    """A shorter sequence in its original order, with what is needed to account for every token."""

    states: Tensor  # [B, K, D]; rows at and after `count` are zero
    positions: Tensor  # [B, K]; 0 after `count`
    ids_keep: Tensor  # [B, K], index into the original sequence; -1 after `count`
    ids_dropped: Tensor  # [B, N - min(count)], the rest in order; -1 as padding
    count: Tensor  # [B], tokens of each sample that are real
    sizes: Tensor  # [B, K], original tokens (or weight) that each kept one stands for; 0 after `count`
    cache: tuple[tuple[Tensor, Tensor], ...] | None  # per layer keys and values [B, H, K, Dh]

    @property
    def valid(self) -> Tensor:
        """Bool [B, K]: true for real tokens, false for padding."""
        return torch.arange(self.ids_keep.shape[1], device=self.count.device) < self.count[:, None]

    def restore(self, kept: Tensor, into: Tensor) -> Tensor:
        """Writes `kept` [B, K, ...] back to its original places over `into` [B, N, ...], and returns the copy."""
        batch, slot = self.valid.nonzero(as_tuple=True)
        full = into.clone()
        full[batch, self.ids_keep[batch, slot]] = kept[batch, slot].to(full.dtype)
        return full


class UnmaskStep(NamedTuple):
    """One step of filling in: the new ids and why these positions were chosen."""

    ids: Tensor  # [B, N], after the step
    revealed: Tensor  # bool [B, N], filled in by this step
    confidence: Tensor  # [B, N], probability of `sampled` at temperature 1; 1 for tokens already known
    sampled: Tensor  # [B, N], the token proposed at each position; the known token where one is known
    entropy: Tensor  # [B, N], nats
    path: str

"""Which masked tokens are filled in first, and how many at each step, in torch operations."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kernels.records import VocabStats
from kernels.sampling import uniform

NEG_INF = float("-inf")
ORDERS = ("confidence", "entropy", "random", "margin", "peak", "leftmost")
SHARES = {"cosine": lambda r: math.cos(math.pi / 2 * r), "linear": lambda r: 1 - r, "cubic": lambda r: 1 - r**3}


def without_token(logits: Tensor, token: int) -> Tensor:
    """Logits with no probability at `token`, if the vocabulary holds it."""
    if not 0 <= token < logits.shape[-1]:
        return logits
    if token == logits.shape[-1] - 1:
        return logits[..., :-1]  # the usual place, and nothing to copy
    logits = logits.clone()
    logits[..., token].fill_(NEG_INF)
    return logits


def priority(
    order: str, stats: VocabStats, proposal_logp: Tensor, temperature: float, generator: torch.Generator | None
) -> Tensor:
    """Score [B, N] by which positions are revealed, largest first."""
    if order == "random":
        return uniform(proposal_logp.shape, proposal_logp.device, generator)
    if order == "margin":
        best = stats.top_logp.exp()
        score = best[..., 0] - best[..., 1] if best.shape[-1] > 1 else best[..., 0]
    elif order == "peak":
        score = stats.top_logp[..., 0]
    elif order == "leftmost":
        score = -torch.arange(proposal_logp.shape[-1], device=proposal_logp.device, dtype=proposal_logp.dtype)
        score = score.expand_as(proposal_logp)
    else:
        score = proposal_logp if order == "confidence" else -stats.entropy
    if not temperature:
        return score
    noise = uniform(score.shape, score.device, generator).clamp_min(torch.finfo(torch.float64).tiny)
    return score - temperature * torch.log(-torch.log(noise))


def settle(
    score: Tensor, proposal: Tensor, logp: Tensor, ids: Tensor, mask_id: int, allowed: Tensor | None,
    n_reveal: int | Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """New ids, revealed, confidence and sampled ids, all [B, N], from scores, proposals and their log-probabilities."""
    masked = ids == mask_id
    revealed = first_in_order(score, masked if allowed is None else masked & allowed, n_reveal)
    sampled = torch.where(masked, proposal.to(ids.dtype), ids)
    confidence = torch.where(masked, logp.exp(), torch.ones_like(logp))
    return torch.where(revealed, sampled, ids), revealed, confidence, sampled


def first_in_order(score: Tensor, open_now: Tensor, n_reveal: int | Tensor) -> Tensor:
    """Bool [B, N]: the n_reveal[b] open positions with the largest score."""
    places = score.masked_fill(~open_now, NEG_INF).argsort(dim=-1, descending=True, stable=True)
    # An open position may itself score -inf; closed ones must still come last.
    places = places.gather(-1, (~open_now).gather(-1, places).to(torch.uint8).argsort(dim=-1, stable=True))
    # A number stays on the host: copying it to the device would make the host wait.
    counts = n_reveal.to(score.device).reshape(-1, 1) if isinstance(n_reveal, Tensor) else n_reveal
    first = (torch.arange(score.shape[-1], device=score.device) < counts).expand_as(open_now)
    return torch.zeros_like(open_now).scatter(-1, places, first) & open_now


def schedule(n: int, steps: int, kind: str = "cosine") -> list[int]:
    """How many of n tokens to reveal at each step: at most `steps` counts, each >= 1, that sum to n.

    After a fraction r of the steps there are still masked: "linear" 1 - r, "cosine" cos(pi r / 2), "cubic" 1 - r^3, the
    slowest start (all three in MaskGIT, arXiv 2202.04200). With more steps than tokens there are n steps of one token.
    """
    if n < 0 or steps < 1:
        raise ValueError("schedule needs n >= 0 tokens and steps >= 1.")
    if kind not in SHARES:
        raise ValueError(f"kind must be {', '.join(SHARES)}; got {kind!r}.")
    steps = min(steps, n)
    left, counts = n, []
    for step in range(1, steps + 1):
        target = 0 if step == steps else round(n * SHARES[kind](step / steps))
        reveal = min(max(1, left - target), left - (steps - step))
        counts.append(reveal)
        left -= reveal
    return counts

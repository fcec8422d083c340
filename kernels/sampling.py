"""The sampler settings, and the one definition of how they reshape logits and how a token is drawn.

Order, as transformers applies its warpers: temperature, top-k, top-p, min-p.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

NEG_INF = float("-inf")


@dataclass(frozen=True)
class Sampler:
    """How to draw a token.

    temperature: divides the logits; 0 means the most probable token.
    top_k: keep the k largest logits, and any that tie with the last of them; 0 keeps all.
    top_p: keep the smallest set of most probable tokens whose probability reaches top_p; 1 keeps all.
    min_p: keep tokens at least min_p times as probable as the best one; 0 keeps all.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise ValueError("temperature must be 0 (greedy) or more.")
        if self.top_k < 0:
            raise ValueError("top_k must be 0 (off) or more.")
        if not 0 < self.top_p <= 1:
            raise ValueError("top_p must be above 0 and at most 1.")
        if not 0 <= self.min_p <= 1:
            raise ValueError("min_p must lie between 0 and 1.")

    @property
    def filters(self) -> bool:
        """True when some token may be cut away."""
        return self.top_k > 0 or self.top_p < 1 or self.min_p > 0


def warp(logits: Tensor, sampler: Sampler) -> Tensor:
    """Logits [..., V] after temperature, top-k, top-p and min-p, -inf outside; the best token always stays.

    Computed in fp32 (fp64 for fp64 logits), whatever the input.
    """
    scores = logits if logits.dtype == torch.float64 else logits.float()
    if sampler.temperature == 0:
        best = scores.argmax(-1, keepdim=True)
        return torch.full_like(scores, NEG_INF).scatter(-1, best, scores.gather(-1, best))
    scores = scores / sampler.temperature
    if sampler.top_k:
        last = scores.topk(min(sampler.top_k, scores.shape[-1]), dim=-1).values[..., -1:]
        scores = scores.masked_fill(scores < last, NEG_INF)
    if sampler.top_p < 1:
        scores = keep_nucleus(scores, sampler.top_p)
    if sampler.min_p > 0:
        probs = scores.softmax(-1)
        scores = scores.masked_fill(probs < sampler.min_p * probs.amax(-1, keepdim=True), NEG_INF)
    return scores


def keep_nucleus(scores: Tensor, top_p: float) -> Tensor:
    """Cuts every token before which the more probable ones already hold top_p of the mass."""
    ranked, ids = scores.sort(dim=-1, descending=True, stable=True)
    probs = ranked.softmax(-1)
    cut = probs.cumsum(-1) - probs >= top_p
    cut[..., 0].fill_(False)
    return scores.masked_fill(torch.zeros_like(cut).scatter(-1, ids, cut), NEG_INF)


def kept_ranks(ranked: Tensor, lse: Tensor, sampler: Sampler) -> tuple[Tensor, Tensor]:
    """What `warp` keeps of the K largest scores [T, K], largest first and already divided by the temperature.

    `lse` [T] is that of all scores. Returns bool [T, K], and bool [T]: true where no score beyond the K can be kept.
    """
    keep = torch.ones_like(ranked, dtype=torch.bool)
    if sampler.top_k:
        keep = ranked >= ranked[:, min(sampler.top_k, ranked.shape[1]) - 1, None]
        lse = ranked.masked_fill(~keep, NEG_INF).logsumexp(-1)
    if sampler.top_p < 1:
        probs = (ranked - lse[:, None]).exp().masked_fill(~keep, 0)
        keep = keep & (probs.cumsum(-1) - probs < sampler.top_p)
        keep[:, 0].fill_(True)
    if sampler.min_p > 0:
        keep = keep & ((ranked - ranked[:, :1]).exp() >= sampler.min_p)
    return keep, ~keep[:, -1]


def uniform(shape: torch.Size | tuple[int, ...], device: torch.device, generator: torch.Generator | None) -> Tensor:
    """Uniform draws in [0, 1) in fp64, from a generator that may live on another device."""
    where = generator.device if generator is not None else device
    return torch.rand(shape, generator=generator, device=where, dtype=torch.float64).to(device)


def inverse_cdf(weights: Tensor, u: Tensor) -> Tensor:
    """Index [...] drawn from weights [..., V] >= 0 by inverting their running sum at u [...] in [0, 1).

    The running sum is fp64: in fp32 a token beyond the 24 bits of the sum could never be drawn.
    """
    running = weights.cumsum(-1, dtype=torch.float64)
    total = running[..., -1]
    target = torch.minimum(u.double() * total, total.nextafter(torch.zeros_like(total)))  # rounding may reach the total
    index = torch.searchsorted(running, target[..., None], right=True)[..., 0]
    return index.clamp_max(weights.shape[-1] - 1)


def lane_count(product: int) -> int:
    """The power of two nearest the square root; lanes of a row are its interleaved parts, reduced before searching."""
    return 1 << round(math.log2(max(2, product)) / 2)


def inverse_cdf_laned(weights: Tensor, u: Tensor) -> Tensor:
    """`inverse_cdf` in two steps, for long rows: the lane first, then the place in it, with what is left of u.

    The order of tokens along the running sum differs from `inverse_cdf`, their probabilities do not.
    """
    width = weights.shape[1]
    lanes = lane_count(width)
    if width < 4 * lanes:
        return inverse_cdf(weights, u)
    even = width - width % lanes
    laned = weights[:, :even].unflatten(1, (-1, lanes))  # [T, W / lanes, lanes]
    sums = torch.cat([laned.sum(1), weights[:, even:]], 1)  # [T, lanes + tail]
    running = sums.cumsum(-1, dtype=torch.float64)
    lane = inverse_cdf(sums, u)[:, None]
    left = u.double() * running[:, -1] - (running - sums).gather(1, lane)[:, 0]
    members = laned.gather(2, lane.clamp_max(lanes - 1)[:, None].expand(-1, laned.shape[1], -1))[..., 0]
    share = left / members.sum(-1, dtype=torch.float64)
    place = inverse_cdf(members, share.clamp(0, 1))
    lane = lane[:, 0]
    return torch.where(lane < lanes, place * lanes + lane, even + lane - lanes)


def draw(logits: Tensor, sampler: Sampler, generator: torch.Generator | None = None) -> Tensor:
    """One token id [...] from logits [..., V] under the sampler."""
    if sampler.temperature == 0:
        return logits.argmax(-1)
    scores = warp(logits, sampler)
    weights = (scores - scores.amax(-1, keepdim=True)).exp()
    return inverse_cdf(weights, uniform(scores.shape[:-1], scores.device, generator))

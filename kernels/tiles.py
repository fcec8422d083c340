"""Statistics of next-token distributions in one pass over tiles of the vocabulary, and an exact draw in two stages.

Each tile of logits is read (or made, when the output projection is fused) once and leaves its maximum, mass, energy and
largest entries; log-sum-exp, entropy and top-k follow from those. For a draw each tile also leaves one token, drawn by
its probability inside the tile, and at the end a tile is picked by its mass: one uniform number per tile and row
instead of noise for every logit, and no logit is made twice.
When tokens are cut away (top-k, top-p, min-p) the draw is made among the largest entries, as long as they hold all that
remains; rows where they do not have their logits made in full.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from kernels import native
from kernels.logits import PATH, Source
from kernels.records import VocabStats
from kernels.sampling import Sampler, draw, inverse_cdf, inverse_cdf_laned, kept_ranks, lane_count, uniform
from kernels.threads import on_threads, scratch

STRIP = 1 << 18  # logits looked at together: with two tables of this size the second-level cache is full
BAND = 512  # rows of a tile at most
WHOLE = 1 << 20  # up to so many logits are held instead of made twice
CANDIDATES = 64  # largest entries among which a cut distribution is drawn from
LOWEST, NOTHING = -1e30, -1e29  # stands for -inf where a difference of two must not be NaN
UNDERFLOW = -87.0  # exp of less is no fp32 number, and torch's exp is slow there


class Sums(NamedTuple):
    """What the tiles leave behind, one row per tile (C tiles, T rows, K candidates)."""

    peak: Tensor  # [C, T]
    mass: Tensor  # [C, T], sum of exp(logit - peak)
    energy: Tensor  # [C, T], sum of exp(logit - peak) * (logit - peak)
    warm: Tensor  # [C, T], the mass at the sampler's temperature
    drawn: Tensor  # [C, T], one column per tile, drawn at that temperature
    best: Tensor  # [C, T, K], largest logits
    ids: Tensor  # [C, T, K]


S = TypeVar("S", bound=Source)
Sweep = Callable[[S, int, float, Tensor | None], Sums]  # candidates, temperature, places of a draw [C, T]


def tiled(source: S, sweep: Sweep[S], shape: torch.Size, *, top_k, chosen, sampler, generator) -> VocabStats:
    """All statistics of a source, reshaped to the leading shape."""
    found = candidates(top_k, sampler if source.asks else None, source.columns)
    plain = sampler is not None and sampler.temperature > 0 and not sampler.filters
    count = -(-source.columns // source.width)
    inside = uniform((count, source.rows), source.device, generator) if plain else None  # places inside each tile
    sums = sweep(source, found, 1.0 if sampler is None else sampler.temperature, inside)
    lse, entropy = combine(sums.peak, sums.mass, sums.energy)
    best, place = sums.best.movedim(0, 1).flatten(1).topk(found, dim=-1)  # [T, K]
    ids = sums.ids.movedim(0, 1).flatten(1).gather(1, place)
    kept = min(top_k, source.columns)
    chosen_logp = None if chosen is None else (source.at(chosen.reshape(-1)) - lse).view(shape)
    sample = None if sampler is None else pick(source, sums, best, ids, sampler, generator).view(shape)
    top_logp = (best[:, :kept] - lse[:, None]).view(*shape, kept)
    top_ids = ids[:, :kept].view(*shape, kept)
    path = "cpu-compiled" if source.path == PATH and native.serves(source.dtype, found) else source.path
    return VocabStats(lse.view(shape), entropy.view(shape), top_ids, top_logp, chosen_logp, sample, path)


def candidates(top_k: int, sampler: Sampler | None, columns: int) -> int:
    """How many of the largest entries to keep: one more than top-k filtering keeps, to see ties across its edge."""
    wanted = 0 if sampler is None or not sampler.filters else sampler.top_k + 1 if sampler.top_k else CANDIDATES
    return min(columns, max(top_k, wanted))


def sweep(source: Source, found: int, temperature: float, inside: Tensor | None) -> Sums:
    """Reads every tile once; rows are divided too where there are fewer tiles than threads."""
    threads, starts = torch.get_num_threads(), range(0, source.columns, source.width)
    band = max(1, min(BAND, source.rows if len(starts) >= threads else -(-source.rows // threads)))
    bands = [slice(first, min(first + band, source.rows)) for first in range(0, max(1, source.rows), band)]
    jobs = [(rows, slice(start, start + source.width)) for rows in bands for start in starts]
    work = partial(measure, source, found, temperature, inside)
    parts = list(on_threads(work, jobs, source.rows * source.columns))
    tiles = [parts[at : at + len(starts)] for at in range(0, len(parts), len(starts))]  # per band
    return Sums(*(
        torch.cat([torch.stack(column) for column in columns], 1)
        for columns in zip(*(zip(*band, strict=True) for band in tiles), strict=True)
    ))


def measure(
    source: Source, found: int, temperature: float, inside: Tensor | None, job: tuple[slice, slice]
) -> tuple[Tensor, ...]:
    """One row of Sums, from one tile of logits [T, W]."""
    rows, columns = job
    logits = source.tile(columns, rows)
    height = max(1, STRIP // logits.shape[1])
    places = [None] * logits.shape[0] if inside is None else inside[columns.start // source.width, rows].split(height)
    strips = [measure_strip(part, found, temperature, place) for part, place in zip(logits.split(height), places)]
    *sums, drawn, best, ids = (torch.cat(column) for column in zip(*strips, strict=True))
    return *sums, drawn + columns.start, best, ids + columns.start


def measure_strip(logits: Tensor, found: int, temperature: float, place: Tensor | None) -> tuple[Tensor, ...]:
    """Of a strip [T, W]: the columns of Sums, in C where that is ready."""
    if native.serves(logits.dtype, found):
        return native.vocabulary(logits, found, temperature, place)
    best, ids = largest(logits, found)
    peak = best[:, 0].clamp_min(LOWEST)
    below, weight = (scratch(name, tuple(logits.shape), logits.dtype) for name in ("below", "weight"))
    torch.sub(logits, peak[:, None], out=below).clamp_min_(UNDERFLOW)
    mass = torch.exp(below, out=weight).sum(-1)
    drawn = ids[:, 0] if place is None or temperature != 1 else inverse_cdf_laned(weight, place)
    energy = weight.mul_(below).sum(-1)
    if temperature in (0, 1):
        return peak, mass, energy, mass, drawn, best, ids
    warm = torch.exp(below.div_(temperature), out=weight).sum(-1)
    drawn = drawn if place is None else inverse_cdf_laned(weight, place)
    return peak, mass, energy, warm, drawn, best, ids


def largest(logits: Tensor, found: int) -> tuple[Tensor, Tensor]:
    """The `found` largest logits [T, K] and their columns, padded with -inf and column 0 where the tile has fewer.

    They lie in the `found` lanes (interleaved parts of the tile) with the largest maxima, so only those are searched.
    """
    width = logits.shape[1]
    lanes = lane_count(found * width)
    if lanes <= found or width < 4 * lanes:
        best, ids = logits.topk(min(found, width), dim=-1)
        pad = (0, found - best.shape[1])
        return torch.nn.functional.pad(best, pad, value=float("-inf")), torch.nn.functional.pad(ids, pad)
    even = width - width % lanes
    laned = logits[:, :even].unflatten(1, (-1, lanes))  # [T, W / lanes, lanes]
    top = laned.amax(1).topk(found, dim=-1, sorted=False).indices  # [T, K]
    inside = laned.gather(2, top[:, None].expand(-1, laned.shape[1], -1)).flatten(1)
    best, place = torch.cat([inside, logits[:, even:]], 1).topk(found, dim=-1)
    column = place.div(found, rounding_mode="floor") * lanes + top.gather(1, place % found)
    return best, torch.where(place < inside.shape[1], column, place - inside.shape[1] + even)


def combine(peak: Tensor, mass: Tensor, energy: Tensor) -> tuple[Tensor, Tensor]:
    """Log-sum-exp and entropy [T] from the tiles [C, T]; entropy is a sum of positive terms, so nothing cancels."""
    lses = peak + mass.log()
    lse = lses.logsumexp(0)
    entropy = ((lses - lse).exp() * (lse - peak - energy / mass)).sum(0)
    nothing = lse < NOTHING
    return lse.masked_fill(nothing, float("-inf")), entropy.masked_fill_(nothing, 0)


def pick(source: Source, sums: Sums, best: Tensor, ids: Tensor, sampler: Sampler, generator) -> Tensor:
    """One id [T] per row."""
    if sampler.temperature == 0:
        return ids[:, 0]
    scores = sums.peak / sampler.temperature + sums.warm.log()  # [C, T], log mass of each tile
    if not sampler.filters:
        tile = inverse_cdf((scores - scores.amax(0)).exp().T, uniform((source.rows,), source.device, generator))
        return sums.drawn.gather(0, tile[None])[0]
    if not source.asks:
        return draw(source.tile(slice(None)), sampler, generator)
    scaled = best / sampler.temperature
    keep, complete = kept_ranks(scaled, scores.logsumexp(0), sampler)
    weight = (scaled - scaled[:, :1]).exp() * keep
    place = inverse_cdf(weight, uniform((source.rows,), source.device, generator))
    sample = ids.gather(1, place[:, None])[:, 0]
    if best.shape[1] < source.columns:
        for rows in (~complete).nonzero()[:, 0].split(16):
            sample[rows] = draw(source.tile(slice(None), rows), sampler, generator)
    return sample

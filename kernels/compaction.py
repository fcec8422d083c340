"""Keeping some tokens of a sequence: states, positions and cache move together and every token is accounted for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor

from kernels.records import Compacted


def keep_top(scores: Tensor, k: int | Tensor) -> Tensor:
    """Bool [B, N]: the k (an int or [B]) tokens with the largest scores [B, N]; ties go to the earlier token."""
    order = scores.argsort(dim=-1, descending=True, stable=True)
    counts = torch.as_tensor(k, device=scores.device).reshape(-1, 1)
    first = (torch.arange(scores.shape[-1], device=scores.device) < counts).expand(scores.shape)
    return torch.zeros_like(first).scatter(-1, order, first)


def compact(
    states: Tensor,
    keep: Tensor | tuple[Tensor, int | Tensor],
    *,
    positions: Tensor | None = None,
    cache: Iterable[tuple[Tensor, Tensor]] | None = None,
    merge_into: Tensor | None = None,
    sizes: Tensor | None = None,
    recycle: bool = False,
) -> Compacted:
    """Drops the tokens of states [B, N, D] that `keep` does not name, in the original order.

    keep: bool [B, N], or (scores [B, N], k) to keep the k largest. Samples may keep different numbers: the result is
    padded to the largest, `count` says how many are real.
    positions [B, N] or [N] (0 .. N-1 by default) and cache, one (keys, values) [B, H, N, Dh] per layer, follow.
    merge_into [B, N]: for a dropped token the index of the kept token it is averaged into, -1 to drop it for good;
    ignored for kept tokens. sizes [B, N] are the weights of that average (1 by default) and add up (ToMe, arXiv
    2210.09461). recycle: the tokens dropped for good become one extra last token, their weighted mean, at the position
    of the heaviest of them; it counts as a token, and its ids_keep is that token's.
    ValueError: shapes that do not fit, a merge target that is not kept, recycle together with a cache.
    """
    if isinstance(keep, tuple):
        keep = keep_top(*keep)
    batch, length, _ = states.shape
    checked(keep, merge_into, (batch, length), recycle and cache is not None)
    sizes = torch.ones(batch, length, device=states.device) if sizes is None else sizes.float()
    positions = torch.arange(length, device=states.device) if positions is None else positions
    positions = positions.expand(batch, length)
    merged, weights = merge(states, keep, sizes, merge_into)
    ids_keep, count = listed(keep)
    ids_dropped, _ = listed(~keep)
    result = Compacted(
        take(merged, ids_keep), take(positions, ids_keep), ids_keep, ids_dropped, count, take(weights, ids_keep),
        None if cache is None else tuple((take_cache(k, ids_keep), take_cache(v, ids_keep)) for k, v in cache),
    )
    lost = ~keep if merge_into is None else ~keep & (merge_into < 0)
    return append_recycled(result, states, positions, sizes, lost) if recycle else result


def checked(keep: Tensor, merge_into: Tensor | None, shape: tuple[int, int], recycled_cache: bool) -> None:
    if keep.dtype != torch.bool or tuple(keep.shape) != shape:
        raise ValueError(f"keep must be bool {list(shape)}; got {keep.dtype} {list(keep.shape)}.")
    if recycled_cache:
        raise ValueError("recycle makes a token that has no keys and values; compact the cache without recycle.")
    if merge_into is None:
        return
    if tuple(merge_into.shape) != shape or bool((merge_into >= shape[1]).any()):
        raise ValueError(f"merge_into must be {list(shape)} with indices below {shape[1]}, or -1.")
    if bool((~keep & (merge_into >= 0) & ~keep.gather(1, merge_into.clamp_min(0))).any()):
        raise ValueError("merge_into must name kept tokens only.")


def merge(states: Tensor, keep: Tensor, sizes: Tensor, merge_into: Tensor | None) -> tuple[Tensor, Tensor]:
    """Weighted means [B, N, D] of each kept token and those merged into it, and their total weights [B, N]."""
    if merge_into is None:
        return states, sizes
    here = torch.arange(keep.shape[1], device=keep.device)
    target = torch.where(keep, here, merge_into)
    source = torch.where(target >= 0, sizes, torch.zeros_like(sizes))
    target = target.clamp_min(0)
    total = torch.zeros_like(sizes).scatter_add_(1, target, source)
    index = target[..., None].expand_as(states)
    sums = torch.zeros(states.shape, device=states.device).scatter_add_(1, index, states.float() * source[..., None])
    return (sums / total.clamp_min(torch.finfo(total.dtype).tiny)[..., None]).to(states.dtype), total


def listed(chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Indices [B, K] of the true entries in order, padded with -1, and their number [B]."""
    count = chosen.sum(1)
    width = int(count.max()) if count.numel() else 0
    order = (~chosen).to(torch.uint8).argsort(dim=1, stable=True)[:, :width]
    return order.masked_fill(torch.arange(width, device=chosen.device) >= count[:, None], -1), count


def take(values: Tensor, ids: Tensor) -> Tensor:
    """values [B, N, ...] at ids [B, K], zero where the id is -1."""
    batch = torch.arange(ids.shape[0], device=ids.device)[:, None]
    picked = values[batch, ids.clamp_min(0)]
    hidden = (ids < 0).reshape(ids.shape + (1,) * (picked.ndim - 2))
    return picked.masked_fill(hidden, 0)


def take_cache(values: Tensor, ids: Tensor) -> Tensor:
    """Keys or values [B, H, N, Dh] at ids [B, K]."""
    return take(values.transpose(1, 2), ids).transpose(1, 2)


def append_recycled(done: Compacted, states: Tensor, positions: Tensor, sizes: Tensor, lost: Tensor) -> Compacted:
    """Adds the weighted mean of the lost tokens as one more token of each sample that lost any."""
    weight = torch.where(lost, sizes, torch.zeros_like(sizes))
    total = weight.sum(1)
    mean = torch.einsum("bn,bnd->bd", weight, states.float()) / total.clamp_min(torch.finfo(weight.dtype).tiny)[:, None]
    heaviest = weight.masked_fill(~lost, -1.0).argmax(1)
    width = max(done.ids_keep.shape[1], int((done.count + lost.any(1)).max()))
    rows = lost.any(1).nonzero()[:, 0]
    slot = done.count[rows]

    def grown(values: Tensor, extra: Tensor, fill: float = 0) -> Tensor:
        shape = (values.shape[0], width - values.shape[1], *values.shape[2:])
        wider = torch.cat([values, values.new_full(shape, fill)], 1)
        wider[rows, slot] = extra[rows].to(values.dtype)
        return wider

    at = positions.gather(1, heaviest[:, None])[:, 0]
    return replace(
        done,
        states=grown(done.states, mean), positions=grown(done.positions, at), sizes=grown(done.sizes, total),
        ids_keep=grown(done.ids_keep, heaviest, -1), count=done.count + lost.any(1),
    )

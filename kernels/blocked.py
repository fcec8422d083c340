"""Attention with statistics on the CPU, block by block: one pass over scores that never leave the cache.

For one key head and a block of queries: scores into scratch, row maximum, exponentials, and from those two tables the
output, log-sum-exp, entropy, peak and column sum, before the scratch is used again. No N x M table exists. Heads run on
threads of one core each, so that no operation waits for the other core; torch's own threads meet twice per operation.

Scores are in units of log 2, because torch's exp falls back to a slow path for arguments below -87, where masked scores
are; exp2 does not. Heads that share keys (grouped-query) are stacked as rows of one product.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from kernels import masks, native
from kernels.records import AttentionStats
from kernels.reference import wide
from kernels.threads import on_threads, scratch

CPU_EAGER, CPU_BLOCKED, CPU_COMPILED = "cpu-eager", "cpu-blocked", "cpu-compiled"
BLOCK = 96 * 2048  # scores per block: two fp32 tables of this size, keys and values fit the second-level cache
ROWS, CAUSAL_ROWS = 256, 128  # most queries per block; causal blocks waste half of one at the diagonal
WHOLE_BIAS = 1 << 22  # a bool mask of more entries is converted block by block
FORBIDDEN = -1e30  # finite, so that forbidden scores times zero probability are zero
NOTHING = -1e29  # a row whose maximum is below this may attend to nothing


class Problem(NamedTuple):
    """One call, with the heads that share keys in their own dimension: G = H / Hkv."""

    q: Tensor  # [B, Hkv, G, N, D]
    k: Tensor  # [B, Hkv, M, D]
    v: Tensor  # [B, Hkv, M, Dv]
    bias: Tensor | None  # [B|1, Hkv|1, G|1, N|1, M]: additive, or bool and converted block by block
    weights: Tensor | None  # [B, N], which queries count in `received`
    scale: float  # includes log2(e)
    causal: bool
    sums: Tensor  # [3, B, Hkv, G, N]: row maximum, sum of exponentials, sum of exponential times score
    out: Tensor  # [B, Hkv, G, N, Dv]
    compiled: bool  # softened by rows.c, which needs one table where torch needs two

    @property
    def guarded(self) -> bool:
        """True when some score may be forbidden."""
        return self.causal or self.bias is not None


class BlockJob(NamedTuple):
    """Key heads `heads` of sample `batch`, for the queries from `start` to `stop`."""

    batch: int
    heads: slice
    start: int
    stop: int


def attention_stats(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    scale: float | None = None,
    causal: bool = False,
    mask: Tensor | None = None,
    received_from: Tensor | None = None,
    whole: bool = False,
    compiled: bool = False,
) -> AttentionStats:
    """CPU twin of `kernels.attention_stats`; `whole` makes the tables of a sample at once (small inputs)."""
    problem = prepare(q, k, v, scale, causal, mask, received_from, compiled)
    rows = max(1, q.shape[2]) if whole else block_rows(problem)
    received = problem.sums.new_zeros(*problem.q.shape[:3], k.shape[2])  # [B, Hkv, G, M]
    work = partial(run, problem, rows)
    jobs = list(divide(problem, rows, whole))
    # Threads of ours would meet those of torch, which still spin after the model's last product.
    parts = map(work, jobs) if whole else on_threads(work, jobs, q.shape[:3].numel() * k.shape[2])
    for job, part in zip(jobs, parts, strict=True):
        received[job.batch, job.heads] += part
    path = CPU_COMPILED if compiled else CPU_EAGER if whole else CPU_BLOCKED
    return AttentionStats(problem.out.flatten(1, 2), *finish(problem.sums), received.flatten(1, 2), path)


def prepare(q, k, v, scale, causal, mask, received_from, compiled) -> Problem:
    batch, heads, queries, width = q.shape
    key_heads, dtype = k.shape[1], wide(q.dtype)
    grouped = (key_heads, heads // key_heads)
    # Stored as [B, N, H, D], the layout that models want next.
    out = q.new_empty(batch, queries, heads, v.shape[3]).transpose(1, 2).unflatten(1, grouped)
    scale = width**-0.5 if scale is None else scale
    return Problem(
        q.unflatten(1, grouped), k, v, as_bias(mask, grouped, dtype),
        masks.chosen_queries(received_from, batch, queries, q.device), scale * math.log2(math.e), causal,
        torch.empty(3, batch, *grouped, queries, dtype=dtype), out, compiled,
    )


def as_bias(mask: Tensor | None, grouped: tuple[int, int], dtype: torch.dtype) -> Tensor | None:
    """The mask with grouped heads; additive and in units of log 2, unless it is a large bool table."""
    if mask is None:
        return None
    mask = masks.clean(mask, dtype)
    if mask.stride(2) == 0:
        mask = mask[:, :, :1]  # expanded over queries: only keys are masked
    mask = mask.unflatten(1, grouped) if mask.shape[1] > 1 else mask[:, :, None]
    if mask.dtype == torch.bool:
        return mask if mask.shape[3] > 1 and mask.numel() > WHOLE_BIAS else forbid(mask, dtype)
    return (mask * math.log2(math.e)).clamp_min_(FORBIDDEN)


def forbid(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Additive mask: 0 where true, FORBIDDEN where false (several times faster than masked_fill)."""
    return mask.to(dtype).sub_(1).mul_(-FORBIDDEN)


def block_rows(problem: Problem) -> int:
    """Queries per block."""
    group, queries = problem.q.shape[2:4]
    most = CAUSAL_ROWS if problem.causal else ROWS
    return max(1, min(queries, most, BLOCK // (group * max(1, problem.k.shape[2]))))


def divide(problem: Problem, rows: int, whole: bool) -> Iterable[BlockJob]:
    """Jobs of several heads while their tables are small, of one head, or of some of its queries if heads are few."""
    batch, heads, group, queries, _ = problem.q.shape
    threads = 1 if whole else torch.get_num_threads()
    table = max(1, group * queries * problem.k.shape[2])
    jobs = max(1, batch * heads * table // BLOCK) if rows == queries else batch * heads
    per_sample = min(heads, max(1, round_up(jobs, threads) // batch)) if not whole else 1
    together = -(-heads // per_sample)
    parts = 1 if batch * per_sample >= threads or rows == queries else 2 * threads
    stride = max(rows, -(-queries // parts))
    for b in range(batch):
        for head in range(0, heads, together):
            for start in range(0, queries, stride):
                yield BlockJob(b, slice(head, head + together), start, min(start + stride, queries))


def round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def run(problem: Problem, rows: int, job: BlockJob) -> Tensor:
    """All blocks of a job; returns the attention its keys receive [h, G, M].

    Small operations cost as much as large ones here, so what need not be done per block is done once, at the end.
    """
    dtype, at, span = problem.sums.dtype, (job.batch, job.heads), slice(job.start, job.stop)
    keys = problem.k[at].transpose(1, 2).to(dtype).contiguous()  # [h, D, M]
    values = problem.v[at].to(dtype).contiguous()  # [h, M, Dv]
    q = problem.q[at][:, :, span].to(dtype) * problem.scale  # [h, G, n, D]
    heads, group, length, width = q.shape
    sums = problem.sums[:, job.batch, job.heads, :, span]  # [3, h, G, n]
    out = keys.new_empty(heads, group, length, values.shape[2])  # not yet divided by the mass
    room = scratch("tables", (2 - problem.compiled, heads * group * min(rows, length) * keys.shape[2]), dtype)
    received = keys.new_zeros(heads * group, 1, keys.shape[2])
    soften = softened_by_c if problem.compiled else softened
    for start in range(0, length, rows):
        part = slice(start, min(start + rows, length))
        shape = heads, group, part.stop - start, seen_keys(problem, job.start + part.stop)
        tables = room[:, : math.prod(shape)].view(-1, heads, group * shape[2], shape[3])  # [1|2, h, G n, m]
        torch.bmm(q[:, :, part].reshape(heads, -1, width), keys[:, :, : shape[3]], out=tables[0])
        probs = soften(problem, job, part, tables.view(-1, *shape), sums[..., part], received)
        project(probs.view(heads, -1, shape[3]), values[:, : shape[3]], out[:, :, part])
    torch.mul(out, shares(problem, None, sums, 0)[..., None], out=problem.out[at][:, :, span])
    return received.view(heads, group, -1)


def softened(problem: Problem, job: BlockJob, part: slice, tables: Tensor, sums: Tensor, received: Tensor) -> Tensor:
    """Turns the scores tables[0] of rows `part` of the job into unnormalised probabilities tables[1] [h, G, n, m],
    fills sums [3, h, G, n] and adds to received [h G, 1, M]."""
    scores, probs = tables
    if problem.guarded:
        shade(problem, job, job.start + part.start, job.start + part.stop, scores)
    measure(scores, probs, sums)
    share, seen = shares(problem, job, sums, part.start), scores.shape[3]
    received[:, :, :seen].baddbmm_(share.view(len(received), 1, -1), probs.view(len(received), -1, seen))
    return probs


def softened_by_c(problem: Problem, job: BlockJob, part: slice, tables: Tensor, sums: Tensor,
                  received: Tensor) -> Tensor:
    """The same in one call of rows.c, which leaves out the corner of a causal block and works in place."""
    scores = tables[0]
    first = scores.shape[3]
    if problem.bias is not None:
        shade_bias(problem, job, job.start + part.start, job.start + part.stop, scores)
    if problem.causal:
        first = job.start + part.start + 1 + problem.k.shape[2] - problem.q.shape[3]
    weights = problem.weights
    weights = None if weights is None else weights[job.batch, job.start + part.start : job.start + part.stop]
    native.rows(scores.flatten(0, 1), first, int(problem.causal), sums.flatten(1, 2), weights, received[:, 0])
    return scores


def seen_keys(problem: Problem, stop: int) -> int:
    """How many keys the queries before `stop` may see."""
    total = problem.k.shape[2]
    return min(total, max(0, stop + total - problem.q.shape[3])) if problem.causal else total


def measure(scores: Tensor, probs: Tensor, sums: Tensor) -> None:
    """Turns scores [h, G, n, m] into unnormalised `probs` and fills `sums` [3, h, G, n]; the scores are spent."""
    top, mass, energy = sums.unbind()
    torch.amax(scores, -1, out=top) if scores.shape[-1] else top.fill_(FORBIDDEN)
    torch.exp2(scores.sub_(top[..., None]), out=probs)
    torch.sum(probs, -1, out=mass)
    torch.sum(scores.mul_(probs), -1, out=energy)


def project(probs: Tensor, values: Tensor, out: Tensor) -> None:
    """probs [h, G n, m] @ values [h, m, Dv] into out [h, G, n, Dv]."""
    if out.shape[1] == 1:
        torch.bmm(probs, values, out=out[:, 0])
    else:
        out.copy_(torch.bmm(probs, values).view(out.shape))


def shares(problem: Problem, job: BlockJob | None, sums: Tensor, start: int) -> Tensor:
    """1 / mass [h, G, n]: 0 for queries that may attend to nothing, and, given a job, for those that do not count."""
    share = sums[1].reciprocal()
    if problem.guarded:
        share.mul_(sums[0] > NOTHING)
    if job is not None and problem.weights is not None:
        first = job.start + start
        share *= problem.weights[job.batch, first : first + share.shape[2]]
    return share


def shade(problem: Problem, job: BlockJob, start: int, stop: int, scores: Tensor) -> None:
    """Adds the mask to a block of scores [h, G, n, m]; causal blocks already end at the last key they may see."""
    seen = scores.shape[3]
    if problem.causal:
        first = max(0, start + problem.k.shape[2] - problem.q.shape[3])  # keys before it are seen by every row
        rows, corner = stop - start, seen - first
        scores[..., first:] += scores.new_full((rows, corner), FORBIDDEN).triu_(1 + corner - rows)
    if problem.bias is not None:
        shade_bias(problem, job, start, stop, scores)


def shade_bias(problem: Problem, job: BlockJob, start: int, stop: int, scores: Tensor) -> None:
    """Adds what the mask says of the queries from `start` to `stop` to scores [h, G, n, m]."""
    b, h, _, n, _ = problem.bias.shape
    part = problem.bias[job.batch if b > 1 else 0, job.heads if h > 1 else slice(None)]
    part = (part[:, :, start:stop] if n > 1 else part)[..., : scores.shape[3]]
    scores += forbid(part, scores.dtype) if part.dtype == torch.bool else part


def finish(sums: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Log-sum-exp, entropy and peak [B, H, N] from the row maximum, mass and energy, which are in units of log 2."""
    top, mass, energy = sums.flatten(2, 3)
    nothing = top <= NOTHING  # and not NaN, which stays visible
    log_mass = mass.log()
    lse = (top * math.log(2) + log_mass).masked_fill_(nothing, float("-inf"))
    entropy = (log_mass - energy / mass * math.log(2)).clamp_min_(0)
    return lse, entropy.masked_fill_(nothing, 0), mass.reciprocal().masked_fill_(nothing, 0)

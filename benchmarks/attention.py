"""attention_stats against bare fused attention, and against eager maps with the same statistics."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

import kernels
from benchmarks.timing import extra_memory, interleave, judged, row, unmatched

HEADS = {64: 12, 128: 32}  # per head width: of GPT-2 and ViT-B, of Llama 3
TOKENS = 32768  # of one call on a GPU: enough sequences to keep it busy, so that kernels are timed and not launches
LONGEST = 32768  # where maps no longer fit a GPU


class AttentionShape(NamedTuple):
    """One shape of attention."""

    length: int
    width: int
    causal: bool
    dtype: torch.dtype
    device: str

    @property
    def label(self) -> str:
        width = f", d {self.width}" if self.device == "cuda" else ""
        kind = str(self.dtype).removeprefix("torch.")
        return f"N {self.length}{width}{' causal' if self.causal else ''}, {kind}"

    @property
    def claimed(self) -> bool:
        return self.dtype == torch.float32 or self.device == "cuda"

    @property
    def skips(self) -> bool:
        """On two cores these maps would take minutes and gigabytes."""
        return self.device == "cpu" and self.length > 2048

    def inputs(self) -> list[Tensor]:
        """Queries, keys and values [B, H, N, D]."""
        batch = max(1, TOKENS // self.length) if self.device == "cuda" else 1
        make = torch.Generator(self.device).manual_seed(self.length)
        shape = batch, HEADS[self.width], self.length, self.width
        return [torch.randn(shape, generator=make, device=self.device).to(self.dtype) for _ in range(3)]


def cases(device: str, quick: bool) -> list[AttentionShape]:
    """Lengths below and above the switch of paths, causal and not; on a GPU two head widths, and the longest."""
    cuda = device == "cuda"
    dtypes = (torch.bfloat16,) if cuda else (torch.float32, torch.bfloat16)
    shapes = [(length, width) for length in ((197, 256, 512, 1024) if quick else (197, 256, 512, 1024, 2048, 4096))
              for width in (HEADS if cuda else (64,))]
    shapes += [(LONGEST, 128)] if cuda and not quick else []
    return [AttentionShape(*shape, causal, dtype, device) for shape in shapes for causal in (False,
                                                                                             True) for dtype in dtypes]


def run(device: str, quick: bool) -> list[dict]:
    """Both rows of every case, and the memory of both sides."""
    rows = [found for case in cases(device, quick) for found in compared(case, 3 if quick else 11)]
    return rows + [memory(1024 if quick else 4096, device, quick)]


def eager_with_maps(q, k, v, causal):
    """What a tool does that asks for attention maps and then reduces them."""
    scores = (q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5
    if causal:
        scores = scores + torch.full(scores.shape[-2:], float("-inf"), device=q.device, dtype=q.dtype).triu(1)
    maps = scores.softmax(-1, dtype=torch.float32)
    entropy = torch.special.entr(maps).sum(-1)
    return maps.to(q.dtype) @ v, scores.logsumexp(-1), entropy, maps.amax(-1), maps.sum(2)


def works(case: AttentionShape):
    """The sides on the same inputs, after checking that they agree, and our path; no "maps" where they cannot run."""
    q, k, v = case.inputs()
    sides = {
        "ours": lambda: kernels.attention_stats(q, k, v, causal=case.causal),
        "sdpa": lambda: scaled_dot_product_attention(q, k, v, is_causal=case.causal),
    }
    maps = partial(eager_with_maps, q, k, v, case.causal)
    if not case.skips and fits(maps):
        sides["maps"] = maps
    found, tolerance = sides["ours"](), 1e-4 if case.dtype == torch.float32 else 3e-2
    torch.testing.assert_close(found.out, sides["sdpa"](), atol=tolerance, rtol=tolerance)
    check_some(found, q, k, case.causal, tolerance)
    if case.length <= 2048 and "maps" in sides:
        for one, two in zip(found[1:5], sides["maps"]()[1:], strict=True):
            torch.testing.assert_close(one, two.float(), atol=tolerance * 5, rtol=tolerance * 5)
    return sides, found.path


def fits(work) -> bool:
    """Whether `work` finds the memory it asks for."""
    try:
        work()
    except torch.OutOfMemoryError:
        fitted = False
    else:
        fitted = True
    torch.cuda.empty_cache()  # only now: an error still holds what was made before it
    return fitted


def check_some(found: kernels.AttentionStats, q: Tensor, k: Tensor, causal: bool, tolerance: float) -> None:
    """Statistics at any length, without maps: three exact rows, and that every query spends all of its attention."""
    chosen = [0, q.shape[2] // 2, q.shape[2] - 1]
    exact = kernels.attention_rows(q, k, chosen, causal=causal).float()  # [B, H, 3, N]
    for mine, true in ((found.entropy, torch.special.entr(exact).sum(-1)), (found.peak, exact.amax(-1))):
        torch.testing.assert_close(mine[:, :, chosen], true, atol=tolerance, rtol=tolerance)
    spent = found.received.sum(-1)
    torch.testing.assert_close(spent, torch.full_like(spent, q.shape[2]), atol=0, rtol=1e-3)


def compared(case: AttentionShape, rounds: int) -> list[dict]:
    sides, path = works(case)
    times = interleave(sides, rounds, case.device)
    rows = [row(f"{case.label}: all statistics / sdpa", times, "ours", "sdpa", path=path, **against_sdpa(case))]
    return rows if case.skips else rows + [against_maps(case, times, path)]


def against_sdpa(case: AttentionShape) -> dict:
    if not case.claimed or case.length < 1024:
        return {}
    if case.device == "cuda":
        most = 1.7 if case.width >= 128 else 2.2
        return {"floor": most, "target": most}
    return {"floor": 1.5, "target": 1.3} if case.length >= 2048 else {"floor": 1.9, "target": 1.6}


def against_maps(case: AttentionShape, times: dict[str, list[float]], path: str) -> dict:
    """Where the peer runs out of memory there is no ratio, and at LONGEST that is what we claim."""
    if case.length <= 256 and "maps" in times:
        bounds = {"floor": 1.05, "target": 1.0} if case.claimed and case.device == "cpu" else {}
        return row(f"{case.label}: all statistics / maps + statistics", times, "ours", "maps", path=path, **bounds)
    what = f"{case.label}: maps + statistics / all statistics"
    if "maps" not in times:
        return unmatched(what, times, "ours", "out of memory", case.length >= LONGEST or None, path=path)
    need = {("cpu", 2048): 4, ("cuda", 4096): 8, ("cuda", LONGEST): 8}.get((case.device, case.length))
    need = need if case.claimed else None
    return row(what, times, "maps", "ours", path=path, better="higher", floor=need, target=need)


def memory(length, device, quick):
    """Of one sequence of 12 heads, in fp32."""
    q, k, v = (x[:1] for x in AttentionShape(length, 64, False, torch.float32, device).inputs())
    kernels.attention_stats(q, k, v)  # threads and scratch are there before the measurement
    ours = extra_memory(lambda: kernels.attention_stats(q, k, v), device)
    maps = extra_memory(lambda: eager_with_maps(q, k, v, False), device)
    need = None if quick or ours is None else 100
    return judged({"what": f"N {length}: extra memory, maps / ours", "ours_mb": ours and round(ours, 1),
                   "maps_mb": maps and round(maps, 1)}, maps / ours if ours else 0.0, need, need, "higher")

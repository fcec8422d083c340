"""attention_stats against bare fused attention, and against eager maps with the same statistics."""

from __future__ import annotations

import torch
from torch.nn.functional import scaled_dot_product_attention

import kernels
from benchmarks.timing import extra_memory, interleave, judged, row

HEADS, WIDTH = 12, 64


def eager_with_maps(q, k, v, causal):
    """What a tool does that asks for attention maps and then reduces them."""
    scores = (q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5
    if causal:
        scores = scores + torch.full(scores.shape[-2:], float("-inf"), device=q.device).triu(1)
    maps = scores.softmax(-1, dtype=torch.float32)
    entropy = torch.special.entr(maps).sum(-1)
    return maps.to(q.dtype) @ v, scores.logsumexp(-1), entropy, maps.amax(-1), maps.sum(2)


def inputs(length, dtype, device):
    make = torch.Generator().manual_seed(length)
    return [torch.randn(1, HEADS, length, WIDTH, generator=make).to(device, dtype) for _ in range(3)]


def works(length, causal, dtype, device):
    """The three sides on the same inputs, after checking that they agree."""
    q, k, v = inputs(length, dtype, device)
    sides = {
        "ours": lambda: kernels.attention_stats(q, k, v, causal=causal),
        "sdpa": lambda: scaled_dot_product_attention(q, k, v, is_causal=causal),
        "maps": lambda: eager_with_maps(q, k, v, causal),
    }
    found, tolerance = sides["ours"](), 1e-4 if dtype == torch.float32 else 3e-2
    torch.testing.assert_close(found.out, sides["sdpa"](), atol=tolerance, rtol=tolerance)
    if length <= 2048:
        for one, two in zip(found[1:5], sides["maps"]()[1:], strict=True):
            torch.testing.assert_close(one, two.float(), atol=tolerance * 5, rtol=tolerance * 5)
    return sides, found.path


def run(device: str, quick: bool) -> list[dict]:
    """Rows for lengths below and above the switch of paths, causal and not, and the memory of both sides."""
    rounds, rows = (3 if quick else 11), []
    for length in (197, 256, 512, 1024) if quick else (197, 256, 512, 1024, 2048, 4096):
        for causal in (False, True):
            for dtype in (torch.float32, torch.bfloat16) if device == "cpu" else (torch.bfloat16,):
                rows += compared(length, causal, dtype, device, rounds)
    return rows + [memory(1024 if quick else 4096, device, quick)]


def compared(length, causal, dtype, device, rounds):
    sides, path = works(length, causal, dtype, device)
    if length > 2048 and device == "cpu":  # maps of minutes and gigabytes
        del sides["maps"]
    times = interleave(sides, rounds, device)
    label = f"N {length}{' causal' if causal else ''}, {str(dtype).removeprefix('torch.')}"
    claimed = dtype == torch.float32 or device == "cuda"
    rows = [row(f"{label}: all statistics / sdpa", times, "ours", "sdpa", path=path,
                **against_sdpa(length, device, claimed))]
    if "maps" in sides:
        rows.append(against_maps(label, length, device, claimed, times, path))
    return rows


def against_sdpa(length, device, claimed):
    if not claimed or length < 1024:
        return {}
    if device == "cuda":
        return {"floor": 2.2, "target": 2.2}
    return {"floor": 1.5, "target": 1.3} if length >= 2048 else {"floor": 1.9, "target": 1.6}


def against_maps(label, length, device, claimed, times, path):
    if length <= 256:
        bounds = {"floor": 1.05, "target": 1.0} if claimed and device == "cpu" else {}
        return row(f"{label}: all statistics / maps + statistics", times, "ours", "maps", path=path, **bounds)
    need = {("cpu", 2048): 4, ("cuda", 4096): 8}.get((device, length)) if claimed else None
    return row(f"{label}: maps + statistics / all statistics", times, "maps", "ours", path=path, better="higher",
               floor=need, target=need)


def memory(length, device, quick):
    q, k, v = inputs(length, torch.float32, device)
    kernels.attention_stats(q, k, v)  # threads and scratch are there before the measurement
    ours = extra_memory(lambda: kernels.attention_stats(q, k, v), device)
    maps = extra_memory(lambda: eager_with_maps(q, k, v, False), device)
    need = None if quick or ours is None else 100
    return judged({"what": f"N {length}: extra memory, maps / ours", "ours_mb": ours and round(ours, 1),
                   "maps_mb": maps and round(maps, 1)}, maps / ours if ours else 0.0, need, need, "higher")

"""head_stats against the bare projection, and against the usual ways to get statistics and a sample from logits."""

from __future__ import annotations

import torch
from torch.nn.functional import linear

import kernels
from benchmarks.timing import interleave, row

WIDTH = 768


def naive(hidden, weight):
    """Log-softmax table, entropy, largest, multinomial."""
    logp = linear(hidden, weight).float().log_softmax(-1)
    probs = logp.exp()
    return -(probs * logp).sum(-1), logp.topk(8), probs.multinomial(1)


def double_gumbel(hidden, weight, temperature=1.0):
    """The epilogue of masked diffusion samplers: Gumbel noise and softmax in fp64, then gather."""
    logits = linear(hidden, weight).double()
    noise = torch.rand_like(logits).clamp_min_(1e-300)
    sample = (logits.exp() / (-noise.log()) ** temperature).argmax(-1)
    return logits.softmax(-1).gather(-1, sample[:, None])


def inputs(rows, columns, dtype, device):
    make = torch.Generator().manual_seed(rows)
    hidden = torch.randn(rows, WIDTH, generator=make).to(device, dtype)
    return hidden, (torch.randn(columns, WIDTH, generator=make) * 0.05).to(device, dtype)


def works(rows, columns, dtype, device):
    hidden, weight = inputs(rows, columns, dtype, device)
    found, logits = kernels.head_stats(hidden, weight), linear(hidden, weight).float()
    tolerance = 1e-4 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(found.lse, logits.logsumexp(-1), atol=tolerance, rtol=tolerance)
    entropy = torch.special.entr(logits.softmax(-1)).sum(-1)
    torch.testing.assert_close(found.entropy, entropy, atol=10 * tolerance, rtol=tolerance)
    sampler = kernels.Sampler()
    return {
        "matmul": lambda: linear(hidden, weight),
        "stats": lambda: kernels.head_stats(hidden, weight),
        "sampled": lambda: kernels.head_stats(hidden, weight, sampler=sampler),
        "naive": lambda: naive(hidden, weight),
        "gumbel": lambda: double_gumbel(hidden, weight),
    }, found.path


def run(device: str, quick: bool) -> list[dict]:
    """Rows for one, 64 and 256 positions over the vocabularies of GPT-2 and Llama 3."""
    rows = []
    for columns in (8192,) if quick else (50257, 128256):
        for positions in (1, 64) if quick else (1, 64, 256):
            for dtype in (torch.float32, torch.bfloat16):
                rows += compared(positions, columns, dtype, device, 3 if quick else 9, quick)
    return rows


def compared(positions, columns, dtype, device, rounds, quick):
    sides, path = works(positions, columns, dtype, device)
    times = interleave(sides, rounds, device)
    label = f"T {positions}, V {columns}, {str(dtype).removeprefix('torch.')}"
    claimed = not quick and (dtype == torch.float32 or device == "cuda")
    bare, full = claimed and positions >= 64, claimed and positions >= 256
    many = 3.5 if device == "cuda" else 4

    def bounds(use, floor, target, better="lower"):
        return {"better": better, "path": path, **({"floor": floor, "target": target} if use else {})}

    return [
        row(f"{label}: statistics / bare matmul", times, "stats", "matmul", **bounds(bare, 1.2, 1.1)),
        row(f"{label}: statistics + sample / bare matmul", times, "sampled", "matmul", **bounds(bare, 1.75, 1.5)),
        row(f"{label}: log-softmax, entropy, multinomial / ours", times, "naive", "sampled",
            **bounds(full, 3.5 if device == "cuda" else 3, 3.5 if device == "cuda" else 3, "higher")),
        row(f"{label}: fp64 Gumbel, softmax, gather / ours", times, "gumbel", "sampled",
            **bounds(full, many, many, "higher")),
    ]

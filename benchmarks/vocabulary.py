"""head_stats against the bare projection, and against the usual ways to get statistics and a sample from logits."""

from __future__ import annotations

import torch
from torch.nn.functional import linear

import kernels
from benchmarks.timing import interleave, row
from kernels import graphs

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


def inputs(rows, columns, dtype, device, width=WIDTH):
    make = torch.Generator().manual_seed(rows)
    hidden = torch.randn(rows, width, generator=make).to(device, dtype)
    return hidden, (torch.randn(columns, width, generator=make) * 0.05).to(device, dtype)


def checked(hidden, weight, dtype):
    """Our statistics, after checking them against the table."""
    found, logits = kernels.head_stats(hidden, weight), linear(hidden, weight).float()
    tolerance = 1e-4 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(found.lse, logits.logsumexp(-1), atol=tolerance, rtol=tolerance)
    entropy = torch.special.entr(logits.softmax(-1)).sum(-1)
    torch.testing.assert_close(found.entropy, entropy, atol=10 * tolerance, rtol=tolerance)
    return found


def works(rows, columns, dtype, device):
    hidden, weight = inputs(rows, columns, dtype, device)
    path, sampler = checked(hidden, weight, dtype).path, kernels.Sampler()
    return {
        "matmul": lambda: linear(hidden, weight),
        "stats": lambda: kernels.head_stats(hidden, weight),
        "sampled": lambda: kernels.head_stats(hidden, weight, sampler=sampler),
        "naive": lambda: naive(hidden, weight),
        "gumbel": lambda: double_gumbel(hidden, weight),
    }, path


def run(device: str, quick: bool) -> list[dict]:
    """Rows for one, 64 and 256 positions over the vocabularies of GPT-2 and Llama 3; on a GPU also the bandwidth."""
    rows = []
    for columns in (8192,) if quick else (50257, 128256):
        for positions in (1, 64) if quick else (1, 64, 256):
            for dtype in (torch.float32, torch.bfloat16):
                rows += compared(positions, columns, dtype, device, 3 if quick else 9, quick)
    if device == "cuda":
        for dtype in (torch.float32, torch.bfloat16):
            rows += reading(*((8192, 768) if quick else (128256, 2048)), dtype, device, 3 if quick else 21, quick)
    return rows


def reading(columns, width, dtype, device, rounds, quick):
    """One position: the bandwidth at which we read the weight, as a share of what a copy or a bare product reach.

    Both stand for the device, and the faster one of a round counts; a copy reads the weight and writes it, so half of
    its time is reading. The weight of Llama 3.2 1B is several times any cache. Decoding loops are replayed, which is
    the claim; a call of its own also waits for its launches.
    """
    hidden, weight = inputs(1, columns, dtype, device, width)
    path, copy = checked(hidden, weight, dtype).path, torch.empty_like(weight)
    replayed = graphs.captured(lambda hidden: kernels.head_stats(hidden, weight))
    replayed(hidden)
    times = interleave({
        "copy": lambda: copy.copy_(weight), "matmul": lambda: linear(hidden, weight),
        "replayed": lambda: replayed(hidden), "called": lambda: kernels.head_stats(hidden, weight),
    }, rounds, device)
    label = f"T 1, V {columns}, D {width}, {str(dtype).removeprefix('torch.')}"
    claim = {} if quick or device == "cpu" else {"floor": 0.85, "target": 0.85}
    return shares(label, times, weight.numel() * weight.element_size(), replayed.path, path, claim)


def shares(label, times, size, graph, path, claim):
    """Both rows of `reading` for a weight of `size` bytes."""
    times = times | {"read": [min(copy / 2, product) for copy, product in zip(times["copy"], times["matmul"])]}
    label = f"{label}: share of the weight-read bandwidth"
    more = {"better": "higher", "read_gb_per_s": round(size / min(times["read"]) / 1e6, 1)}
    return [row(f"{label}, replayed", times, "read", "replayed", path=f"{graph}, {path}", **more, **claim),
            row(f"{label}, called", times, "read", "called", path=path, **more)]


def compared(positions, columns, dtype, device, rounds, quick):
    sides, path = works(positions, columns, dtype, device)
    times = interleave(sides, rounds, device)
    label = f"T {positions}, V {columns}, {str(dtype).removeprefix('torch.')}"
    claimed = not quick and (dtype == torch.float32 or device == "cuda")
    bare, full = claimed and positions >= 64 and device == "cpu", claimed and positions >= 256
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

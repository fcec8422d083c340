"""The protocol of every benchmark: one process, the same inputs, interleaved rounds, ratios within a round.

Wall times on a shared machine drift by factors within minutes, so only ratios of neighbours in one round are compared;
the median is the figure, the minimum stands beside it. How much of the machine others used meanwhile is reported.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

Work = Callable[[], Any]


def interleave(works: dict[str, Work], rounds: int, device: str = "cpu") -> dict[str, list[float]]:
    """Milliseconds of each work in each round; the order turns by one every round, and a first round warms up."""
    times: dict[str, list[float]] = {name: [] for name in works}
    names = list(works)
    for number in range(rounds + 1):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            synchronize(device)
            start = time.perf_counter()
            works[name]()
            synchronize(device)
            if number:
                times[name].append((time.perf_counter() - start) * 1e3)
    return times


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def row(
    what: str, times: dict[str, list[float]], top: str, bottom: str, *, floor=None, target=None, better="lower",
    per: float = 1.0, **more
) -> dict[str, Any]:
    """Ratio top / bottom of two works in units of `per`, judged against floor (must) and target (stretch) if any."""
    ratios = [one / two / per for one, two in zip(times[top], times[bottom], strict=True)]
    return judged(
        {"what": what, f"{top}_ms": round(min(times[top]), 3), f"{bottom}_ms": round(min(times[bottom]), 3)},
        median(ratios), floor, target, better, least=round(min(ratios), 3), most=round(max(ratios), 3), **more,
    )


def judged(head: dict, ratio: float, floor, target, better: str, **more) -> dict[str, Any]:
    """A row with its verdicts; without a floor nothing is claimed and both are None."""
    def meets(bound: float | None) -> bool | None:
        if bound is None:
            return None
        return ratio <= bound if better == "lower" else ratio >= bound

    return {**head, "ratio": round(ratio, 3), "better": better, "floor": floor, "target": target,
            "holds": meets(floor), "stretch": meets(target), **more}


def unmatched(what: str, times: dict[str, list[float]], ours: str, peer: str, holds: bool | None, **more) -> dict:
    """A row without a ratio: ours ran, and `peer` says why the other side could not. `holds` if that was the claim."""
    return {"what": what, f"{ours}_ms": round(min(times[ours]), 3), "ratio": None, "better": "higher", "floor": None,
            "target": None, "holds": holds, "stretch": holds, "peer": peer, **more}


def extra_memory(work: Work, device: str = "cpu") -> float | None:
    """Megabytes that `work` adds to the peak; None where the system does not tell."""
    gc.collect()
    release()
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    except OSError:
        return None
    before = status("VmRSS")
    work()
    return max(status("VmHWM") - before, 0.01)


def release() -> None:
    """Gives memory that was freed back to the system, so that using it again counts."""
    import ctypes

    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        pass


def status(field: str) -> float:
    """Megabytes from /proc/self/status."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


class Elsewhere:
    """Share of the machine that others used, or that was stolen, between construction and `share`."""

    def __init__(self) -> None:
        self.start = self.now()

    @staticmethod
    def now() -> tuple[float, float, float]:
        try:
            ticks = [int(x) for x in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        except OSError:
            return 0.0, 0.0, 0.0
        return sum(ticks), ticks[3] + ticks[4], sum(os.times()[:2]) * os.sysconf("SC_CLK_TCK")

    def share(self) -> float | None:
        total, idle, own = (new - old for new, old in zip(self.now(), self.start, strict=True))
        return round(max(0.0, (total - idle - own) / total), 2) if total else None

"""What a run costs without a browser: milliseconds to the first record that can be drawn, and to the last step.

Every method at its defaults on its first example, without anything beside it, warm, in each of its tabs. Targets on two
idle cores: first step under 400 ms, last step under 1 s (medians). Where other work shares the machine, wall times say
little; cpu_ms, the time our own threads computed, moves less, and on one thread is what an idle core would take.
"""

from __future__ import annotations

import time
from statistics import median

from benchmarks.timing import judged

LIMITS = (("first", 400), ("last", 1000))  # milliseconds


def run(device: str = "cpu", quick: bool = False) -> list[dict]:
    """Two rows per method and tab."""
    import torch

    from models.engine.method import offered
    methods = list(offered().values())[:2] if quick else list(offered().values())
    with torch.enable_grad():  # as on the page; the other benchmarks run without
        return [row for m in methods for tab in m.card.tabs for row in rows(m.id, tab, device, 1 if quick else 5)]


def rows(id: str, tab: str, device: str, times: int) -> list[dict]:
    """One run to warm up, then `times` runs: the medians by their limits."""
    watched(id, tab, device)
    found = [watched(id, tab, device) for _ in range(times)]
    made = []
    for step, limit in LIMITS:
        wall, cpu = (median(one[step][clock] for one in found) for clock in (0, 1))
        head = {"what": f"{id} in {tab}: {step} step / {limit} ms", "wall_ms": round(wall), "cpu_ms": round(cpu),
                "least_ms": round(min(one[step][0] for one in found)), "n": times}
        made.append(judged(head, wall / limit, 1, 1, "lower"))
    return made


def watched(id: str, tab: str, device: str) -> dict[str, tuple[float, float]]:
    """Wall and CPU milliseconds until this tab's first record stands, and until the run is done."""
    from models.engine.method import follow, prepare
    job, found = prepare(id, device=device), {}
    wall, cpu = time.perf_counter(), time.process_time()
    for result in follow(job):
        took = ((time.perf_counter() - wall) * 1e3, (time.process_time() - cpu) * 1e3)
        if "first" not in found and tab in result.traces:
            found["first"] = took
    return found | {"last": took}

"""Processor seconds to the first step of every method that takes a causal model, on SmolLM2-135M with a text of 200
tokens, warm (the second of two runs), and the memory of the process after it.

Processor time and not the clock, which on a shared machine measures the neighbours; on an idle one the clock says at
most as much. Asked: under 2 seconds. Needs the folder that tools/public_weights.py makes.
"""

from __future__ import annotations

import resource
import time

from benchmarks.public_model import PUBLIC
from benchmarks.timing import judged

TOKENS, METHODS = 200, ("attention", "sampling", "cntp", "byte-level", "lazyllm", "top-attention", "random-keep")


def run(device: str, quick: bool) -> list[dict]:
    from models.checkpoints.store import load
    from models.trace.subject import ASSETS, from_text

    words, text = load(PUBLIC, device=device).tokenizer, (ASSETS / "texts" / "heldout.txt").read_text("utf-8")
    subject = from_text(words.decode(words(text)["input_ids"][:TOKENS]))
    return [first_step(id, subject, device) for id in (METHODS[:1] if quick else METHODS)]


def first_step(id: str, subject, device: str) -> dict:
    """Two runs, each stopped at its first step; the second is what is said."""
    from models.engine.method import follow, prepare

    for _ in range(2):
        job = prepare(id, subject, checkpoint=PUBLIC, device=device)
        began, results = time.process_time(), follow(job)
        assert next(results).traces
        seconds = time.process_time() - began
        results.close()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return judged({"what": f"smollm2 with 200 tokens, {id}: first step / 2 s", "processor_ms": round(1e3 * seconds),
                   "process_mb": round(peak)}, seconds / 2, 1, 1, "lower")

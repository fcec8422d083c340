"""Independent pieces of one kernel on threads of one core each.

torch's own threads meet at the end of every operation, so a stolen core delays each of them; these meet once per call.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

_pool: ThreadPoolExecutor | None = None
_pool_lock = threading.Lock()
_local = threading.local()  # `kept`: scratch of a thread of ours
KEPT = 1 << 21  # largest scratch a thread keeps, in numbers


SMALL = 1 << 14  # up to so many numbers torch does not use its threads either, and handing over costs more


def on_threads(work: Callable[[Any], Any], jobs: list, numbers: int) -> Iterable:
    """Results of `work` over jobs, in order, on threads of one core each; `numbers` is the size of all tables made.

    A single job goes to such a thread too, unless it is small: there no operation waits for another core.
    """
    if torch.get_num_threads() == 1 or numbers <= SMALL:
        return map(work, jobs)

    def quiet(job: Any) -> Any:
        # A thread starts with gradients on; inference mode may also write to the caller's inference tensors.
        with torch.inference_mode():
            return work(job)

    return pool().map(quiet, jobs)


def scratch(name: str, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Uninitialised memory that a thread of ours keeps for its next piece: fresh pages cost more than the work on them.

    What it holds is gone at the next call with this name; other threads, and larger sizes, get fresh memory.
    """
    kept, size = getattr(_local, "kept", None), math.prod(shape)
    if kept is None or size > KEPT:
        return torch.empty(shape, dtype=dtype)
    if (name, dtype) not in kept or kept[name, dtype].numel() < size:
        kept[name, dtype] = torch.empty(size, dtype=dtype)
    return kept[name, dtype][:size].view(shape)


def forget() -> None:
    """In a forked process: the pool's threads stayed behind in the parent, and its lock may have been held there."""
    global _pool, _pool_lock
    _pool, _pool_lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forget)


def pool() -> ThreadPoolExecutor:
    """One pool for the process, a thread per core that torch uses; made at the first call."""
    global _pool
    with _pool_lock:
        if _pool is None:
            threads = torch.get_num_threads()
            started = threading.Barrier(threads + 1)

            def alone() -> None:
                _local.kept = {}
                torch.get_num_threads()  # makes torch initialise this thread now, and not undo the next line later
                torch.set_num_threads(1)
                torch.set_flush_denormal(True)  # subnormal probabilities would slow the products a hundredfold
                started.wait()

            _pool = ThreadPoolExecutor(threads, thread_name_prefix="kernels", initializer=alone)
            for _ in range(threads):
                _pool.submit(int)
            started.wait()
            torch.set_num_threads(threads)  # the workers' call also set the default of threads to come
        return _pool

"""How many runs go on at once in this process, and how many cores each of them uses.

A small model hardly gains by a second core, and its threads take that core from the page while they wait: it runs on
one, and two visitors' runs go on beside each other (docs/reliability.md). A larger model has every core while it is
alone, and gives its share away at its next step when another run begins. No run may hear of another;
tests/serving/test_cores.py holds every method to it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from models.trace import limits

SMALL = 20_000_000  # weights; measured: 5 M hardly gain by a second core, 135 M do
_lock = threading.Lock()
_running, _cores = 0, 1  # runs in this process; torch's threads as they were before the first of them


def at_once() -> int:
    """Runs that may go on at the same time: one per replica; one on a GPU, which they would share; else one per core,
    at most limits.RUNS."""
    if limits.REPLICAS:
        return limits.REPLICAS
    return 1 if torch.cuda.is_available() else max(1, min(limits.RUNS, os.cpu_count() or 1))


@contextmanager
def shared() -> Iterator[Callable[[bool], int]]:
    """Counts one more run. What it yields fits torch's threads, in the calling thread, to the runs there are by now
    (small: to one), and says how many there are; call it between steps."""
    global _running, _cores
    with _lock:
        _cores = _cores if _running else torch.get_num_threads()
        _running += 1

    def fit(small: bool = False) -> int:
        torch.set_num_threads(1 if small else max(1, _cores // max(1, _running)))
        return _running

    try:
        yield fit
    finally:
        with _lock:
            _running -= 1
        torch.set_num_threads(_cores)


def small(model: torch.nn.Module) -> bool:
    """Whether one core is enough for a model."""
    return sum(weight.numel() for weight in model.parameters()) < SMALL


def forget() -> None:
    """In a forked process: the runs of the parent are not here, and its lock may have been held."""
    global _running, _lock
    _running, _lock = 0, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forget)

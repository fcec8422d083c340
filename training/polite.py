"""Sharing a small machine: one thread while other programs are busy, all threads otherwise.

A niced run that keeps two threads while someone else holds one core waits at every barrier for the starved thread and
becomes many times slower, not twice. Linux only; elsewhere it does nothing.
"""
import os
import time
from pathlib import Path

import torch

STAT = Path("/proc/stat")


class Polite:
    """Call `adjust` once per step: it looks every two seconds and sets torch's thread count."""

    def __init__(self, cores: int | None = None):
        self.cores = cores or int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count())  # what was asked for is kept
        self.looked, self.busy = time.time(), self._others()
        if self._niced():
            from torch._inductor import config

            config.cpp.dynamic_threads = True  # compiled kernels ask for the thread count when they run

    def adjust(self) -> None:
        now = time.time()
        if now - self.looked < 2:
            return
        if not self._niced():  # the run's own time would count as others', and it need not give way
            torch.set_num_threads(self.cores)
            return
        busy = self._others()
        used = (busy - self.busy) / os.sysconf("SC_CLK_TCK") / (now - self.looked)  # cores held by others
        self.looked, self.busy = now, busy
        torch.set_num_threads(max(1, min(self.cores, round(self.cores - used))))

    def _niced(self) -> bool:
        return self.busy is not None and os.nice(0) > 0

    @staticmethod
    def _others():
        """Clock ticks all programs at normal priority have used since boot, or None where that is unknown."""
        if not STAT.exists():
            return None
        user, _, _ = STAT.read_text().split("\n")[0].split()[1:4]
        return int(user)

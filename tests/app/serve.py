"""The app for the browser tests: tiny random weights, sample traces where none is recorded, and special seeds.

    python -m tests.app.serve PORT LOGFILE

Seed 77 makes every step slow, seed 78 breaks on purpose, those of FAULTS break as a machine does; each run writes how
it ended to LOGFILE. The Sample tab opens on a vocabulary that tries to run code. Those who leave are forgotten within
seconds.
"""

import errno
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import torch

import tests.conftest  # noqa: F401  the environment comes first
from models.engine.method import follow
from models.serving import recorded, session
from tests import fake_hub, samples, tiny

SLOW, BROKEN = 77, 78
FAULTS = {
    79: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. The secret inside."),
    80: RuntimeError("CUDA error: an illegal memory access was encountered: the secret inside"),
    81: MemoryError("the secret inside"),
    82: OSError(errno.ENOSPC, "No space left on device", "/the secret inside"),
    83: OSError(errno.EIO, "the secret inside"),
    84: RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory: the secret inside"),
}


def read(id: str, tab: str, beside: bool = False):
    """A sample trace under the asked method's name; the twin stands beside it in Unmask."""
    if beside:
        return samples.twin() if tab == "unmask" else None
    trace = samples.hostile() if tab == "sample" else samples.all_tabs()[tab]
    stamp = replace(trace.provenance, recorded="2026-11-21")
    return replace(trace, method=id, provenance=stamp)


def watched(log: Path):
    """models.engine.method.follow that can be slow or broken, and notes how each run ended."""
    def run(job):
        steps, ending = 0, "cancelled"
        try:
            for result in follow(job):
                if job.seed == BROKEN:
                    raise RuntimeError("the secret inside")
                if job.seed in FAULTS:
                    raise FAULTS[job.seed]
                if job.seed == SLOW:
                    time.sleep(0.7)
                steps += 1
                yield result
            ending = "finished"
        finally:
            with suppress(OSError), log.open("a") as file:  # a full disk is one of the tests
                file.write(f"{job.method.id} {job.seed} {steps} {ending}\n")
    return run


def main(port: int, log: Path) -> None:
    tiny.use()
    recorded.read, session.follow = read, watched(log)
    from visualizers.server import session_cleanup
    session_cleanup.AWAY, session_cleanup.KEEP, session_cleanup.EVERY = 3.0, 4.0, 0.5
    import app
    if hasattr(app, "follow"):
        app.follow = session.follow
    with fake_hub.in_use(Path(tempfile.mkdtemp())) as faults:
        faults.hold = 1.0
        app.launch(app.build(), "127.0.0.1", port, mcp=find_spec("mcp") is not None, quiet=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))

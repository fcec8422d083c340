"""The app for the browser tests: tiny random weights, sample traces where none is recorded, and three special seeds.

    python -m tests.app.serve PORT LOGFILE

Seed 77 makes every step slow, seed 78 breaks on purpose; each run writes how it ended to LOGFILE. The Sample tab opens
on a vocabulary that tries to run code.
"""

import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import tests.conftest  # noqa: F401  the environment comes first
from models import recorded, session
from models.method import follow
from tests import fake_hub, samples, tiny

SLOW, BROKEN = 77, 78


def read(id: str, tab: str, beside: bool = False):
    """A sample trace under the asked method's name; the twin stands beside it in Unmask."""
    if beside:
        return samples.twin() if tab == "unmask" else None
    trace = samples.hostile() if tab == "sample" else samples.all_tabs()[tab]
    stamp = replace(trace.provenance, recorded="2026-11-21")
    return replace(trace, method=id, provenance=stamp)


def watched(log: Path):
    """models.method.follow that can be slow or broken, and notes how each run ended."""
    def run(job):
        steps, ending = 0, "cancelled"
        try:
            for result in follow(job):
                if job.seed == BROKEN:
                    raise RuntimeError("the secret inside")
                if job.seed == SLOW:
                    time.sleep(0.3)
                steps += 1
                yield result
            ending = "finished"
        finally:
            with log.open("a") as file:
                file.write(f"{job.method.id} {job.seed} {steps} {ending}\n")
    return run


def main(port: int, log: Path) -> None:
    tiny.use()
    recorded.read, session.follow = read, watched(log)
    import app
    with fake_hub.in_use(Path(tempfile.mkdtemp())) as faults:
        faults.hold = 1.0
        app.launch(app.build(), "127.0.0.1", port, quiet=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))

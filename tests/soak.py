"""make soak: many small runs and checkpoint switches in one server process; its memory must stay where it was early on.

    python -m tests.soak [--runs 1000] [--switches 50] [--early 100] [--tiny] [--json FILE]

Visitors come, press Run some times on the page (a session and its pictures each) and leave. Before each look at the
memory the server collects its garbage and gives back what malloc holds.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import app
from models.engine.method import find
from models.trace.params import declaration
from tests.local_server import serving
from tests.visitor import Visitor

GROWTH = 1.10  # of the memory after the early runs
STAY = 10  # runs before a visitor leaves
SMALL = {"length": 8, "steps": 8, "full": 4, "attribution": False}  # where a method has such a parameter


def serve(port: int, tiny: bool, kept: list | None = None) -> None:
    """The app, which tidies up when asked by a signal. kept: for tests, a leak."""
    signal.signal(signal.SIGUSR1, lambda *_: tidy())
    if tiny:
        from tests import tiny as stand_ins
        stand_ins.use()
    if kept is not None:
        leaking(kept)
    from visualizers.server import session_cleanup
    session_cleanup.AWAY, session_cleanup.EVERY = 2.0, 0.5
    app.launch(app.build(), "127.0.0.1", port, quiet=True)


def leaking(kept: list) -> None:
    """A server that keeps something of every run: what the soak must notice."""
    from models.serving import session
    follow = session.follow

    def keeping(job):
        kept.append(bytearray(os.urandom(8_000_000)))
        yield from follow(job)
    session.follow = keeping


def tidy() -> None:
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def memory(pid: int) -> dict:
    """Megabytes (proportional share), threads and open files of a process, after it has tidied up."""
    os.kill(pid, signal.SIGUSR1)
    time.sleep(1.5)
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    pss = next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return {"mb": round(pss / 1024, 1), "threads": len(list(Path(f"/proc/{pid}/task").iterdir())),
            "files": len(list(Path(f"/proc/{pid}/fd").iterdir()))}


def visits(url: str, switches: list[int]) -> Iterator[None]:
    """Run after run; at the run numbers in `switches` the visitor takes another checkpoint of the method."""
    number, dice = 0, random.Random(0)
    while True:
        visitor = Visitor(url)
        visitor.stay()
        for _ in range(STAY):
            tab = dice.choice(list(app.OPENS))
            if number in switches:
                tab = "attend"  # its opening method runs on every shipped transformer
                visitor.set("attend-checkpoint", dice.choice(find(app.OPENS[tab]).checkpoints))
                visitor.set("attend-picker", {"items": [], "selected": ""})
            pressed(visitor, tab, dice)
            number += 1
            yield
        visitor.leave()


def pressed(visitor: Visitor, tab: str, dice: random.Random) -> None:
    known = declaration(find(app.OPENS[tab]).params)
    visitor.set(f"{tab}-seed", dice.randrange(1000))
    settings = {name: value for name, value in SMALL.items() if name in known}
    answer = visitor.press(f"{tab}-run", inputs={visitor.settings(f"{tab}-run"): settings})
    if answer.error or answer.warnings:
        raise RuntimeError(f"{tab}: {answer.error or answer.warnings}")


def soak(url: str, pid: int, runs: int, switches: int, early: int, tell: Callable = lambda row: None) -> dict:
    """Rows of memory over the runs, and whether the last is within GROWTH of the early one."""
    every = max(1, runs // max(1, switches))
    work = visits(url, [n for n in range(0, runs, every)][:switches])
    rows, began = [], time.monotonic()
    for number in range(1, runs + 1):
        next(work)
        if number % early == 0 or number == runs:
            rows.append({"runs": number, **memory(pid), "s": round(time.monotonic() - began)})
            tell(rows[-1])
    growth = round(rows[-1]["mb"] / rows[0]["mb"], 3)
    return {"rows": rows, "switches": switches, "growth": growth, "holds": growth <= GROWTH}


def main() -> int:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--switches", type=int, default=50)
    parser.add_argument("--early", type=int, default=100)
    parser.add_argument("--tiny", action="store_true", help="tiny random weights instead of the shipped ones")
    parser.add_argument("--leak", action="store_true", help="a server that leaks, to see that it is noticed")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--serve", type=int, metavar="PORT", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.tiny, [] if options.leak else None)
        return 0
    more = [flag for flag, on in (("--tiny", options.tiny), ("--leak", options.leak)) if on]
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder), command=["-m", "tests.soak", *more, "--serve",
                                                                                 "PORT"]) as server:
        found = soak(server.url, server.process.pid, options.runs, options.switches, options.early,
                     lambda row: print(row, flush=True))
    print(f"growth {found['growth']}, within {GROWTH}: {'yes' if found['holds'] else 'NO'}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    return 0 if found["holds"] else 1


if __name__ == "__main__":
    sys.exit(main())

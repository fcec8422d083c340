"""Several runs in a row, one thread each: python -m training --queue FILE_OR_NAMES --lanes 2.

A file has one run a line, as behind `python -m training`: `text-mdm-2 --warm --seed 5 --minutes 100`. Each run is a
process of its own on one torch thread, with the lowest priority, its log beside the saved states, outside the
repository; the same queue given again goes on where it stopped and skips what is finished. (Two threads beside other
work are up to ten times slower than one: they wait for each other at every barrier.)
"""
from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from training.catalog import names, recipe
from training.export import SHIPPED

ROOT = Path(__file__).resolve().parents[1]
ONE = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
DONE, SKIPPED, FAILED, WAITED, STOPPED = "done", "was finished", "failed", "not run", "stopped"


@dataclass
class Run:
    """One line of a queue, and what became of it."""

    name: str
    options: tuple[str, ...] = ()
    state: str = WAITED
    why: str = ""
    process: subprocess.Popen | None = None

    @property
    def command(self) -> str:
        return " ".join((self.name, *self.options))


def read(source: str) -> list[Run]:
    """The runs of a file, or of names with commas between them; ValueError names what has no recipe."""
    path = Path(source)
    lines = path.read_text("utf-8").splitlines() if path.is_file() else source.split(",")
    words = [line.split("#")[0].split() for line in lines]
    runs = [Run(one[0], tuple(one[1:])) for one in words if one]
    unknown = sorted({run.name for run in runs} - set(names()))
    if unknown or not runs:
        raise ValueError(f"no recipe {', '.join(unknown)}" if unknown else f"'{source[:60]}' names no run")
    return runs


def settings(line: str) -> dict[str, str]:
    """Seed, budget and whether it is warm, of a command line."""
    found = dict(re.findall(r"--(seed|minutes|steps) (\S+)", line))
    budget = {key: f"{float(value):g}" for key, value in found.items() if key != "seed"}
    return {"seed": found.get("seed", "0"), "warm": str("--warm" in line), **budget}


def card(name: str) -> dict:
    """What is shipped under this name, or {}."""
    path = SHIPPED / name / "card.json"
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}


def finished(run: Run) -> bool:
    """Whether the card says that this very command made what is shipped."""
    made = card(run.name).get("recipe", "").split(f"python -m training {run.name}")[-1]
    asked = settings(run.command)
    if not {"minutes", "steps"} & set(asked):
        asked["minutes"] = f"{recipe(run.name).minutes:g}"
    return bool(made) and settings(made) == asked


def needs(run: Run) -> set[str]:
    """The checkpoints that its recipe starts from."""
    kind = recipe(run.name)
    return {getattr(kind, "start", ""), getattr(kind, "trunk", "")} - {""}


def start(run: Run, runs: str) -> subprocess.Popen:
    """The process of one run; its log goes on where an earlier one ended."""
    logs = Path(runs) / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    arguments = [sys.executable, "-m", "training", run.name, *run.options, "--runs", str(runs), "--threads", "1"]
    log = (logs / f"{run.name}.log").open("a")
    return subprocess.Popen(arguments, cwd=ROOT, env=os.environ | ONE, stdout=log, stderr=subprocess.STDOUT,
                            preexec_fn=lambda: os.nice(19))


def work(queue: Sequence[Run], lanes: int, runs: str, say: Callable[[str], None] = print, every: float = 2.0,
         begin: Callable[[Run, str], subprocess.Popen] = start) -> list[Run]:
    """Runs them, `lanes` at a time, in their order; one that starts from another waits for it."""
    for run in queue:
        run.state = SKIPPED if finished(run) else WAITED
    waiting, going = [run for run in queue if run.state == WAITED], []
    try:
        while waiting or going:
            for run in [run for run in going if run.process.poll() is not None]:
                going.remove(run)
                close(run)
                say(f"{run.command}: {run.state}")
            waiting = [run for run in waiting if not lost(run, queue)]
            coming = {run.name for run in (*waiting, *going)}
            ready = [run for run in waiting if not needs(run) - {run.name} & coming]
            for run in ready[: lanes - len(going)]:
                waiting.remove(run)
                going.append(run)
                run.process = begin(run, runs)
                say(f"{run.command}: begun")
            if going:
                time.sleep(every)
    except KeyboardInterrupt:
        for run in going:
            run.process.terminate()  # its last saved state stays
            run.process.wait()
            run.state = STOPPED
    return list(queue)


def close(run: Run) -> None:
    code = run.process.returncode
    run.state, run.why = (DONE, "") if code == 0 else (FAILED, f"exit code {code}, see its log")


def lost(run: Run, queue: Sequence[Run]) -> bool:
    """Whether what a run starts from will never come."""
    gone = [one.name for one in queue if one.name in needs(run) and (one.state == FAILED or one.why)]
    run.why = f"without {gone[0]}" if gone else ""
    return bool(gone)


def table(queue: Sequence[Run]) -> str:
    """What ran and what did not, as Markdown."""
    rows = ["| run | what became of it | minutes | steps | reached |", "|---|---|---|---|---|"]
    for run in queue:
        made = card(run.name) if run.state in (DONE, SKIPPED) else {}
        state = f"{run.state} ({run.why})" if run.why else run.state
        budget = f"{made.get('minutes', '')} | {made.get('steps', '')}"
        rows.append(f"| {run.command} | {state} | {budget} | {reached(made)} |")
    return "\n".join(rows)


def reached(made: dict) -> str:
    """The first figure of a card."""
    for name, one in made.get("metrics", {}).items():
        return f"{name}: {one['value']} {one['unit']}"
    return ""


def main(source: str, lanes: int, runs: str) -> int:
    """Works a queue off and prints its table; 1 if something did not run."""
    queue = work(read(source), lanes, runs, lambda line: print(line, flush=True))
    print(table(queue))
    return int(any(run.state not in (DONE, SKIPPED) for run in queue))

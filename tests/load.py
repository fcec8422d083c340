"""make load: a classroom of visitors at once. Nobody gets an error, somebody else's result, or a wait without a word.

    python -m tests.load [--visitors 30] [--seconds 180] [--think 10 20] [--page] [--one-seed] [--json FILE]

Each visitor runs the tabs' opening methods in turn with an example and a seed of their own, and thinks in between. With
--one-seed all ask with the same, as a class does that follows its teacher: finished runs are then given again. With
--page they press the page's Run (the method and the one beside it, as in a browser), else they call the API with
gradio_client. The app is started for it with the shipped weights, on this machine.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import parse_qs

import numpy as np

import app
from models.engine.method import find
from models.trace import serialize
from tests.local_server import serving
from tests.visitor import Visitor

SLOWEST = {"API": 8.0, "page": 15.0}  # seconds, the 95th percentile of a default run; the page runs two and draws


@dataclass(frozen=True)
class Run:
    """One run as its visitor saw it. wrong: what did not fit ("" if all did), refused: told that the queue is full."""

    visitor: int
    tab: str
    seconds: float
    wrong: str = ""
    refused: bool = False


Caller = Callable[[str, str, str, int], str]  # (tab, method, example, seed) -> what does not fit, or ""


def by_api(url: str) -> Caller:
    """A visitor's own gradio_client."""
    from gradio_client import Client
    client = Client(url, verbose=False, analytics_enabled=False, httpx_kwargs={"timeout": 120})

    def call(tab: str, method: str, example: str, seed: int) -> str:
        answer = client.predict(method=method, subject=example, params={}, seed=seed, api_name=f"/{tab}")
        trace = serialize.load(answer["trace"])
        return misfit({"method": trace.method, "seed": trace.provenance.seed, "example": trace.provenance.subject},
                      {"method": method, "seed": seed, "example": example})
    return call


def by_page(url: str) -> Caller:
    """A visitor with the page open: the link under the picture says whose run it is."""
    visitor = Visitor(url)
    visitor.stay()

    def call(tab: str, method: str, example: str, seed: int) -> str:
        visitor.set(f"{tab}-seed", seed)
        visitor.set(f"{tab}-picker", {**visitor.value(f"{tab}-picker"), "selected": example})
        answer = visitor.press(f"{tab}-run")
        if answer.error or answer.warnings:
            return str(answer.error or answer.warnings[0])
        link = {name: values[0] for name, values in parse_qs(str(visitor.value(f"{tab}-query"))).items()}
        strip = json.dumps(answer.outputs[visitor.named[f"{tab}-strip"]])
        return misfit({name: link.get(name) for name in ("method", "seed", "example")},
                      {"method": method, "seed": str(seed), "example": example}) or (
            "" if f"seed {seed}" in strip else f"the picture is not of seed {seed}")
    return call


def misfit(got: dict, asked: dict) -> str:
    return "" if got == asked else f"asked for {asked}, got {got}"


class Classroom:
    """visitors: how many; seconds: until nobody begins a run any more; think: shortest and longest pause; examples: of
    a method, from the first: stand-ins for weights read letter by letter, so the longest texts have no room there.
    seeds: how many different ones are asked with."""

    def __init__(self, url: str, visitors: int, seconds: float, think: Sequence[float], caller=by_api, examples=None,
                 seeds: int = 1_000_000):
        self.url, self.visitors, self.think, self.caller, self.examples = url, visitors, think, caller, examples
        self.seeds = seeds
        self.ends, self.runs = time.monotonic() + seconds, []

    def work(self) -> list[Run]:
        threads = [threading.Thread(target=self.visit, args=(n,), daemon=True) for n in range(self.visitors)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return self.runs

    def visit(self, number: int) -> None:
        dice = random.Random(number)
        time.sleep(dice.uniform(0, self.think[1]))  # nobody comes in at the same moment
        call, tabs = self.caller(self.url), list(app.OPENS)
        while True:
            tab = tabs[(number + len(self.runs)) % len(tabs)]
            self.runs.append(self.once(number, tab, call, dice))
            time.sleep(dice.uniform(*self.think))
            if time.monotonic() > self.ends:
                return

    def once(self, number: int, tab: str, call: Caller, dice: random.Random) -> Run:
        method = find(app.OPENS[tab])
        example = dice.choice(method.examples_for(method.kind())[: self.examples]).id
        began = time.monotonic()
        try:
            wrong = call(tab, method.id, example, dice.randrange(self.seeds))
        except Exception as error:  # whatever a visitor would have seen
            wrong = f"{type(error).__name__}: {error}"
        seconds = time.monotonic() - began
        return Run(number, tab, seconds, wrong, "queue is full" in wrong.lower())


def summary(runs: Sequence[Run], slowest: float = SLOWEST["API"]) -> dict:
    """Figures by tab and in all, what went wrong, and whether the classroom can rely on it."""
    groups = {tab: [run.seconds for run in runs if run.tab == tab] for tab in dict.fromkeys(run.tab for run in runs)}
    figures = {tab: spread(found) for tab, found in {**groups, "all": [run.seconds for run in runs]}.items()}
    wrong = [asdict(run) for run in runs if run.wrong]
    return {"runs": figures, "wrong": wrong, "refused": sum(run.refused for run in runs),
            "slowest": slowest,
            "holds": bool(runs) and not wrong and figures["all"]["p95"] < slowest}


def spread(seconds: Sequence[float]) -> dict:
    low, high = np.percentile(seconds, [50, 95]) if seconds else (0.0, 0.0)
    return {"n": len(seconds), "median": round(float(low), 2), "p95": round(float(high), 2),
            "longest": round(max(seconds, default=0.0), 2)}


def table(found: dict) -> str:
    lines = [f"{'tab':8} {'runs':>5} {'median s':>9} {'p95 s':>7} {'longest s':>10}"]
    lines += [f"{tab:8} {row['n']:5} {row['median']:9.2f} {row['p95']:7.2f} {row['longest']:10.2f}"
              for tab, row in found["runs"].items()]
    lines.append(f"wrong or failed: {len(found['wrong'])}, of them told that the queue is full: {found['refused']}")
    lines += [f"  {row['tab']}: {row['wrong'][:150]}" for row in found["wrong"][:5]]
    held = "yes" if found["holds"] else "NO"
    return "\n".join([*lines, f"p95 under {found['slowest']:.0f} s and nothing wrong: {held}"])


def main() -> int:
    parser = argparse.ArgumentParser(prog="make load", description=__doc__.splitlines()[0])
    parser.add_argument("--visitors", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--think", type=float, nargs=2, default=(10, 20))
    parser.add_argument("--page", action="store_true", help="press the page's Run instead of calling the API")
    parser.add_argument("--one-seed", action="store_true", help="everybody asks with the same seed")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    before = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder), command=["app.py", "--port", "PORT",
                                                                                 "--preload"]) as server:
        if hasattr(os, "nice"):
            os.nice(15)  # the visitors' computers are not this one: what they compute must not slow the server
        way = "page" if options.page else "API"
        room = Classroom(server.url, options.visitors, options.seconds, options.think,
                         by_page if options.page else by_api, seeds=1 if options.one_seed else 1_000_000)
        found = summary(room.work(), SLOWEST[way])
    found |= {"asked": {"visitors": options.visitors, "seconds": options.seconds, "think": list(options.think),
                        "way": way, "one seed": options.one_seed},
              "cores": os.cpu_count(), "load before": round(before, 2)}
    print(f"{found['asked']}, {found['cores']} cores, load before {found['load before']}")
    print(table(found))
    print(json.dumps(found))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    return 0 if found["holds"] else 1


if __name__ == "__main__":
    sys.exit(main())

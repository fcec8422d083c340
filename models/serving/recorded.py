"""The instant examples: one recorded trace per method and tab in assets/traces/, and its baseline's beside it.

`<id>.json` is the method's first tab, `<id>.<tab>.json` another one; `.beside` before `.json` marks the baseline's
trace on the same subject, seed and budget. They are drawn without loading a model.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from models.engine.method import Job, Method, find, follow, prepare, twin
from models.trace import Trace
from models.trace.serialize import load, save
from models.trace.subject import ASSETS

FOLDER = ASSETS / "traces"
SEED = 1  # the seed on which every tab opens; chosen so that the first scene shows what the claim says on average


def path(method: Method, tab: str, beside: bool = False) -> Path:
    """Where the recorded trace of a method's tab lies, or would lie."""
    middle = "" if tab == method.card.tabs[0] else f".{tab}"
    return FOLDER / f"{method.id}{middle}{'.beside' if beside else ''}.json"


@lru_cache(maxsize=64)
def read(id: str, tab: str, beside: bool = False) -> Trace | None:
    """The recorded trace, or None if there is none (a baseline need not share every tab)."""
    file = path(find(id), tab, beside)
    return load(file.read_text("utf-8")) if file.is_file() else None


def record(method: Method) -> Iterator[Path]:
    """Runs the method's first example warm, with its baseline, and writes one file per record; yields their paths."""
    job = prepare(method, seed=SEED, dtype="float32")  # the same everywhere, whatever this machine prefers
    yield from _write(job, method, beside=False)
    other = twin(job)
    if other is not None:
        yield from _write(other, method, beside=True)


def _write(job: Job, method: Method, beside: bool) -> Iterator[Path]:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for _ in range(2):  # the first run pays for loading; the recorded one shows warm times
        *_, last = follow(job)
    for tab, trace in last.traces.items():
        if tab not in method.card.tabs:
            continue
        stamp = replace(trace.provenance, recorded=datetime.date.today().isoformat())
        file = path(method, tab, beside)
        file.write_text(save(replace(trace, provenance=stamp)) + "\n", "utf-8")
        yield file

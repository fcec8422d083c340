"""safetensors files before they are loaded: are they there, whole and the right ones, and how much memory do they take.

Only the table of contents is read, and every file is hashed once per process, so that a damaged or foreign checkpoint
ends in a sentence and not in a model that answers nonsense.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from math import prod
from pathlib import Path

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack")
INDEX = "model.safetensors.index.json"
FLOATS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}  # loaded as the model's dtype, whatever the file holds


class CheckpointError(ValueError):
    """A checkpoint that cannot be had or loaded; the sentence says what to do."""


class WeightsError(ValueError):
    """What is wrong with the files, as the end of a sentence that begins with the checkpoint's name."""


def files(folder: Path, names: Collection[str] = ()) -> list[Path]:
    """The weights of a checkpoint, or those of these names; WeightsError when there are none that may be read."""
    found = [folder / name for name in names] or listed(folder)
    if found and all(path.is_file() for path in found):
        return found
    places = {path.parent for path in found} or {folder}
    beside = {file.suffix for place in places if place.is_dir() for file in place.iterdir()}
    if ".safetensors" not in beside and beside & set(PICKLES):
        raise WeightsError("has only files that can run code when they are read, and no safetensors.")
    if (folder / "model.safetensors").is_symlink():
        raise WeightsError("has a model.safetensors that is a link to no file.")
    if not found and ".safetensors" in beside:
        raise WeightsError("has safetensors files, but neither a model.safetensors nor an index of its parts.")
    absent = next((path.relative_to(folder) for path in found if not path.is_file()), "model.safetensors")
    raise WeightsError(f"has no {absent}.")


def listed(folder: Path) -> list[Path]:
    """One file of weights, or the parts that the index beside them names; [] where there are none."""
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    if not (folder / INDEX).is_file():
        return []
    try:
        names = set(json.loads((folder / INDEX).read_text("utf-8"))["weight_map"].values())
        plain = [name for name in names if isinstance(name, str) and re.fullmatch(r"[\w.-]+\.safetensors", name)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        plain, names = [], {""}
    if len(plain) != len(names) or not plain:
        raise WeightsError(f"has a damaged {INDEX}: it does not name its parts.")
    return [folder / name for name in sorted(plain)]


def checked(folder: Path, expected: Mapping[str, str]) -> list[Path]:
    """The weights, none of which is cut short.

    expected: name -> sha256 of each file ("" where nobody said); {} where only the folder says which there are.
    """
    found = files(folder, expected)
    for path in found:
        contents(path)
    if any(sha256 and fingerprint(folder / name) != sha256 for name, sha256 in expected.items()):
        raise WeightsError("is not the file that it should be (its sha256 differs).")
    return found


def contents(path: Path) -> dict[str, dict]:
    """name -> dtype and shape of every weight, without reading any; of packed weights what they are unpacked."""
    from safetensors import SafetensorError, safe_open
    try:  # the library refuses what is cut, overlong or no safetensors file
        with safe_open(path, "np") as file:
            parts = {name: file.get_slice(name) for name in file.keys()}
            places = {name: (one.get_dtype(), tuple(one.get_shape())) for name, one in parts.items()}
            header = file.metadata() or {}
    except SafetensorError as error:
        if "not fully covered" not in str(error):
            raise WeightsError("has a file that is no safetensors file, or is damaged.") from None
        size = f"{path.stat().st_size:,}"
        raise WeightsError(f"has a damaged file: {path.name} has {size} bytes, not the number that it should have."
                           ) from None
    return {name: {"dtype": dtype, "shape": shape} for name, (dtype, shape) in _unpacked(header, places).items()}


def _unpacked(header: dict, places: dict) -> dict:
    """Tensors as the network gets them, if their packing is one that can be read."""
    if "packing" not in header:
        return places
    from models.backbones import packing
    try:
        return packing.check(header, places)
    except ValueError as error:
        raise WeightsError(str(error)) from None


def loaded_bytes(paths: list[Path], itemsize: int) -> int:
    """Bytes of memory that the weights take with `itemsize` bytes per number."""
    return sum(prod(one["shape"]) * (itemsize if one["dtype"] in FLOATS else 8)
               for path in paths for one in contents(path).values())


def fingerprint(path: Path) -> str:
    """sha256 of a file, read once per process as long as the file stays as it is."""
    seen = path.stat()
    key = (str(path), seen.st_size, seen.st_mtime_ns)
    if key not in _prints:
        with path.open("rb") as file:
            _prints[key] = hashlib.file_digest(file, "sha256").hexdigest()
    return _prints[key]


_prints: dict[tuple, str] = {}

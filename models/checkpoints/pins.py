"""Pins made by whoever runs the server: commit, sizes and hashes of public checkpoints that no public text pins.

    python -m models pin google/electra-small-discriminator

asks the Hub once, looks at what the repository holds, and keeps the answer in a small file (TOKENSCOPE_PINS, by default
assets/pins.json) that is read at every start. Only entries of the table in models/checkpoints/hub.py can be pinned: a
name or a file that it does not have is ignored wherever it comes from. No token is sent, nothing but safetensors is
accepted.
"""

from __future__ import annotations

import json
import logging
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from models.checkpoints.registry import read_object, stated
from models.checkpoints.verify import CheckpointError
from models.trace.subject import ASSETS

log = logging.getLogger("tokenscope")


class Weights(NamedTuple):
    """One safetensors file; sha256 is "" where nobody stated it."""

    bytes: int
    sha256: str = ""


class Pin(NamedTuple):
    """A commit of a repository, and its weights by path."""

    revision: str
    weights: Mapping[str, Weights]


def place() -> Path:
    """The file with this server's pins."""
    return Path(os.environ.get("TOKENSCOPE_PINS") or ASSETS / "pins.json")


def read(name: str, paths: Mapping[str, str]) -> Pin | None:
    """What was pinned here under this name, if it names exactly these weights; a damaged line counts as none."""
    found = read_object(place()).get(name)
    pin = sound(found, paths)
    if found is not None and pin is None:
        log.warning("the pin of %s in %s is damaged; please pin it again", name, place())
    return pin


def sound(found: Any, paths: Mapping[str, str]) -> Pin | None:
    """A pin as JSON holds it, or None for anything else."""
    try:
        weights = {path: Weights(*found["weights"][path]) for path in paths}
        whole = set(found["weights"]) == set(paths) and all(map(_stated, weights.values()))
        return Pin(found["revision"], weights) if whole and _commit(found["revision"]) else None
    except (TypeError, KeyError, AttributeError):
        return None


def _commit(revision: Any) -> bool:
    return isinstance(revision, str) and re.fullmatch("[0-9a-f]{40}", revision) is not None


def _stated(one: Weights) -> bool:
    return (type(one.bytes) is int and one.bytes > 0 and isinstance(one.sha256, str)
            and re.fullmatch("[0-9a-f]{64}", one.sha256) is not None)


def write(name: str, pin: Pin) -> None:
    """Keeps a pin beside the others; nobody ever reads half a file."""
    kept = read_object(place()) | {name: pin._asdict()}
    place().parent.mkdir(parents=True, exist_ok=True)
    half = place().with_suffix(".new")
    half.write_text(json.dumps(kept, indent=1), "utf-8")
    half.replace(place())


def ask(repo: str, paths: Mapping[str, str]) -> Pin:
    """The Hub's commit of today. paths: weights -> the class that the config.json beside them must name.

    CheckpointError, one sentence, where the Hub cannot be asked or has something else.
    """
    from huggingface_hub import HfApi
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"), token=False)
    try:
        return _asked(api, repo, paths)
    except CheckpointError:
        raise
    except Exception as error:  # of the connection or of the Hub
        raise CheckpointError(f"'{repo}' was not pinned: {_why(error)}.") from error


def _asked(api, repo: str, paths: Mapping[str, str]) -> Pin:
    info = api.model_info(repo, files_metadata=True)
    there = {one.rfilename: one for one in info.siblings or ()}
    for path, named in paths.items():
        if path not in there or there[path].lfs is None:
            raise CheckpointError(f"'{repo}' was not pinned: the Hub has no {path} there; only safetensors are read.")
        api.parse_safetensors_file_metadata(repo, path, revision=info.sha)
        if named not in (found := _classes(api, repo, path, info.sha)):
            raise CheckpointError(f"'{repo}' was not pinned: its {path} is a {', '.join(found)[:60] or '?'}, and not "
                                  f"the {named} that it should be.")
    weights = {path: [there[path].size, there[path].lfs.sha256] for path in paths}
    pin = sound({"revision": info.sha, "weights": weights}, paths)
    if pin is None:
        raise CheckpointError(f"'{repo}' was not pinned: the Hub states no commit, size or sha256 of its files.")
    return pin


def _classes(api, repo: str, path: str, revision: str) -> list[str]:
    """What the config.json beside the weights names, read without a trace in the Hub's cache."""
    config = (Path(path).parent / "config.json").as_posix()
    with tempfile.TemporaryDirectory() as folder:
        return stated(read_object(Path(api.hf_hub_download(repo, config, revision=revision, local_dir=folder))))


def _why(error: Exception) -> str:
    from huggingface_hub import errors
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE forbids asking the Hub"
    if isinstance(error, errors.GatedRepoError):
        return "it is behind an agreement on the Hub that a person has to accept"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "the Hub has no public repository of this name"
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return "the Hub lacks one of its files"
    if isinstance(error, errors.SafetensorsParsingError):
        return "its weights are no safetensors file, or a damaged one"
    return "the Hub could not be reached, or broke off"

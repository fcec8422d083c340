"""name -> weights: shipped with the app, a local folder, or a pinned Hub revision; one code path for all three.

A checkpoint is a folder in the standard layout of its library: config.json with `architectures` (of several parts:
model_index.json), safetensors, a tokenizer.json for text, and for ours a card.json. Safetensors only: no pickle, no
remote code. Nothing is fetched here (models/checkpoints/download.py does that when a visitor chose a public one), so
the lock is held for a read from disk at most. Loaded models stay in memory as far as the machine allows
(models/checkpoints/memory.py), least recently used first out; a model is never mutated for one visitor.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.checkpoints import download, folders, hub, memory, packaged, precision, reading, verify, versions
from models.checkpoints.memory import default_device
from models.checkpoints.registry import SHIPPED, described, is_checkpoint
from models.checkpoints.verify import CheckpointError
from models.trace import limits

log = logging.getLogger("tokenscope")


@dataclass(frozen=True)
class Bundle:
    """A loaded checkpoint: model in eval mode, tokenizer or None, its card, and what the honesty strip shows.

    revision: first 12 hex digits of the weights' sha256 (shipped, local) or the Hub commit. own: read from a visitor's
    folder, whose last name is the bundle's; `key` is what `load` takes for it.
    """

    name: str
    model: Any
    tokenizer: Any = None
    card: dict = field(default_factory=dict)
    revision: str = ""
    device: str = "cpu"
    dtype: str = "float32"
    folder: Path | None = None
    own: bool = False

    @property
    def key(self) -> str:
        return str(self.folder) if self.own else self.name


def snapshots(bundle: Bundle) -> list[tuple[dict, Path]]:
    """Earlier moments of a training that are shipped with it: what each says of itself, and its folder."""
    notes = sorted(bundle.folder.glob("*/snapshot.json")) if bundle.folder else []
    return [(json.loads(note.read_text("utf-8")), note.parent) for note in notes]


def like(bundle: Bundle, folder: Path) -> Bundle:
    """What lies in a folder, on the device and in the dtype of another checkpoint."""
    return load(str(folder), device=bundle.device, dtype=bundle.dtype)


def here(name: str) -> bool:
    """Whether a checkpoint of this name is shipped, or a test has put a stand-in in its place."""
    return name in _makers or (SHIPPED / name / "config.json").is_file()


def shipped() -> dict[str, dict]:
    """name -> card of every checkpoint in assets/checkpoints, without loading any."""
    cards = {}
    for path in sorted(SHIPPED.glob("*/card.json")):
        cards[path.parent.name] = json.loads(path.read_text("utf-8"))
    return cards


def resolve(asked: str | None, declared: tuple[str, ...]) -> str:
    """The checkpoint to use: the asked one if it is declared or a local folder (never on a hosted Space), or what took
    its place."""
    if asked is None:
        return declared[0]
    if asked in declared or packaged.folder(asked):
        return asked
    if (new := versions.current(asked, shipped())) in declared:
        return new
    if folder := folders.own(asked):
        return folders.opened(asked, folder)
    raise CheckpointError(f"There is no checkpoint '{folders.label(asked)[:60]}' for this method; choose one of "
                          f"{', '.join(declared)} or, on your own machine, a folder with config.json and safetensors.")


def architecture(name: str) -> str:
    """The class that a checkpoint's config.json names, without loading it; "" if there is none to read."""
    named = _config(name).get("architectures")
    return str(named[0]) if isinstance(named, list) and named else ""


def place(name: str) -> Path:
    """Where a checkpoint of this name lies, or would lie."""
    if name in hub.TABLE:
        return hub.folder(name) or hub.snapshot(hub.TABLE[name])
    if name in packaged.TABLE:
        return packaged.cache() / name
    shipped_here = ".." not in name and not Path(name).is_absolute() and is_checkpoint(SHIPPED / name)
    return SHIPPED / name if shipped_here else folders.own(name) or SHIPPED / "none"


def _config(name: str) -> dict:
    found = described(place(name))
    return {"architectures": [hub.TABLE[name].architecture]} if not found and name in hub.TABLE else found


def default_dtype(name: str, device: str) -> str:
    """The dtype a checkpoint is loaded in when nobody names one; see models/checkpoints/precision.py."""
    config = _config(name)
    width = config.get("hidden_size") or config.get("n_embd")
    writes = architecture(name).endswith(("ForCausalLM", "LMHeadModel"))
    return precision.default(device, width if isinstance(width, int) else 0, writes=writes)


def load(name: str, *, device: str | None = None, dtype: str | None = None) -> Bundle:
    """The bundle of a checkpoint, from memory if it is there. dtype: "float32", "bfloat16" or "float16"; see
    default_dtype."""
    device = device or default_device()
    dtype = dtype or default_dtype(name, device)
    key = (name, device, dtype)
    with _lock:
        if key not in _loaded:
            _loaded[key] = _read(name, device, dtype)
        _loaded.move_to_end(key)
        _stamps.get({})[name] = _loaded[key].revision
        return _loaded[key]


@contextmanager
def measured() -> Iterator[dict[str, str]]:
    """name -> revision of every checkpoint that is loaded inside, from memory or from disk: a measurement's stamps."""
    stamps: dict[str, str] = {}
    token = _stamps.set(stamps)
    try:
        yield stamps
    finally:
        _stamps.reset(token)


def stale(stamps: Mapping[str, str]) -> dict[str, str]:
    """Of name -> revision, those that differ from what is here now: name -> its revision now, "" where it is gone."""
    now = {name: revision(name) for name in stamps}
    return {name: found for name, found in now.items() if found != stamps[name]}


def revision(name: str) -> str:
    """What `load` would stamp a checkpoint with, without loading it; "" where it is not here."""
    if name in hub.TABLE:
        return hub.TABLE[name].revision[:12]
    if sha256 := packaged.sha256(name):
        return sha256[:12]
    folder = place(name)
    if not is_checkpoint(folder):
        return ""
    return (reading.card(name, folder).get("sha256") or reading.fingerprint(verify.checked(folder, {})))[:12]


def preload(name: str) -> None:
    """Loads a checkpoint before anybody asks, a public one fetched first; one that cannot be had is only logged."""
    try:
        for _ in download.fetch(name):
            pass
        load(name)
    except CheckpointError as error:
        log.warning("not preloaded: %s", error)


def register(name: str, maker: Callable[[], Bundle]) -> None:
    """For tests: make `load(name)` return what `maker()` builds (tiny random weights)."""
    _makers[name] = maker


def unload() -> None:
    """Drops every loaded model, so that its memory can be had by a run that lacked some."""
    with _lock:
        _loaded.clear()


_loaded: OrderedDict[tuple, Bundle] = OrderedDict()
_stamps: ContextVar[dict[str, str]] = ContextVar("stamps")
_makers: dict[str, Callable[[], Bundle]] = {}
_lock = threading.RLock()


def _fresh_lock() -> None:
    """In a forked process: another thread of the parent may have held the lock, and nobody would ever release it."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_fresh_lock)


def _read(name: str, device: str, dtype: str) -> Bundle:
    if name in _makers:
        return _makers[name]()
    folder, public = place(name), hub.TABLE.get(name)
    if public and not hub.folder(name):
        if not public.revision:
            raise CheckpointError(f"'{name}' cannot be had: {hub.hindrance(name)}.")
        raise CheckpointError(f"'{name}' is not on this machine yet; choose it in the menu Checkpoint, which fetches "
                              f"its {hub.size(name) / 1e6:.0f} MB, or wait until they have arrived.")
    if name in packaged.TABLE and not packaged.folder(name):
        raise CheckpointError(f"'{name}' is not on this machine yet; `python tools/public_weights.py {name}` makes it.")
    if not is_checkpoint(folder):
        missing = ("is not here" if Path(name).is_absolute() else f"is not shipped here; train it with `make train "
                   f"CHECKPOINT={name[:60]}` or choose another")
        raise CheckpointError(f"The checkpoint '{folders.label(name)[:60]}' {missing}.")
    return _read_folder(name, folder, device, dtype)


def _read_folder(name: str, folder: Path, device: str, dtype: str) -> Bundle:
    """Reads a checkpoint whose files stand up to a look, after room was made for it."""
    import torch
    own, label, kind = Path(name).is_absolute(), folders.label(name)[:60], getattr(torch, dtype)
    card = {} if own else reading.card(name, folder)
    with reading.one_sentence(name, label):
        config, named = _config(name), architecture(name)
        files = reading.files(name, folder, config, named, card)
        _make_room(label, verify.loaded_bytes(reading.with_trunks(files), kind.itemsize))
        model, words = reading.parts(name, folder, config, named)
    model = model.to(device=device, dtype=kind).eval()
    model.requires_grad_(False)
    revision = hub.TABLE[name].revision if name in hub.TABLE else card.get("sha256") or reading.fingerprint(files)
    return Bundle(label if own else name, model, words, card, revision[:12], device, dtype, folder, own)


def _bytes(bundle: Bundle) -> int:
    """Memory of a loaded model: its parameters and buffers."""
    model = bundle.model
    held = [*getattr(model, "parameters", tuple)(), *getattr(model, "buffers", tuple)()]
    return sum(tensor.numel() * tensor.element_size() for tensor in held)


def _make_room(name: str, needed: int) -> None:
    """Drops the least recently used models until one of so many bytes fits; CheckpointError where it never will."""
    while _loaded and (held := loaded_bytes()) + needed > memory.model_room(held):
        _loaded.popitem(last=False)
        gc.collect()
    room = memory.model_room(loaded_bytes())
    if needed > max(room, limits.SMALL_MODEL):
        raise CheckpointError(f"'{name[:60]}' needs {needed / 1e6:,.0f} MB of memory and this machine has "
                              f"{room / 1e6:,.0f} MB for models now; please choose a smaller checkpoint.")


def loaded_bytes() -> int:
    """Memory of all loaded models."""
    return sum(map(_bytes, _loaded.values()))

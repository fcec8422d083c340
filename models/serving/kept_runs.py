"""Finished runs of shipped examples, kept for the next visitor who asks the same.

Such a run is deterministic: same method, example, parameters, seed, weights and number format give the same record. A
visitor's own subject, typed words, hand-made choices and local folders are never kept. What is given again says so in
its note.
"""
from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np

from models.checkpoints import store
from models.engine.method import find
from models.serving import links, session, zerogpu
from models.serving.session import Ask, Scene, Take
from models.trace import limits
from models.trace.params import Words, declaration

NOTE = "The same run of this example was made before and is shown again; its times are those of then."
LOCK = threading.Lock()
SHELF: OrderedDict[str, tuple[Scene, int]] = OrderedDict()  # least recently asked first


def played(ask: Ask) -> Iterator[Scene]:
    """The scenes of a question: the end at once where the same was asked before."""
    key = key_of(ask)
    found = taken(key) if key else None
    if found is not None:
        yield found
        return
    for scene in zerogpu.scenes(session.play, ask):
        if scene.done and key:
            keep(key, scene)
        yield scene


def key_of(ask: Ask) -> str:
    """What tells one run from another, "" where it must not be kept."""
    method = find(ask.method)
    name = ask.checkpoint or method.checkpoints[0]
    if ask.own is not None or ask.choice is not None or name not in method.choices or typed(ask):
        return ""
    return f"{store.revision(name)} {links.to_query(ask)}"


def typed(ask: Ask) -> bool:
    """Whether a setting holds a visitor's own words, which a link leaves out, too."""
    declared = declaration(find(ask.method).params)
    free = {name: default for name, (spec, _, default) in declared.items() if isinstance(spec, Words)}
    return any(ask.params.get(name, default) != default for name, default in free.items())


def taken(key: str) -> Scene | None:
    with LOCK:
        if key not in SHELF:
            return None
        SHELF.move_to_end(key)
        return SHELF[key][0]


def keep(key: str, scene: Scene) -> None:
    """Puts a finished scene on the shelf; the least recently asked leave when it is full."""
    noted = replace(scene, takes=tuple(map(again, scene.takes)))
    size = size_of(noted)
    if size > limits.KEPT_BYTES:
        return
    with LOCK:
        SHELF[key] = (noted, size)
        SHELF.move_to_end(key)
        while sum(held for _, held in SHELF.values()) > limits.KEPT_BYTES:
            SHELF.popitem(last=False)


def again(take: Take) -> Take:
    stamp = take.trace.provenance
    note = " ".join(filter(None, (stamp.note, NOTE)))
    return replace(take, trace=replace(take.trace, provenance=replace(stamp, note=note)))


def size_of(value: Any) -> int:
    """Bytes of all arrays and tensors in it, and a little for everything else."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if hasattr(value, "element_size"):
        return value.numel() * value.element_size()
    if is_dataclass(value):
        return 64 + sum(size_of(getattr(value, f.name)) for f in fields(value))
    if isinstance(value, dict):
        return 64 + sum(size_of(key) + size_of(item) for key, item in value.items())
    return 64 + sum(map(size_of, value)) if isinstance(value, (tuple, list)) else 64

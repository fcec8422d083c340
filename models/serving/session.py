"""What one visitor asks for and sees: a method and what stands beside it. The visitor's own turn is in
models/serving/turns.py.

An `Ask` is everything set on the page; `play` runs it and yields scenes while it goes on; models/serving/links.py turns
it into a link and back. No Gradio here: page and API share this file.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from typing import Any

from models.checkpoints.store import CheckpointError, here, resolve
from models.engine import layouts
from models.engine.method import CONTROL, Job, Method, Result, find, follow, offered, prepare, twin
from models.serving import cores
from models.trace import Trace, limits
from models.trace.interventions import NONE, Interventions
from models.trace.params import ParamError, declaration
from models.trace.subject import Example, Subject, from_example

UPDATE_SECONDS, CROWDED_SECONDS = 0.25, 1.5  # between two pictures of a run; where others run, too
REST, LONGEST_REST = 2.0, 2.0  # no new picture for so many times as long as the last one took to draw; seconds
END = object()


class TooSlow(ParamError):
    """A run that took longer than a visitor's may."""


@dataclass(frozen=True)
class Ask:
    """own: the visitor's own subject, or None for the example. beside: ids of up to two further methods.

    choice: tokens picked by hand, one tuple per step (Your turn), or None. interventions: what is changed in the middle
    of the run; the untouched run then stands beside it first. step: where the player stands (-1: last).
    """

    method: str
    tab: str
    params: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    example: str = ""
    own: Subject | None = None
    checkpoint: str | None = None
    beside: tuple[str, ...] = ()
    choice: tuple[tuple[int, ...], ...] | None = None
    step: int = -1
    interventions: Interventions = NONE

    def __post_init__(self):
        if self.tab not in find(self.method).card.tabs:
            raise ParamError(f"'{self.method}' has no picture in the tab '{str(self.tab)[:20]}'")
        if len(self.beside) > limits.BESIDE:
            raise ParamError(f"please compare with at most {limits.BESIDE} further methods")
        for id in self.beside:
            if id not in comparable(find(self.method), self.tab, self.kind):
                raise ParamError(f"'{str(id)[:40]}' cannot stand beside '{self.method}' here")


    @property
    def kind(self) -> str:
        """Kind of subject that the method takes on the asked checkpoint."""
        return find(self.method).kind(self.checkpoint)

    @property
    def examples(self) -> tuple[Example, ...]:
        return find(self.method).examples_for(self.kind, self.checkpoint)


@dataclass(frozen=True)
class Take:
    """One run of a scene: whose it is ("method", "untouched", "beside", "visitor", "random"), its trace, what it
    kept."""

    role: str
    trace: Trace
    kept: Any = None


@dataclass(frozen=True)
class Scene:
    """The takes so far, how far all of it is (0..1), seconds left (None: too early to say), and whether it ended."""

    takes: tuple[Take, ...]
    progress: float = 0.0
    left: float | None = None
    done: bool = False


def comparable(method: Method, tab: str, kind: str) -> list[str]:
    """Ids of the methods that can stand beside this one: same tab, same kind of subject; its baseline first, then its
    control arm."""
    arm = method.arm
    others = [m for m in offered().values() if tab in m.card.tabs and _takes(m, kind) and m is not method]
    fit = [arm] * (arm is not None and here(arm.checkpoints[0]) and bool(_takes(arm, kind))) + others
    return sorted((m.id for m in fit), key=lambda id: id != method.baseline)


def _takes(method: Method, kind: str) -> list[str]:
    """The method's checkpoints that take this kind of subject."""
    return [name for name in method.choices if method.kind(name) == kind]


def subject(ask: Ask) -> Subject:
    """The visitor's own subject, or the example of that id (the first if none is named)."""
    if ask.own is not None:
        return ask.own
    named = [e for e in ask.examples if e.id == ask.example] if ask.example else ask.examples[:1]
    if not named:
        known = ", ".join(e.id for e in ask.examples)
        raise ParamError(f"there is no example '{str(ask.example)[:40]}' for this method; choose one of {known}")
    return from_example(named[0], ask.kind)


def job(ask: Ask) -> Job:
    """The method's checked job; raises ParamError, SubjectError or CheckpointError."""
    return prepare(ask.method, subject(ask), ask.params, checkpoint=ask.checkpoint, seed=ask.seed, choice=ask.choice,
                   interventions=ask.interventions)


def refused(id: str, checkpoint: str) -> str:
    """Why a method cannot have this checkpoint, before anything is fetched or loaded; "" where it can."""
    try:
        layouts.fit(find(id), resolve(checkpoint, find(id).choices))
    except CheckpointError as error:
        return str(error)
    return ""


def beside(first: Job, id: str) -> Job:
    """Another method on the same subject and seed: the baseline at the same budget, others with what they share."""
    if id in (first.method.baseline, first.method.id + CONTROL):
        return twin(first, id)
    other = find(id)
    name, why = layouts.beside(other, first)
    made = prepare(other, first.subject, _shared(first.params, other.params), checkpoint=name, seed=first.seed)
    return replace(made, note=" ".join(filter(None, (made.note, why))))


def play(ask: Ask) -> Iterator[Scene]:
    """Scenes while the runs go on, at most four a second; the last one is done. Closing the iterator cancels."""
    first = job(ask)
    untouched = ("untouched", lambda: replace(first, interventions=NONE))
    others = [untouched if id == "untouched" else ("beside", lambda id=id: beside(first, id)) for id in standing(ask)]
    yield from stream(ask.tab, [("method", lambda: first), *others])


def standing(ask: Ask) -> tuple[str, ...]:
    """Ids of the methods beside it, as many as there is room for; the untouched run first where something is changed.
    """
    return (*(["untouched"] if ask.interventions else []), *ask.beside)[: limits.BESIDE]


def pumped(scenes: Iterator[Scene]) -> Iterator[Scene]:
    """The same scenes from one thread of their own, so that a run sees one context from its first step to its last: a
    copy of the caller's, as ZeroGPU reads in it whose request this is.

    The run never waits for the page: scenes that nobody fetched yet are replaced by newer ones, and drawing them takes
    at most a third of the time, because it takes it from the run. Closing this iterator stops the run at its next step
    and waits for it.
    """
    box, stop = queue.SimpleQueue(), threading.Event()
    worker = threading.Thread(target=copy_context().run, args=(_work, scenes, box, stop), daemon=True)
    worker.start()
    try:
        item, patience = box.get(), 0.0
        while isinstance(item, Scene):
            item, behind = _newest(box, item, patience)
            began = time.perf_counter()
            yield item
            patience = min(LONGEST_REST, REST * (time.perf_counter() - began))
            item = behind or box.get()
        if isinstance(item, BaseException):
            raise item
    finally:
        stop.set()
        worker.join()


def _newest(box: queue.SimpleQueue, item: Scene, patience: float) -> tuple[Scene, Any]:
    """The newest scene that comes within `patience` seconds, and what came behind it if that is no scene."""
    until = time.perf_counter() + patience
    while not item.done:
        try:
            newer = box.get(timeout=max(0.0, until - time.perf_counter()))
        except queue.Empty:
            break
        if not isinstance(newer, Scene):
            return item, newer
        item = newer
    return item, None


def _work(scenes: Iterator[Scene], box: queue.SimpleQueue, stop: threading.Event) -> None:
    try:
        for scene in scenes:
            if stop.is_set():
                break
            box.put(scene)
        box.put(END)
    except BaseException as error:  # handed to whoever waits; nothing is lost in a thread
        box.put(error)
    finally:
        scenes.close()


def default_beside(method: Method, tab: str, kind: str) -> tuple[str, ...]:
    """Its baseline, where that has a picture of this tab."""
    return tuple(id for id in comparable(method, tab, kind) if id == method.baseline)


def in_time(results: Iterator[Result], began: float) -> Iterator[Result]:
    """The same results; TooSlow as soon as one comes later than a visitor's run may take."""
    with closing(results):
        for result in results:
            if time.perf_counter() - began > limits.SECONDS and not result.done:
                raise TooSlow(f"this run was stopped after {limits.SECONDS:.0f} seconds; please choose fewer steps "
                              f"or a shorter text, or compare with fewer methods")
            yield result


def stream(tab: str, makers) -> Iterator[Scene]:
    """The first step at once, then at most one scene per UPDATE_SECONDS (CROWDED_SECONDS), and the end of every run."""
    with cores.shared() as fit:
        yield from _scenes(tab, makers, fit)


def _scenes(tab: str, makers, fit) -> Iterator[Scene]:
    began, sent, finished = time.perf_counter(), -math.inf, ()
    for index, (role, make) in enumerate(makers):
        asked = replace(make(), only=tab)
        light = cores.small(asked.model)
        fit(light)
        for result in in_time(follow(asked), began):
            pause = UPDATE_SECONDS if fit(light) == 1 else CROWDED_SECONDS
            now = time.perf_counter() - began
            if not result.done and now - sent < pause:
                continue  # its traces are never put together
            trace = result.traces.get(tab)
            if trace is None:
                continue
            sent, share = now, (index + result.progress) / len(makers)
            takes = (*finished, Take(role, trace, result.kept.get(tab)))
            left = now * (1 - share) / share if now > 1 and share > 0.02 else None
            yield Scene(takes, share, left, result.done and index == len(makers) - 1)
        finished = takes


def _shared(values: Any, other: type) -> dict:
    """What two methods have in common: parameters of the same name that the other one's declaration accepts."""
    shared = {}
    for name, (spec, kind, _) in declaration(other).items():
        try:
            shared[name] = spec.parse(name, getattr(values, name), kind)
        except (AttributeError, ParamError):
            continue
    return shared

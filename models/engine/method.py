"""A method: its card, its parameters, the checkpoints it needs and `run`, a generator of events.

    Open(tab, canvas, ...)   starts the record of a tab
    Emit(tab, step)          adds one step to it
    Close(tab, ...)          adds what is known at the end: charts, facts, the sentence, head statistics

`follow` folds the events into traces while the run goes on; `run` returns the finished ones. A run yields one record
per tab of its card. The atlas is found by scanning: a folder of models/papers or models/baselines is a method.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import kernels
from models.backbones.instrument import plain_attention
from models.checkpoints import chat, hub, packaged
from models.checkpoints.folders import label
from models.checkpoints.store import Bundle, architecture, load, resolve
from models.engine import layouts
from models.engine.events import Book, BookState, Close, Emit, Event, Open, Records, pages, progress, traces
from models.engine.fitting_examples import suited
from models.engine.interventions import check_allowed, silenced
from models.engine.sharp_photo import sharpened
from models.trace import OWN, TABS, Provenance, Trace
from models.trace import params as parameters
from models.trace.interventions import NONE, Interventions
from models.trace.subject import Example, Subject, SubjectError, from_example

__all__ = ["Card", "Close", "Control", "Emit", "Event", "GRADES", "Job", "Method", "Open", "Result", "Turn", "atlas",
           "find", "follow", "prepare", "run", "twin"]

ROOMS = ("papers", "baselines")
GRADES = ("official weights", "paper's rule on public weights", "trained here at teaching scale", "trained in this run",
          "recorded trace", OWN)
CONTROL = "-control"  # behind the id of a method: its control arm


@dataclass(frozen=True)
class Card:
    """What a visitor reads about a method. seed: "A", "B", "both", or None for a baseline that is no paper of the 89.

    summary: one or two plain sentences. look_at: what to watch in the picture. tabs: first one owns the file.
    not_covered: what of the paper is left out here. unverified: what the spec marks as our reading.
    flow: its data flow as arrows, "text > *draft > verify; verify ~> text": * is what the paper adds, ~> leads back.
    """

    id: str
    title: str
    tabs: tuple[str, ...]
    summary: str
    look_at: str
    arxiv: str = ""
    year: int | None = None
    seed: str | None = None
    grade: str = "trained here at teaching scale"
    not_covered: str = ""
    unverified: str = ""
    flow: str = ""
    shown: Mapping[str, str] = field(default_factory=dict)  # tab -> what is seen there, where that is not the method
    states: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # tab -> {state: own words in the legend}


@dataclass(frozen=True)
class Options:
    """One decision of a visitor: the canvas position `at` that is still open, what each candidate puts into the job's
    choice, and how it reads. shuffled: the order would give the answer away."""

    at: int
    picks: tuple[int, ...]
    labels: tuple[str, ...]
    shuffled: bool = True


@dataclass(frozen=True)
class Turn:
    """The visitor does the method's job. `unit`: what is picked ("cells" or "groups"), fact: the score in trace.facts.

    count(job) -> how many tokens one choice holds (Mask), or tokens per group (Unmask), or a 1 per decision where
    options are offered. options(trace) -> the decision that is open there, or None where the run is over. length: the
    parameter that says how many units are written, one per decision; "" where the run ends by itself after its choice.
    """

    prompt: str
    fact: str
    count: Callable[[Job], tuple[int, ...]]
    options: Callable[[Trace], Options | None] | None = None
    length: str = "length"


@dataclass(frozen=True)
class Control:
    """The arm that lacks only what the paper adds: the same method on another checkpoint, with other parameters, or
    both. It stands beside the method under the id "<id>-control"; it is no method of the atlas, so it has no card,
    no record and no claim of its own. title: how it is called, the method's own title and "(control)" by default."""

    checkpoint: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    title: str = ""


@dataclass(frozen=True)
class Method:
    """One paper or baseline.

    params: frozen dataclass of Annotated fields. accepts: kind of subject; `kinds` names the checkpoints (or, for
    public ones and local folders, architectures) that take another kind, so ask `kind(checkpoint)`. checkpoints: the
    first is the default; companions: further checkpoints a run loads by name. run(job) yields events. worldly: examples
    for public checkpoints and folders, shown first there. baseline: id of the method beside it;
    baseline_params(params) -> that method's parameters at the same budget; baseline_budget(job) -> more of them, where
    the budget is what this very run spends. control: the paper's control arm, which is the baseline unless another is
    named. fixed: tab -> why a visitor cannot intervene there, one sentence; other tabs can
    (models/trace/interventions.py). layouts, bound: which folders of a visitor's own it runs on
    (models/engine/layouts.py). Its claim is measured by claim.py in its folder.
    """

    card: Card
    params: type
    accepts: str
    checkpoints: tuple[str, ...]
    run: Callable[[Job], Iterator[Event]]
    examples: tuple[Example, ...]
    worldly: tuple[Example, ...] = ()
    companions: tuple[str, ...] = ()
    baseline: str | None = None
    baseline_params: Callable[[Any], Mapping[str, Any]] = lambda params: {}
    baseline_budget: Callable[[Job], Mapping[str, Any]] = lambda job: {}
    turn: Turn | None = None
    kinds: Mapping[str, str] = field(default_factory=dict)
    control: Control | None = None
    fixed: Mapping[str, str] = field(default_factory=dict)
    layouts: tuple[str, ...] = ()
    bound: str = ""

    def __post_init__(self):
        if self.baseline is None and self.control is not None:
            object.__setattr__(self, "baseline", self.id + CONTROL)

    @property
    def id(self) -> str:
        return self.card.id

    @property
    def choices(self) -> tuple[str, ...]:
        """What a visitor may choose: its checkpoints, then the public ones that are here or can be fetched."""
        return (*self.checkpoints, *hub.offered(self.id.removesuffix(CONTROL)))

    @property
    def arm(self) -> Method | None:
        """The control arm as a method that can be run, or None."""
        if self.control is None:
            return None
        card = replace(self.card, id=self.id + CONTROL, title=self.control.title or f"{self.card.title} (control)")
        names = (self.control.checkpoint or self.checkpoints[0], *self.checkpoints)
        return replace(self, card=card, checkpoints=tuple(dict.fromkeys(names)), control=None, baseline=None, turn=None)

    def kind(self, checkpoint: str | None = None) -> str:
        """The kind of subject that a run on this checkpoint takes (None: the default checkpoint)."""
        name = checkpoint or self.checkpoints[0]
        known = self.kinds.get(name) or self.kinds.get(architecture(name))
        return known or (name not in self.checkpoints and self.kinds.get(layouts.like(self, name))) or self.accepts

    def examples_for(self, kind: str, checkpoint: str | None = None) -> tuple[Example, ...]:
        """Its examples of one kind of subject, in order; on weights that are not its own those that know the world."""
        more = ()
        if checkpoint is not None and checkpoint not in self.checkpoints:
            more = chat.understood(self.worldly, checkpoint)
        return tuple(example for example in (*more, *self.examples) if (example.kind or self.accepts) == kind)


@dataclass(frozen=True)
class Job:
    """Everything a run may look at. choice: tokens picked by the visitor (Your turn), one tuple per step, or None.
    interventions: what the visitor changed in the middle of the run. note: what a reader of the record must know beyond
    its stamp. only: the one tab whose record will be looked at, "" for all; the run ends where that record does."""

    method: Method
    subject: Subject
    params: Any
    bundle: Bundle
    seed: int = 0
    choice: tuple[tuple[int, ...], ...] | None = None
    interventions: Interventions = NONE
    note: str = ""
    only: str = ""
    model = property(lambda self: self.bundle.model)
    tokenizer = property(lambda self: self.bundle.tokenizer)
    device = property(lambda self: self.bundle.device)

    def wants(self, tab: str) -> bool:
        """Whether this tab's record will be looked at: what only another tab shows need not be computed."""
        return self.only in ("", tab)

    def generator(self, stream: int = 0):
        """A torch generator for this seed; `stream` separates independent uses. Draws happen on the CPU."""
        import torch
        return torch.Generator().manual_seed(self.seed * 1_000_003 + stream)

    def companion(self, name: str) -> Bundle:
        """Another checkpoint on the same device and dtype; it must be declared in method.companions."""
        if name not in self.method.companions:
            raise KeyError(f"'{self.method.id}' does not declare the companion '{name}'")
        return load(name, device=self.bundle.device, dtype=self.bundle.dtype)


@dataclass(frozen=True, eq=False)
class Result:
    """How far a run is (0..1), whether it is done, and what is kept for later questions.

    traces: the records at this point, by tab; each is put together when first asked for, so that steps and tabs which
    nobody looks at cost nothing, and a run of n steps is not checked n times over.
    """

    build: Callable[[], Mapping[str, Trace]]
    progress: float = 0.0
    done: bool = False
    kept: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def traces(self) -> Mapping[str, Trace]:
        return self.build()


def prepare(method: Method | str, subject: Subject | None = None, params: Mapping[str, Any] | None = None, *,
            checkpoint: str | None = None, seed: int = 0, device: str | None = None, dtype: str | None = None,
            choice: tuple[tuple[int, ...], ...] | None = None, interventions: Interventions = NONE) -> Job:
    """A checked job: subject of the right kind, parameters inside their ranges, checkpoint loaded.

    Raises ParamError, SubjectError or CheckpointError, each with one sentence.
    """
    method = find(method) if isinstance(method, str) else method
    layouts.fit(method, name := resolve(checkpoint, method.choices))
    kind = method.kind(name)
    subject = subject or from_example(method.examples_for(kind, name)[0], kind)
    if subject.kind != kind:
        raise SubjectError(f"{method.card.title} on {label(name)[:60]} needs a {kind}, not a {subject.kind}.")
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**31:
        raise parameters.ParamError("seed must be a whole number from 0 to 2147483647")
    values = parameters.parse(method.params, params)
    check_allowed(method.card.title, method.card.tabs, method.fixed, interventions)
    return suited(Job(method, subject, values, load(name, device=device, dtype=dtype), seed, choice, interventions))


def follow(job: Job) -> Iterator[Result]:
    """Results while the run goes on, the last one `done`; closing the iterator cancels the run."""
    began, every = time.perf_counter(), {tab: Book() for tab in job.method.card.tabs}
    books = {tab: book for tab, book in every.items() if job.wants(tab)}
    reached, events = 0.0, layouts.blamed(job)
    if job.interventions.heads_off:
        events = silenced(events, job.model, job.interventions.heads_off)
    taken: set[str] = set()
    for event in (told := kernels.watched(events, taken)):
        every[event.tab].take(sharpened(event, job.subject))
        if isinstance(event, Close) and event.tab == job.only:
            told.close()
        if isinstance(event, Emit):
            reached = max(reached, progress(books))  # a record that opens late must not turn progress back
            yield Result(_later(job, pages(books), time.perf_counter() - began, _path(job, taken)), reached)
    stamp = _provenance(job, time.perf_counter() - began, _path(job, taken))
    finished = traces(pages(books), stamp, job.method.id)
    promised = tuple(books) if job.choice is None else job.method.card.tabs[:1]  # where the game is played
    missing = [tab for tab in promised if tab not in finished]
    if missing:
        raise RuntimeError(f"'{job.method.id}' promised a record for {missing} and left none")
    yield Result(lambda: finished, 1.0, True, {tab: book.close.kept for tab, book in books.items() if book.close})


def run(method: Method | str, subject: Subject | None = None, params: Mapping[str, Any] | None = None,
        **options) -> Result:
    """The finished result of one run; arguments as `prepare`."""
    *_, last = follow(prepare(method, subject, params, **options))
    return last


def twin(job: Job, id: str | None = None) -> Job | None:
    """The job of the baseline, or of the control arm where its id is asked for, on the same subject, seed and budget;
    None if the method has no baseline."""
    method, id = job.method, id or job.method.baseline
    if id is None:
        return None
    other = find(id)
    control = method.control if id == method.id + CONTROL else None
    if control is not None:
        asked = {**_values(job.params), **control.params}
    else:
        asked = {**method.baseline_params(job.params), **method.baseline_budget(job)}
    name, why = layouts.beside(other, job, control.checkpoint if control else "")
    made = prepare(other, job.subject, asked, checkpoint=name, seed=job.seed, device=job.bundle.device,
                   dtype=job.bundle.dtype)
    return replace(made, note=" ".join(filter(None, (made.note, why))))


@cache
def atlas() -> dict[str, Method]:
    """id -> Method of every folder in models/papers and models/baselines, in tab order, then by id.

    A folder's method.py holds its METHOD; control.py, where there is one, that of its control arm.
    """
    found = [_checked(importlib.import_module(place).METHOD, place) for place in places()]
    found.sort(key=lambda method: (TABS.index(method.card.tabs[0]), method.id))
    return {method.id: method for method in found}


@cache
def places() -> tuple[str, ...]:
    """Dotted names of the modules that hold a METHOD, found by scanning the folders; nothing is imported for it."""
    root = Path(__file__).resolve().parents[1]
    files = (file for room in ROOMS for name in ("method.py", "control.py") for file in (root / room).glob(f"*/{name}"))
    return tuple(sorted(f"models.{file.parent.parent.name}.{file.parent.name}.{file.stem}" for file in files))


def home(id: str) -> str:
    """The dotted name of the module that holds this method."""
    return next(place for place in places() if importlib.import_module(place).METHOD.id == id)


def offered() -> dict[str, Method]:
    """The methods of the atlas whose default weights are here; the others wait for their training and are not shown."""
    from models.checkpoints.store import here
    return {id: method for id, method in atlas().items() if all(map(here, (method.checkpoints[0], *method.companions)))}


def find(id: str) -> Method:
    """The method with this id, or the control arm of one; ParamError names the nearest ones."""
    methods = atlas()
    base = methods.get(id.removesuffix(CONTROL)) if isinstance(id, str) else None
    if base is not None and id != base.id and base.arm is not None:
        return base.arm
    if not isinstance(id, str) or id not in methods:
        asked, known = str(id)[:40], list(offered())  # too many to name them all
        near = ", ".join(get_close_matches(asked, known, 5, 0.3) or known[:5])
        raise parameters.ParamError(f"there is no method '{asked}'; choose one of the {len(known)}, such as {near}")
    return methods[id]


def _checked(method: Method, place: str) -> Method:
    *_, folder, stem = place.split(".")
    fits = stem == "control" or folder == method.id.replace("-", "_")
    if not fits or method.card.grade not in GRADES:
        raise RuntimeError(f"{place}: id or grade of its card do not fit its place")
    return method


def _later(job: Job, there: Mapping[str, BookState], seconds: float, path: str) -> Callable[[], Mapping[str, Trace]]:
    return lambda: Records(there, _provenance(job, seconds, path), job.method.id)


def _path(job: Job, taken: set[str]) -> str:
    """The model's own attention and the kernels that ran, as they say themselves; "" while none has."""
    return " + ".join(filter(None, (plain_attention(job.model), *sorted(taken)))) if taken else ""


def _values(params: Any) -> dict[str, Any]:
    return {f.name: getattr(params, f.name) for f in fields(params)}


def _provenance(job: Job, seconds: float, path: str) -> Provenance:
    import platform

    import torch
    values = _values(job.params)
    public = hub.grade(job.bundle.name, job.method.id) or packaged.grade(job.bundle.name)
    grade = OWN if job.bundle.own else public or job.method.card.grade
    return Provenance(checkpoint=job.bundle.name, revision=job.bundle.revision, grade=grade,
                      device=job.bundle.device, dtype=job.bundle.dtype, path=path, seed=job.seed, params=values,
                      subject=job.subject.name, seconds=round(seconds, 4), interventions=job.interventions.words(),
                      note=" ".join(filter(None, (job.subject.note, job.note, *kernels.notes()))),
                      versions={"torch": torch.__version__.split("+")[0], "python": platform.python_version()})

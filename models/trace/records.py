"""What one run leaves behind: a canvas of tokens, steps over it, and five frozen records, one per tab.

Numpy only: no torch, no model, no drawing. A trace is checked when it is built and immutable; models/trace/serialize.py
saves and loads it as one JSON file, so a download replays without the model.
Letters: N tokens, L layers, H heads, V vocabulary, P positions, R queries, M keys.

Not covered: how a trace is drawn (visualizers/) and how it is made (the loops in models/loops/).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import numpy as np

SCHEMA = 1

# One state, one name, in every tab; visualizers/drawing/palette.py gives each name its one colour and second cue.
STATES = (
    "unknown", "masked", "masked-hard", "masked-random",           # hidden
    "visible", "known",                                            # there from the start, there by now
    "new",                                                         # revealed or sampled in this step
    "recomputed", "reused", "recycled", "merged", "revived",       # served, refreshed or brought back
    "accepted", "refused", "discarded",                            # judged
    "dropped",                                                     # pruned
    "context",                                                     # prompt or condition: not part of the game
)
OWN = "your own folder"  # the grade of a run on a visitor's own weights
APART = (("added",), ("beside",))
CODE = {name: code for code, name in enumerate(STATES)}
CANVASES = ("grid", "text", "list", "pyramid", "video", "board", "frames", "graph", "points")
LEVELS = ("step", "layer", "scale", "block", "token", "branch", "trial", "snapshot", "sample")


class TraceError(ValueError):
    """A record that contradicts itself; the sentence says which part."""


def states(*names: str) -> np.ndarray:
    """Codes [N] uint8 of state names, one per token."""
    return np.array([CODE[name] for name in names], dtype=np.uint8)


@dataclass(frozen=True)
class Canvas:
    """The tokens and where they sit; index 0..N-1 is a token's identity for the whole trace.

    kind: one of CANVASES; a board is a grid whose picture has its own lines.
    labels: N strings (a text token keeps its exact piece, spaces included; "" for patches).
    shape: (rows, columns) of a grid. picture: uint8 [height, width, 3] the visitor's or true picture, if any.
    roles: N strings when tokens differ in kind ("cls", "prompt", "question", "condition", "patch", ...), else empty;
    "beside" is what stands next to a text and is no part of it; "inserted" is not there, in any tab, until it is put
    in between others, and has its final place from the start.
    positions: float [N, 2] or [N, 3] for canvases without rows and columns. truth: N strings, ground truth if known.
    ids: int32 [N], the token that each label reads (-1: none): the label says how here, the vocabulary how alone.
    photo: uint8 [K], `picture` before it was made small for the model, as a WebP file; only shown.
    links: int32 [E, 2] of a graph with positions: identities that are joined throughout, from and to if `directed`.
    On a graph a token in the state "unknown" is not there yet, nor are its links; a masked one hides what it holds.
    """

    kind: str
    labels: tuple[str, ...]
    shape: tuple[int, int] | None = None
    picture: np.ndarray | None = None
    roles: tuple[str, ...] = ()
    positions: np.ndarray | None = None
    truth: tuple[str, ...] = ()
    ids: np.ndarray | None = None
    photo: np.ndarray | None = None
    links: np.ndarray | None = None
    directed: bool = False

    @property
    def size(self) -> int:
        return len(self.labels)

    @property
    def text(self) -> str:
        """What stands there, without what a tokenizer put around it or a method beside it."""
        return "".join(label for i, label in enumerate(self.labels) if self.roles[i:i + 1] not in APART)

    def __post_init__(self):
        _need(self.kind in CANVASES, f"canvas kind '{self.kind}' is not one of {', '.join(CANVASES)}")
        if self.kind in ("grid", "board"):
            _need(self.shape is not None, f"a {self.kind} canvas needs its shape (rows, columns)")
            fits = self.shape is not None and self.shape[0] * self.shape[1] == self.size
            _need(fits, f"{self.kind} {self.shape} does not hold {self.size} tokens")
        for name in ("roles", "truth"):
            _need(len(getattr(self, name)) in (0, self.size), f"canvas.{name} must have one entry per token")
        _need(self.picture is None or (self.picture.ndim == 3 and self.picture.dtype == np.uint8),
              "canvas.picture must be uint8 [height, width, 3]")
        _need(self.ids is None or len(self.ids) == self.size, "canvas.ids must have one entry per token")
        _need(self.photo is None or (self.photo.ndim == 1 and self.photo.dtype == np.uint8),
              "canvas.photo must be the bytes of a file as uint8")
        _check_links(self)
        _freeze(self)


@dataclass(frozen=True)
class Field:
    """How to read one per-token number: its title, unit and range (None: from the data)."""

    title: str
    unit: str
    low: float | None = None
    high: float | None = None
    diverging: bool = False


@dataclass(frozen=True)
class Distribution:
    """Categorical distributions at P positions: top-k, entropy and log-sum-exp; full logits where they are small.

    positions int [P] (token identities), top_ids int [P, k], top_probs float [P, k] (descending), entropy float [P]
    in nats, lse float [P], chosen int [P] or None (-1: nothing chosen), logits fp16 [P, V] or None.
    """

    positions: np.ndarray
    top_ids: np.ndarray
    top_probs: np.ndarray
    entropy: np.ndarray
    lse: np.ndarray | None = None
    chosen: np.ndarray | None = None
    logits: np.ndarray | None = None

    def __post_init__(self):
        count = len(self.positions)
        for name in ("top_ids", "top_probs", "entropy", "lse", "chosen", "logits"):
            value = getattr(self, name)
            _need(value is None or len(value) == count, f"distribution.{name} must have one row per position")
        _need(self.top_ids.shape == self.top_probs.shape, "distribution top_ids and top_probs differ in shape")
        _need(count == 0 or float(np.min(self.top_probs)) >= 0, "a probability is negative")
        _need(count == 0 or float(np.max(np.sum(self.top_probs, -1, dtype=np.float64))) < 1.01,
              "top probabilities of a position sum to more than 1")
        _freeze(self)


@dataclass(frozen=True)
class Edges:
    """Weighted links from query tokens to key tokens: int [E], int [E], float [E]. All are identities."""

    query: np.ndarray
    key: np.ndarray
    weight: np.ndarray

    def __post_init__(self):
        _need(len(self.query) == len(self.key) == len(self.weight), "edges need as many queries as keys and weights")
        _freeze(self)


@dataclass(frozen=True)
class Cost:
    """What a step cost: model calls, token rows computed (summed over layers), multiply-adds, cache bytes, ms."""

    calls: int = 0
    rows: int = 0
    macs: int = 0
    cache_bytes: int = 0
    ms: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        """Totals over steps; the cache is a level, so its peak is kept."""
        return Cost(self.calls + other.calls, self.rows + other.rows, self.macs + other.macs,
                    max(self.cache_bytes, other.cache_bytes), self.ms + other.ms)


@dataclass(frozen=True)
class Step:
    """One moment of a run: the state of every token and what was measured there.

    state uint8 [N] codes of STATES; ids int [N] the token id held now (-1 none); fields: name -> float [N] (NaN: not
    defined here), each named in the trace's `fields`; distributions, edges: by name; picture uint8 [h, w, 3].
    level names the nesting (LEVELS); parent is the index of the enclosing step, or None.
    """

    label: str
    state: np.ndarray
    level: str = "step"
    parent: int | None = None
    ids: np.ndarray | None = None
    fields: Mapping[str, np.ndarray] = field(default_factory=dict)
    distributions: Mapping[str, Distribution] = field(default_factory=dict)
    edges: Mapping[str, Edges] = field(default_factory=dict)
    picture: np.ndarray | None = None
    cost: Cost = Cost()
    note: str = ""

    def __post_init__(self):
        _need(self.level in LEVELS, f"step level '{self.level}' is not one of {', '.join(LEVELS)}")
        _need(self.state.dtype == np.uint8 and int(self.state.max(initial=0)) < len(STATES),
              "step.state must hold codes of STATES as uint8")
        _freeze(self)

    def where(self, *names: str) -> np.ndarray:
        """Identities of the tokens in any of these states."""
        return np.flatnonzero(np.isin(self.state, [CODE[name] for name in names]))


@dataclass(frozen=True)
class Chart:
    """A small declarative extra: kind line | bar | scatter | matrix.

    line, scatter: series name -> float [K, 2] (x, y); bar: series name -> float [K] over `ticks`;
    matrix: one series name -> float [rows, columns], `ticks` for columns, `rows` for rows.
    by_step: x of a line chart is the step index, so the player marks the current step. reference: y of a dashed line.
    """

    kind: str
    title: str
    x: str
    y: str
    series: Mapping[str, np.ndarray]
    ticks: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()
    by_step: bool = False
    reference: float | None = None
    caption: str = ""

    def __post_init__(self):
        _need(self.kind in ("line", "bar", "scatter", "matrix"), f"chart kind '{self.kind}' is unknown")
        _need(len(self.series) > 0, f"chart '{self.title}' has no series")
        _freeze(self)


@dataclass(frozen=True)
class Fact:
    """One number worth saying: `{title}: {value} {unit}`. better: "higher", "lower" or "" (no preference)."""

    title: str
    value: float
    unit: str = ""
    better: str = ""


YES = "yes or no"  # unit of a fact that is 1 or 0


@dataclass(frozen=True)
class Provenance:
    """Where a trace comes from; everything the honesty strip shows."""

    checkpoint: str = ""
    revision: str = ""
    grade: str = ""
    device: str = ""
    dtype: str = ""
    path: str = ""
    seed: int = 0
    params: Mapping[str, Any] = field(default_factory=dict)
    subject: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    recorded: str = ""
    interventions: Mapping[str, str] = field(default_factory=dict)  # in words, models/trace/interventions.py
    note: str = ""  # what could not run as planned, in plain sentences


@dataclass(frozen=True)
class Trace:
    """The contract between models/ and visualizers/. Use the five records below; each says what its tab requires.

    fields: how to read per-token numbers. vocabulary: id -> text for every id mentioned. facts: name -> Fact.
    sentence: one plain sentence on what to look at.
    """

    tab: ClassVar[str] = ""

    method: str
    canvas: Canvas
    steps: tuple[Step, ...]
    fields: Mapping[str, Field] = field(default_factory=dict)
    vocabulary: Mapping[int, str] = field(default_factory=dict)
    charts: tuple[Chart, ...] = ()
    facts: Mapping[str, Fact] = field(default_factory=dict)
    sentence: str = ""
    provenance: Provenance = Provenance()

    def __post_init__(self):
        _need(len(self.steps) > 0, f"the {self.tab} trace of '{self.method}' has no step")
        for index, step in enumerate(self.steps):
            _check_step(self, index, step)
        self.validate()

    def validate(self) -> None:
        """Extra demands of a tab; raises TraceError."""

    @property
    def cost(self) -> Cost:
        return sum((step.cost for step in self.steps), Cost())


@dataclass(frozen=True)
class MaskTrace(Trace):
    """What is hidden and how hard it is: every step hides at least one token."""

    tab: ClassVar[str] = "mask"

    def validate(self):
        at = ("unknown", "masked", "masked-hard", "masked-random", "recomputed", "new", "accepted", "refused", "merged")
        _need(any(len(step.where(*at)) for step in self.steps), "a mask trace must hide or judge a token")


@dataclass(frozen=True)
class Heads:
    """Per layer, head and query: entropy (nats), peak probability, span (token or cell units), received; [L, H, N].

    layers: the model's numbers of these layers, from 0. names: what to call them where a number is not enough (several
    models side by side), else empty. NaN: this query was not measured.
    """

    entropy: np.ndarray
    peak: np.ndarray
    span: np.ndarray
    received: np.ndarray
    layers: tuple[int, ...] = ()
    names: tuple[str, ...] = ()

    def __post_init__(self):
        shapes = {getattr(self, name).shape for name in ("entropy", "peak", "span", "received")}
        _need(len(shapes) == 1 and len(next(iter(shapes))) == 3,
              f"head statistics must share one [L, H, N], not {shapes}")
        _freeze(self)


@dataclass(frozen=True)
class Rows:
    """Exact attention rows: queries int [R]; weights [L, H, R, M] as uint8 (value/255*scale[L,H,R]) or fp16."""

    queries: np.ndarray
    weights: np.ndarray
    scale: np.ndarray | None = None
    title: str = ""  # what else of pairs of tokens a row tells, never below 0, in a unit of its own
    unit: str = "probability"

    def __post_init__(self):
        _need(self.weights.ndim == 4 and self.weights.shape[2] == len(self.queries),
              "attention rows must be [L, H, R, M] with one R per query")
        _freeze(self)

    @classmethod
    def pack(cls, queries: np.ndarray, weights: np.ndarray, title: str = "", unit: str = "probability") -> Rows:
        """uint8 rows scaled to each row's own maximum; half a step of 1/255 is the rounding error."""
        peak = weights.max(-1).astype(np.float32)  # [L, H, R]
        codes = np.round(weights / np.maximum(peak, 1e-12)[..., None] * 255).astype(np.uint8)
        return cls(np.asarray(queries, np.int32), codes, peak, title, unit)

    def row(self, layer: int, head: int, query: int) -> np.ndarray | None:
        """Probabilities [M] of one stored query, or None if it was not stored."""
        hits = np.flatnonzero(self.queries == query)
        if len(hits) == 0:
            return None
        weights = self.weights[layer, head, hits[0]].astype(np.float32)
        return weights if self.scale is None else weights / 255 * float(self.scale[layer, head, hits[0]])


@dataclass(frozen=True)
class AttendTrace(Trace):
    """Who looks at whom: head statistics for all queries, exact rows for some."""

    tab: ClassVar[str] = "attend"
    heads: Heads | None = None
    rows: Rows | None = None

    def validate(self):
        _need(self.heads is not None or self.rows is not None or any(step.edges for step in self.steps),
              "an attend trace needs head statistics, rows or edges")
        if self.heads is not None:
            _need(self.heads.entropy.shape[2] == self.canvas.size, "head statistics need one column per token")


@dataclass(frozen=True)
class PruneTrace(Trace):
    """Who can leave: a token dropped, merged, recycled or revived per step, and what was saved (cost per step)."""

    tab: ClassVar[str] = "prune"

    def validate(self):
        _need(self.cost.rows > 0 or not self.sentence, "a prune trace must count the rows it computed")


@dataclass(frozen=True)
class UnmaskTrace(Trace):
    """Who is filled in next: known tokens never change back to unknown unless discarded."""

    tab: ClassVar[str] = "unmask"

    def validate(self):
        before = None
        for index, step in enumerate(self.steps):
            unknown = np.isin(step.state, [CODE["unknown"], CODE["masked"]])
            discarded = step.state == CODE["discarded"]
            if before is not None and step.level == "step":
                _need(not np.any(unknown & ~before & ~discarded), f"step {index} forgets a known token")
            before = unknown | discarded


@dataclass(frozen=True)
class SampleTrace(Trace):
    """How sure is it: at least one step carries a next-token distribution."""

    tab: ClassVar[str] = "sample"

    def validate(self):
        _need(any(step.distributions for step in self.steps), "a sample trace needs a distribution")


TRACES: Mapping[str, type[Trace]] = {t.tab: t for t in (MaskTrace, AttendTrace, PruneTrace, UnmaskTrace, SampleTrace)}
TABS = tuple(TRACES)


def _need(condition: bool, sentence: str) -> None:
    if not condition:
        raise TraceError(sentence)


def _freeze(record) -> None:
    """Arrays of a frozen record become read-only too."""
    for item in fields(record):
        value = getattr(record, item.name)
        for array in value.values() if isinstance(value, Mapping) else (value,):
            if isinstance(array, np.ndarray):
                array.setflags(write=False)


def _check_links(canvas: Canvas) -> None:
    at, links = canvas.positions, canvas.links
    if canvas.kind == "graph" and at is not None:
        _need(at.ndim == 2 and len(at) == canvas.size and bool(np.all(np.isfinite(at))),
              "canvas.positions of a graph must be finite numbers [N, 2], one row per token")
    _need(links is not None or not canvas.directed, "canvas.directed says how links are drawn; this canvas has none")
    if links is not None:
        _need(canvas.kind == "graph" and at is not None, "canvas.links need a canvas of kind 'graph' with positions")
        _need(links.dtype == np.int32 and links.ndim == 2 and links.shape[1] == 2, "canvas.links must be int32 [E, 2]")
        _need(not len(links) or 0 <= links.min() and links.max() < canvas.size, "canvas.links name a missing token")
        _need(not np.any(links[:, 0] == links[:, 1]), "canvas.links join a token with itself; leave such links out")


def _check_step(trace: Trace, index: int, step: Step) -> None:
    size = trace.canvas.size
    _need(step.state.shape == (size,), f"step {index} has {step.state.shape} states for {size} tokens")
    _need(step.parent is None or 0 <= step.parent < index, f"step {index} has a parent that does not come before it")
    _need(step.ids is None or step.ids.shape == (size,), f"step {index} needs one id per token")
    for name, values in step.fields.items():
        _need(name in trace.fields, f"step {index} carries the field '{name}' that the trace does not explain")
        _need(values.shape == (size,), f"field '{name}' of step {index} needs one number per token")
    for name, found in step.distributions.items():
        inside = len(found.positions) == 0 or (found.positions.min() >= 0 and found.positions.max() < size)
        _need(inside, f"distribution '{name}' of step {index} names a token outside the canvas")

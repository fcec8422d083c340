"""One drawing, two painters: the declarative records that the browser player and the Matplotlib exporter both paint.

A Drawing is what a viewer (visualizers/<tab>.py) makes of a trace. `cells` turns one of its frames into marks, the
list a painter paints; player.js holds the same function, and a parity test compares the two. Letters: N tokens,
L layers, H heads, R stored queries.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from models.trace import STATES, Fact
from models.trace.spelling import standing
from visualizers.drawing import palette
from visualizers.drawing.layout import Layout


@dataclass(frozen=True)
class Scale:
    """A per-token number: its words and range; `codes` 0..254 run from low to high."""

    title: str
    unit: str
    low: float
    high: float
    diverging: bool = False
    whole: bool = False  # all its numbers are whole
    capped: bool = False  # a few lie far above `high`; they are shown as that

    @property
    def better(self) -> str:
        """Which end is the good one, where there is one: of an error the low one."""
        return "lower" if self.title.lower().startswith("error") else ""

    def code(self, values: np.ndarray) -> np.ndarray:
        """uint8 [N]: 0..254 by linear position, 255 where the number is not defined."""
        span = max(self.high - self.low, 1e-12)
        unit = np.clip((np.asarray(values, np.float64) - self.low) / span, 0, 1)
        shown = np.floor(np.nan_to_num(unit) * 254 + 0.5)
        return np.where(np.isfinite(values), shown, palette.NOTHING).astype(np.uint8)

    def widened(self, other: Scale | None) -> Scale:
        """One range for two pictures that stand side by side."""
        if other is None:
            return self
        return Scale(self.title, self.unit, min(self.low, other.low), max(self.high, other.high), self.diverging,
                     self.whole and other.whole, self.capped or other.capped)


@dataclass(frozen=True)
class Candidates:
    """Top candidates at P positions: ids and probabilities [P, k], entropy [P] in nats, chosen id [P] or None."""

    positions: np.ndarray
    ids: np.ndarray
    probs: np.ndarray
    entropy: np.ndarray
    chosen: np.ndarray | None = None

    def picked(self, token: int) -> int:
        """The id chosen at a token, -1 for none."""
        at = np.flatnonzero(self.positions == token)
        return -1 if self.chosen is None or not len(at) else int(self.chosen[at[0]])


@dataclass(frozen=True)
class Frame:
    """One step: codes of states [N], numbers by field [N], ids [N] or None, and what hangs on the tokens."""

    label: str
    state: np.ndarray
    values: Mapping[str, np.ndarray] = field(default_factory=dict)
    ids: np.ndarray | None = None
    level: str = "step"
    parent: int | None = None
    note: str = ""
    by: str = ""  # the number that this step is about, where it is not the states
    clean: bool = False  # the finished picture or text, without marks
    picture: np.ndarray | None = None
    own: np.ndarray | None = None  # bool [N]: cells in which the step's picture is the visitor's own
    candidates: Mapping[str, Candidates] = field(default_factory=dict)
    edges: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = field(default_factory=dict)
    cost: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Curve:
    """A line over the steps, drawn by the player itself."""

    title: str
    unit: str
    series: Mapping[str, np.ndarray]
    reference: float | None = None
    caption: str = ""


@dataclass(frozen=True)
class Attention:
    """Head statistics by quantity, uint8 [L, H, N] with a Scale each, and exact rows uint8 [L, H, R, M]."""

    layers: tuple[int, ...]
    heads: int
    linked: bool = False  # step i shows layer i - before
    quantities: Mapping[str, tuple[Scale, np.ndarray]] = field(default_factory=dict)
    queries: np.ndarray | None = None
    rows: np.ndarray | None = None
    peaks: np.ndarray | None = None
    title: str = "Attention of the query"  # what a row is
    before: int = 0  # steps before the first layer's, where they are linked
    unit: str = "probability"  # of a row
    names: tuple[str, ...] = ()  # of the layers, where several models stand behind one another

    def layer(self, step: int, chosen: int) -> int:
        """Index of the layer shown at a step."""
        return min(max(step - self.before, 0), len(self.layers) - 1) if self.linked else chosen


@dataclass(frozen=True)
class Drawing:
    """Everything a painter needs; `legend` is (state, words) for the states that occur."""

    tab: str
    method: str
    title: str
    layout: Layout
    frames: tuple[Frame, ...]
    fields: Mapping[str, Scale]
    legend: tuple[tuple[str, str], ...]
    facts: tuple[Fact, ...]
    curves: tuple[Curve, ...]
    vocabulary: Mapping[int, str]
    sentence: str
    alt: str
    view: Mapping[str, object] = field(default_factory=dict)
    attention: Attention | None = None
    asked: str = ""  # the question of a text that asks one; the tokens of its answer have the role "answer"

    def texts(self, step: int) -> tuple[str, ...]:
        """What all tokens read at a step: the label of what stands there now, or where that is another token or a part
        of a character, the vocabulary's word for it."""
        held, layout = self.frames[step].ids, self.layout
        return layout.labels if held is None else standing(layout.labels, layout.ids, held, self.vocabulary)

    def candidates(self, step: int, token: int) -> tuple[int, Mapping[str, Candidates]]:
        """(step, name -> Candidates) in which a token was last weighed: the step shown, or the one it was born in."""
        held = -1 if self.frames[step].ids is None else int(self.frames[step].ids[token])
        hidden = self.hidden(step)[token]
        found = [(at, {name: c for name, c in self.frames[at].candidates.items() if token in c.positions})
                 for at in range(step, step - 1 if hidden else -1, -1)]
        some = [(at, lists) for at, lists in found if lists]
        own = [(at, lists) for at, lists in some if any(c.picked(token) == held for c in lists.values())]
        return (own or some or [(step, {})])[0]

    def hidden(self, step: int) -> np.ndarray:
        """bool [N]: tokens whose content is not to be seen at a step."""
        return HIDES[self.frames[step].state]

    def picture(self, step: int) -> np.ndarray | None:
        shown = self.frames[step].picture
        return self.layout.picture if shown is None else shown


@dataclass(frozen=True)
class Mark:
    """One token as painted: fill (None: nothing over its own picture or text), share of the fill, cue and opacity."""

    token: int
    fill: str | None
    share: float
    cue: str
    edge: str
    fade: float
    text: str


def cells(drawing: Drawing, step: int, by: str = "state", dark: bool = False,
          scale: Scale | None = None) -> list[Mark]:
    """The marks of one frame, token by token; `scale` overrides the range of what colours them.

    by: "state", a field, "auto" (what each step is about), "attention:row" or one of its statistics; "picture": no
    marks at all, as on a clean step.
    """
    by = resolved(drawing, step, by)
    frame, own = drawing.frames[step], number_scale(drawing, by, step)
    has_picture = not drawing.layout.worded and drawing.picture(step) is not None
    codes = None if own is None else number_codes(drawing, step, by, scale)
    query, texts = query_of(drawing, by), drawing.texts(step)
    names = [palette.QUERY if token == query else STATES[code] for token, code in enumerate(frame.state)]
    return [_mark(drawing, texts[token], token, name, has_picture, dark, by == "picture",
                  None if codes is None else (int(codes[token]), own.diverging))
            for token, name in enumerate(names)]


def resolved(drawing: Drawing, step: int, by: str) -> str:
    """What colours a step when every step may be about something else; a clean step shows no marks."""
    frame = drawing.frames[step]
    return "picture" if frame.clean else (frame.by or "state") if by == "auto" else by


def query_of(drawing: Drawing, by: str) -> int:
    """The token that is marked as the one who looks, or -1."""
    return int(drawing.view.get("query", -1)) if drawing.attention is not None and by == "attention:row" else -1


def number_scale(drawing: Drawing, by: str, step: int = 0) -> Scale | None:
    """The scale of what colours the tokens; None when that is their state."""
    if by.startswith("attention:") and drawing.attention is not None:
        return attention_codes(drawing, by[10:], step)[0]
    return drawing.fields.get(by)


def attention_codes(drawing: Drawing, quantity: str, step: int = 0) -> tuple[Scale, np.ndarray]:
    """Scale and codes [N] of a head statistic or of the query's row, at the view's layer and head (-1: mean)."""
    found, view, size = drawing.attention, drawing.view, drawing.layout.size
    layer = found.layer(step, int(view["layer"]))
    heads = range(found.heads) if int(view["head"]) < 0 else [int(view["head"])]
    if quantity in found.quantities:
        scale, codes = found.quantities[quantity]
        picked = codes[layer, list(heads)].astype(np.float64)  # [H, N]
        mean = (scale.low + picked / 254 * (scale.high - scale.low)).sum(0) / len(heads)
        return scale, scale.code(np.where((picked == palette.NOTHING).any(0), np.nan, mean))
    row = attention_row(drawing, step)
    if row is None:
        return Scale(found.title, found.unit, 0.0, 1.0), np.full(size, palette.NOTHING, np.uint8)
    scale = Scale(found.title, found.unit, 0.0, float(row.max()) or 1.0)
    return scale, scale.code(row)


def attention_row(drawing: Drawing, step: int = 0) -> np.ndarray | None:
    """Weights [N] of the view's query at its layer and head (-1: mean), or None where its row was not stored."""
    found, view, size = drawing.attention, drawing.view, drawing.layout.size
    stored = [] if found.queries is None else np.flatnonzero(found.queries == int(view["query"]))
    if len(stored) == 0:
        return None
    layer = found.layer(step, int(view["layer"]))
    heads = range(found.heads) if int(view["head"]) < 0 else [int(view["head"])]
    at, row, keys = stored[0], np.zeros(size), min(size, found.rows.shape[-1])
    for h in heads:
        row[:keys] += found.rows[layer, h, at, :keys] / 255 * float(found.peaks[layer, h, at]) / len(heads)
    return row


def number_codes(drawing: Drawing, step: int, by: str, scale: Scale | None = None) -> np.ndarray:
    """uint8 [N] positions on the scale; a field that a frame does not carry is undefined everywhere."""
    if by.startswith("attention:"):
        return attention_codes(drawing, by[10:], step)[1]
    values = drawing.frames[step].values.get(by)
    if values is None:
        return np.full(drawing.layout.size, palette.NOTHING, np.uint8)
    own = drawing.fields[by]
    if scale is None or (scale.low, scale.high) == (own.low, own.high):
        return own.code(values)
    stored = own.low + own.code(values).astype(np.float64) / 254 * (own.high - own.low)  # what the browser holds
    return scale.code(np.where(own.code(values) == palette.NOTHING, np.nan, stored))


def _mark(drawing: Drawing, text: str, token: int, state: str, has_picture: bool, dark: bool, bare: bool,
          number) -> Mark:
    look, own = palette.LOOKS[state], palette.colour(state, dark)
    worded = drawing.layout.worded
    text = "" if look.hides and worded else text
    fill, share = None, 0.0
    if number is not None and number[0] != palette.NOTHING:
        fill, share = _number_fill(*number, soft=worded or has_picture)
        if look.hides and worded:  # an empty place stays to be seen, however small its number
            fill, share = palette.mix(fill, palette.COVER["dark" if dark else "light"], share), 1.0
    elif look.hides:
        fill, share = palette.COVER["dark" if dark else "light"], 1.0
    elif number is None and not (worded or has_picture or bare):
        fill, share = own, look.fade
    return Mark(token, fill, share, "" if bare else look.cue, own, 1.0 if bare else look.fade, text)


def _number_fill(code: int, diverging: bool, soft: bool) -> tuple[str, float]:
    return palette.hexed(_RAMPS[diverging][code]), palette.soft_share(code, diverging) if soft else 1.0


ROW = Attention.title
HIDES = np.array([palette.LOOKS[name].hides for name in STATES])
_RAMPS = {flag: palette.ramp(flag) for flag in (False, True)}

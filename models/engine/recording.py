"""Recording: tensors in, trace records out. What a run says of its steps, its guesses and its numbers is made here.

    page = Filling("unmask", canvas, FIELDS, names)
    yield page.open(total=6)
    page.guess(places, logits, chosen=ids)        # candidates, and the declared fields among `numbers`
    page.fill(places, ids)                        # what stands there from now on
    yield page.step("step 1 of 6", cost=cost)     # an Emit; afterwards what was new is known
    yield Close("unmask", charts=(line("Tokens", "tokens", {"tokens": counts}),))

A record keeps probabilities, entropies and fields as halves, which is more than any picture shows.
Letters: N canvas tokens, P positions, V vocabulary, K points.
"""
from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

import kernels
from models.engine.events import Emit, Open
from models.trace import CODE, Canvas, Chart, Cost, Distribution, Edges, Field, Step

TOP = 6  # candidates kept per position
PAPER = 217  # grey of a sheet where no picture lies
NOTHING = Cost()
At = int | slice | range | Sequence[int] | np.ndarray | Tensor  # positions on a canvas, or a bool mask over all


# --- distributions --------------------------------------------------------------------------------------------------

def distribution(found: Tensor | kernels.VocabStats, at: At, chosen=None, *, top: int = TOP,
                 keep: bool = False) -> Distribution:
    """What a model said at P positions, from logits [P, V] or [V], or from statistics that were made already.

    at: the positions; chosen: the ids that stand there now, -1 for none; one that is not among the most probable takes
    the last place of the list, so that what was drawn is always seen among its rivals. keep: the logits too, for
    views that re-render. Probabilities go in as logarithms: `probs.clamp_min(1e-30).log()`.
    """
    if isinstance(found, kernels.VocabStats):
        logits, stats = None, found
    else:
        logits = _rows(found)
        stats = _statistics(logits, chosen, top)
    where = places(at)
    ids, probs = _with_chosen(stats, chosen, len(where))
    return Distribution(
        positions=where, top_ids=ids, top_probs=probs,
        entropy=array(stats.entropy, np.float16).reshape(-1), lse=array(stats.lse, np.float32).reshape(-1),
        chosen=None if chosen is None else array(chosen, np.int32).reshape(-1),
        logits=array(logits, np.float16) if keep else None)


def _with_chosen(stats: kernels.VocabStats, chosen, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The most probable ids and their probabilities [P, k], the chosen one always among them."""
    ids = array(stats.top_ids, np.int32).reshape(count, -1).copy()
    probs = array(stats.top_logp.float().exp(), np.float16).reshape(count, -1).copy()
    if chosen is not None and stats.chosen_logp is not None:
        drawn = array(chosen, np.int32).reshape(-1)
        missing = (drawn >= 0) & ~(ids == drawn[:, None]).any(1)
        ids[missing, -1] = drawn[missing]
        probs[missing, -1] = array(stats.chosen_logp.float().exp(), np.float16).reshape(-1)[missing]
    return ids, probs


def numbers(found: Tensor | kernels.VocabStats, chosen=None) -> dict[str, np.ndarray]:
    """Numbers [P] of the same guesses, by the names that records give them: entropy, peak (the largest probability),
    and of the chosen ids confidence, which Sample calls probability; NaN where nothing was chosen."""
    stats = found if isinstance(found, kernels.VocabStats) else _statistics(_rows(found), chosen, 1)
    made = {"entropy": array(stats.entropy).reshape(-1), "peak": array(stats.top_logp[..., 0].exp()).reshape(-1)}
    if chosen is not None and stats.chosen_logp is not None:
        sure = np.where(array(chosen, np.int64).reshape(-1) < 0, np.nan, array(stats.chosen_logp.exp()).reshape(-1))
        made |= {"confidence": sure, "probability": sure}
    return made


def places(at: At) -> np.ndarray:
    """Positions as int32 [P]; a bool mask over all of them marks its own."""
    if isinstance(at, slice):
        at = range(at.start or 0, at.stop, at.step or 1)
    found = array(list(at) if isinstance(at, range) else at, None).reshape(-1)
    return (np.flatnonzero(found) if found.dtype == bool else found).astype(np.int32)


def array(values, kind=np.float32) -> np.ndarray:
    """A tensor, or anything numpy takes, as an array of one kind (None: its own)."""
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        values = values.float() if values.is_floating_point() else values
        values = values.numpy()
    return np.asarray(values) if kind is None else np.asarray(values).astype(kind)


def spread(count: int, at: At, values, kind=np.float32) -> np.ndarray:
    """A field [N] that holds `values` at some positions and is undefined (NaN) elsewhere."""
    found = np.full(count, np.nan, kind)
    found[places(at)] = array(values, kind)
    return found


def _statistics(logits: Tensor, chosen, top: int) -> kernels.VocabStats:
    ids = None if chosen is None else torch.from_numpy(array(chosen, np.int64).reshape(-1).clip(0)).to(logits.device)
    return kernels.vocab_stats(logits, top_k=min(top, logits.shape[-1]), chosen=ids)


def _rows(logits: Tensor) -> Tensor:
    return logits[None] if logits.ndim == 1 else logits.flatten(0, -2)


# --- a record that fills up -----------------------------------------------------------------------------------------

class Filling:
    """A record whose tokens are filled in step by step: what stands where, in which state, with which numbers.

    state uint8 [N], ids int32 [N] (-1: nothing stands there) and values (name -> float32 [N]) hold what is so far; a
    method may write into them. names(id) says how an id reads; every id is named when it first appears. then: what
    "new" tokens become after the step that showed them. fleeting: fields that hold in one step only.
    """

    def __init__(self, tab: str, canvas: Canvas, fields: Mapping[str, Field], names: Callable[[int], str], *,
                 then: str = "known", fleeting: Collection[str] = ()):
        self.tab, self.canvas, self.fields, self.names = tab, canvas, fields, names
        self.then, self.fleeting, self.total = then, frozenset(fleeting), 0
        self.state = np.full(canvas.size, CODE["unknown"], np.uint8)
        self.ids = np.full(canvas.size, -1, np.int32)
        self.values = {name: np.full(canvas.size, np.nan, np.float32) for name in fields}
        self.guesses: dict[str, Distribution] = {}
        self.named: set[int] = set()

    def open(self, total: int | None = None) -> Open:
        """The canvas as it is now; to be sent again when labels were written. total: how many steps will come."""
        self.total = self.total if total is None else total
        return Open(self.tab, self.canvas, self.fields, self.total)

    def fill(self, at: At, ids=None, state: str | Sequence[str] | np.ndarray = "new", labels: Sequence[str] = (),
             **values) -> None:
        """Puts ids at some positions, in one state or one each; `values` as in `note`, `labels` as a text reads."""
        at = places(at)
        self.state[at] = CODE[state] if isinstance(state, str) else [CODE[str(name)] for name in state]
        if ids is not None:
            self.ids[at] = array(ids, np.int32)
        if len(labels):
            written = dict(zip(at.tolist(), labels))
            own = np.full(self.canvas.size, -1, np.int32) if self.canvas.ids is None else self.canvas.ids.copy()
            own[at] = self.ids[at]
            self.canvas = replace(self.canvas, ids=own, labels=tuple(written.get(i, old) for i, old in
                                                                     enumerate(self.canvas.labels)))
        self.note(at, **values)

    def note(self, at: At, **values) -> None:
        """Numbers at some positions, by the names of the declared fields."""
        for name, found in values.items():
            self.values[name][places(at)] = array(found)

    def guess(self, at: At, logits: Tensor, chosen=None, name: str = "model", *, top: int = TOP, keep: bool = False,
              measure: bool = True) -> Distribution:
        """Candidates that the coming step shows at some positions. measure: notes those of `numbers` that are declared;
        leave it out for a second model's guesses at the same positions."""
        logits = _rows(logits)
        stats = _statistics(logits, chosen, top)
        found = distribution(stats, at, chosen)
        self.guesses[name] = replace(found, logits=array(logits, np.float16)) if keep else found
        if measure:
            self.note(at, **{key: row for key, row in numbers(stats, chosen).items() if key in self.values})
        return self.guesses[name]

    def settle(self) -> None:
        """What was new no longer is."""
        self.state[self.state == CODE["new"]] = CODE[self.then]

    def copy(self) -> Filling:
        """A page on which something is tried out; what it names counts as named."""
        twin = copy.copy(self)
        twin.state, twin.ids, twin.guesses = self.state.copy(), self.ids.copy(), dict(self.guesses)
        twin.values = {name: values.copy() for name, values in self.values.items()}
        return twin

    def step(self, label: str, *, level: str = "step", parent: int | None = None, state: np.ndarray | None = None,
             ids: np.ndarray | None = None, fields: Mapping[str, np.ndarray] | None = None,
             distributions: Mapping[str, Distribution] | None = None, edges: Mapping[str, Edges] | None = None,
             picture: np.ndarray | None = None, cost: Cost = NOTHING, note: str = "") -> Emit:
        """The page as one step. state, ids: shown instead of the page's own, which stay; fields and distributions come
        on top of what was noted and guessed. Fields that hold nowhere are left out."""
        shown = {**self.values, **(fields or {})}
        shown = {name: array(found, np.float16) for name, found in shown.items() if not np.all(np.isnan(found))}
        step = Step(label, (self.state if state is None else array(state, np.uint8)).copy(), level, parent,
                    (self.ids if ids is None else array(ids, np.int32)).copy(), shown,
                    {**self.guesses, **(distributions or {})}, edges or {}, picture, cost, note)
        self.settle()
        self.guesses = {}
        for name in self.fleeting:
            self.values[name][:] = np.nan
        return Emit(self.tab, step, self.fresh(step))

    def fresh(self, step: Step) -> dict[int, str]:
        """Names of the ids that appear in a step for the first time."""
        here = [] if step.ids is None else [step.ids]
        held = [*here, *(d.top_ids.ravel() for d in step.distributions.values()),
                *(d.chosen for d in step.distributions.values() if d.chosen is not None)]
        found = sorted({int(id) for ids in held for id in ids if id >= 0} - self.named)
        self.named.update(found)
        return {id: self.names(id) for id in found}


# --- charts ---------------------------------------------------------------------------------------------------------

def over_steps(values, first: int = 0, at=None) -> np.ndarray:
    """A line [K, 2] of one value per step from step `first` on, or at the given x; NaN leaves a point out."""
    values = array(values).reshape(-1)
    x = np.arange(first, first + len(values)) if at is None else array(at).reshape(-1)
    return np.stack([x, values], 1).astype(np.float32)[~np.isnan(values)]


def line(title: str, unit: str, series: Mapping[str, Sequence[float]], *, x: str = "step", first: int = 0, at=None,
         by_step: bool = True, reference: float | None = None, caption: str = "") -> Chart:
    """Lines of one value per step, or over any x (`at`, by_step=False). A series may also be points [K, 2]."""
    lines = {name: array(found) if np.ndim(found) == 2 else over_steps(found, first, at)
             for name, found in series.items()}
    return Chart("line", title, x, unit, lines, by_step=by_step, reference=reference, caption=caption)


def bars(title: str, x: str, unit: str, series: Mapping[str, Sequence[float]], ticks: Sequence[str], *,
         reference: float | None = None, caption: str = "") -> Chart:
    """Bars over `ticks`, one colour per series."""
    return Chart("bar", title, x, unit, {name: array(found) for name, found in series.items()},
                 tuple(map(str, ticks)), reference=reference, caption=caption)


def table(title: str, x: str, y: str, values, columns: Sequence[str], rows: Sequence[str], *, unit: str = "share",
          caption: str = "") -> Chart:
    """A matrix of numbers [rows, columns]."""
    return Chart("matrix", title, x, y, {unit: array(values)}, tuple(map(str, columns)), tuple(map(str, rows)),
                 caption=caption)


def numbered(noun: str, count: int, first: int = 1) -> tuple[str, ...]:
    """("layer 1", "layer 2", ...)."""
    return tuple(f"{noun} {first + i}" for i in range(count))


# --- pictures -------------------------------------------------------------------------------------------------------

def pixels(image: Tensor) -> np.ndarray:
    """uint8 [h, w, 3] of a picture [3, h, w] or [1, 3, h, w] in 0..1."""
    image = image.detach().float().clamp(0, 1).reshape(image.shape[-3:])
    return (image.permute(1, 2, 0) * 255).round().byte().cpu().numpy()


def fitted(image: np.ndarray, height: int, width: int | None = None) -> np.ndarray:
    """uint8 [height, width, 3] by area means; square unless a width is given."""
    planes = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float()
    return F.interpolate(planes, (height, width or height), mode="area")[0].permute(1, 2, 0).round().byte().numpy()


def placed(pictures: Sequence[np.ndarray], boxes: Sequence[tuple[int, int, int, int]], shape: tuple[int, int],
           ground: int = PAPER) -> np.ndarray:
    """uint8 [*shape, 3] with every picture fitted into its box (top, left, height, width)."""
    sheet = np.full((*shape, 3), ground, np.uint8)
    for image, (top, left, height, width) in zip(pictures, boxes):
        sheet[top : top + height, left : left + width] = fitted(image, height, width)
    return sheet


def sheet(pictures: Sequence[np.ndarray], columns: int, gap: int = 2, labels: Sequence[str] = (),
          ground: int = PAPER) -> np.ndarray:
    """Pictures of one size side by side, row by row, as one picture; each label stands above its picture."""
    height, width = pictures[0].shape[:2]
    head = 11 if len(labels) else 0  # the line of a label, in pixels
    rows = -(-len(pictures) // columns)
    boxes = [(i // columns * (height + head + gap) + head, i % columns * (width + gap), height, width)
             for i in range(len(pictures))]
    shape = rows * (height + head + gap) - gap, min(columns, len(pictures)) * (width + gap) - gap
    made = placed(pictures, boxes, shape, ground)
    return _lettered(made, labels, boxes, head) if head else made


def board_places(grid: tuple[int, int], boards: int, columns: int) -> np.ndarray:
    """Column and row [boards * N, 2] of the cells of several boards, where a `sheet` whose gap is a cell shows them."""
    row, column = np.divmod(np.arange(grid[0] * grid[1]), grid[1])
    return np.concatenate([np.stack([column + i % columns * (grid[1] + 1), row + i // columns * (grid[0] + 1)], 1)
                           for i in range(boards)]).astype(np.float32)


def _lettered(made: np.ndarray, labels: Sequence[str], boxes, head: int) -> np.ndarray:
    from PIL import Image, ImageDraw

    image = Image.fromarray(made)
    pen = ImageDraw.Draw(image)
    for label, (top, left, _, _) in zip(labels, boxes):
        pen.text((left, top - head), label, fill=(20, 20, 20))
    return np.asarray(image).copy()

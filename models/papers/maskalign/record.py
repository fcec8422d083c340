"""What the student is asked about the patches that it sees. Mask: the teacher's saliency, the draw, the error of every
answer. Attend: who looks at whom in both, how W mixes the blocks, how near the student's tokens are to the teacher's.
"""
from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from models.backbones.instrument import observe
from models.engine.method import Close, Emit, Event, Job, Open
from models.engine.recording import array, bars, line, numbered, spread, table
from models.loops.attend import loop as attention
from models.loops.mask import loop
from models.loops.mask.photos import Photo, masked_count, photo
from models.papers.maskalign import network as net
from models.trace import Chart, Cost, Fact, Field, Rows, Step
from models.trace.percent import percent

ERROR = "2 smooth-L1"  # of whitened features: every token has mean 0 and variance 1
MASK = {"importance": Field("Teacher's attention from its class token, last layer", "%", 0.0),
        "draw": Field("Place in the draw: 1 is drawn first", "", 1.0),
        "error": Field("Error of the student's answer at this level", ERROR, 0.0)}
ATTEND = {"cls": Field("Class token's attention", "%", 0.0),
          "raw": Field("Student's token and teacher's, as this layer leaves them", "cosine", -1.0, 1.0, diverging=True),
          "matched": Field("The same after W and the level's head", "cosine", -1.0, 1.0, diverging=True)}


@dataclass(frozen=True, eq=False)
class Lesson:
    """One photo in front of both. order [L]: patches as they were drawn, of which the student sees `kept`. states
    [R, N, D] of its blocks; s, y [A, N, D], None and the teacher's features where it has no heads. rows [2 R, L, L]:
    attention of every layer, mean over heads, the teacher's and the student's in turn; cls [2 R, L] of the class
    tokens. ms: of the teacher's pass, and of the student's."""

    view: Photo
    sight: net.WholeSight
    order: np.ndarray
    kept: np.ndarray
    states: Tensor
    s: Tensor | None
    y: Tensor
    rows: np.ndarray
    cls: np.ndarray
    ms: tuple[float, float]

    @property
    def places(self) -> np.ndarray:
        """Places [N] of what the student sees among [CLS] and all patches."""
        return np.concatenate([[0], self.kept + 1])

    @property
    def errors(self) -> np.ndarray:
        """[A, N]"""
        return array(net.token_errors(self.s, self.y))

    @property
    def importance(self) -> np.ndarray:
        return array(self.sight.importance[0])


@torch.inference_mode()
def lesson(job: Job) -> Lesson:
    """The teacher looks at the whole photo, patches are drawn, the student answers for those that it sees."""
    model, teacher = job.model, job.companion("photo-vit-1").model
    view, began = photo(job.subject.image, model), time.perf_counter()
    with observe(teacher.vit, want={"qk"}) as whole:
        sight = net.whole(teacher, view.pixels)
    looked = time.perf_counter()
    chances = sight.importance if job.params.mode == "attention" else torch.ones_like(sight.importance)
    order = net.drawn(chances, torch.rand(chances.shape, generator=job.generator()).to(chances.device))
    count = view.count - masked_count(view.count, job.params.mask_ratio)
    with observe(model.vit, want={"qk"}) as part:
        states = net.blocks(model, view.pixels, order[:, :count])
    s = model.heads(states)[:, 0] if model.heads is not None else None
    y = net.at(sight.targets(), net.seen(order, count))[:, 0]
    order, ends = array(order[0], np.int64), time.perf_counter()
    rows, cls = attended(whole, part, view.count, order[:count])
    ms = 1000 * (looked - began), 1000 * (ends - looked)
    return Lesson(view, sight, order, order[:count], states[:, 0], s, y, rows, cls, ms)


def attended(whole, part, count: int, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows [2 R, L, L] and class tokens' rows [2 R, L]; 0 for what the student does not see."""
    rows, cls = [], []
    for pair in zip(whole, part, strict=True):
        for call, places in zip(pair, (np.arange(count), kept)):
            own = array(call.rows_for(range(len(places) + 1))[0].float().mean(0))  # [N, N]
            full, first = np.zeros((count, count), np.float32), np.zeros(count, np.float32)
            full[np.ix_(places, places)], first[places] = own[1:, 1:], own[0, 1:]
            rows.append(full)
            cls.append(first)
    return np.stack(rows), np.stack(cls)


# ---- Mask

def asked(job: Job, found: Lesson) -> Iterator[Event]:
    """Mask: the saliency, the draw, and per level how wrong the student is about what it sees."""
    names, state = levels(found), chosen(found)
    canvas = attention.grid_layout(found.view.grid, found.view.shown).canvas
    work = net.training_work(job.model.config, job.companion("photo-vit-1").model.config, len(found.kept))
    base = {"importance": 100 * found.importance}
    base_order = base | {"draw": 1.0 + found.order.argsort()}
    yield Open("mask", canvas, MASK, 2 + (0 if found.s is None else len(names)))
    yield Emit("mask", Step("what the teacher looks at", attention.marked(canvas.size, int(found.kept[0]), "visible"),
                            fields=base, picture=found.view.shown, cost=Cost(1, 0, work.teacher, 0, found.ms[0]),
                            note="It sees the whole photo, now and in training."))
    yield Emit("mask", Step("which patches the student sees", state, fields=base_order, picture=found.view.shown,
                            note="Drawn one by one: the more salient, the likelier, but nothing is sure."))
    for place, name in enumerate(names if found.s is not None else ()):
        error = spread(canvas.size, found.kept, found.errors[place, 1:])
        cost = Cost(1, 0, (work.student + work.rest) // 3, 0, found.ms[1]) if not place else Cost()
        yield Emit("mask", Step(f"how wrong its answer is: {name}", state, fields=base_order | {"error": error},
                                picture=found.view.shown, cost=cost, note=f"class token: {found.errors[place, 0]:.2f}"))
    yield Close("mask", said(job, found), mask_charts(job, found, names), mask_facts(job, found))


def levels(found: Lesson) -> tuple[str, ...]:
    """Names of the levels that carry the loss."""
    return numbered("level", len(found.y), len(found.sight.states) - len(found.y) + 1)


def chosen(found: Lesson) -> np.ndarray:
    """State codes [L]: what the student sees, and what it does not."""
    names = np.full(found.view.count, "masked", object)
    names[found.kept] = "visible"
    return loop.states(*names)


def blank(found: Lesson) -> np.ndarray:
    """Errors [A, N] of answering zero everywhere, the mean of every whitened token."""
    return array(net.token_errors(torch.zeros_like(found.y), found.y))


def works(job: Job, found: Lesson) -> dict[str, net.TrainingWork]:
    """By way of training, at this mask ratio; a masked autoencoder sees a quarter."""
    c, t, seen = job.model.config, job.companion("photo-vit-1").model.config, len(found.kept)
    mae = 3 * loop.work(job.model, found.view.count - masked_count(found.view.count, 0.75), found.view.count)[1]
    return {"MaskAlign": net.training_work(c, t, seen), "feature reconstruction": net.training_work(c, t, seen, True),
            "masked autoencoder": net.TrainingWork(0, mae, 0)}


def mask_charts(job: Job, found: Lesson, names: tuple[str, ...]) -> tuple[Chart, ...]:
    parts = np.array([list(work) for work in works(job, found).values()]) / 1e6  # [3 ways, 3 parts]
    price = bars("Multiply-adds of one photo in training", "way of training", "million",
                 {"teacher": parts[:, 0], "trained encoder": parts[:, 1], "heads, or decoder": parts[:, 2]},
                 tuple(works(job, found)), caption="Lower is cheaper; going back counts as two passes. A masked "
                 "autoencoder, which has no teacher, is shown whole as its encoder.")
    if found.s is None:
        return (price,)
    error = {"student": found.errors.mean(1), "answering zero": blank(found).mean(1)}
    return bars("Error of the student's answers, class token and seen patches", "level", f"error ({ERROR})", error,
                names, caption="Lower is better. A level is a layer of the teacher."), price


def mask_facts(job: Job, found: Lesson) -> dict[str, Fact]:
    mine, other, _ = (sum(one) for one in works(job, found).values())
    facts = {"salient": Fact("Teacher's attention on patches that the student sees", 100 * shown_share(found), "%"),
             "seen": Fact("Patches that the student sees", 100 * len(found.kept) / found.view.count, "%"),
             "macs": Fact("Multiply-adds of one photo in training, MaskAlign", mine / 1e6, "million", "lower"),
             "rebuilt": Fact("The same, features of hidden patches rebuilt", other / 1e6, "million", "lower")}
    if found.s is not None:
        facts["error"] = Fact("Error of its answers, mean of all levels", float(found.errors.mean()), ERROR, "lower")
        facts["zero"] = Fact("Answering zero errs", float(blank(found).mean()), ERROR)
    return facts


def shown_share(found: Lesson) -> float:
    """Of the teacher's attention on patches, what falls on those that the student sees."""
    return float(found.importance[found.kept].sum() / found.importance.sum())


def said(job: Job, found: Lesson) -> str:
    how = (f"The student sees {len(found.kept)} of {found.view.count} patches, on which {percent(shown_share(found))} "
           "of the teacher's attention falls.")
    if found.s is None:
        return f"{how} This network learned to say the teacher's features of the others; what said them is not shipped."
    return (f"{how} What the teacher makes of these in the whole photo it says with an error of "
            f"{found.errors.mean():.2f}; answering zero errs by {blank(found).mean():.2f}. Nothing is rebuilt.")


# ---- Attend

def compared(job: Job, found: Lesson) -> Iterator[Event]:
    """Attend: every layer of the teacher, which sees all, and of the student, which does not."""
    layout, state = attention.grid_layout(found.view.grid, found.view.shown), chosen(found)
    raw, matched = cosines(found)
    rows = Rows.pack(np.arange(layout.canvas.size), found.rows[:, None], "Attention, mean over heads")
    yield Open("attend", layout.canvas, ATTEND, len(found.rows), rows=rows)
    first, late = int(found.kept[0]), len(raw) - (0 if matched is None else len(matched))
    for layer in range(len(raw)):
        at = numbered("layer", len(raw))[layer]
        yield Emit("attend", Step(f"teacher, {at}", attention.marked(layout.canvas.size, first), "layer",
                                  fields={"cls": 100 * found.cls[2 * layer]}))
        fields = {"cls": np.where(state == state[first], 100 * found.cls[2 * layer + 1], np.nan),
                  "raw": spread(layout.canvas.size, found.kept, raw[layer, 1:])}
        if layer >= late:
            fields["matched"] = spread(layout.canvas.size, found.kept, matched[layer - late, 1:])
        yield Emit("attend", Step(f"student, {at}", attention.marked(layout.canvas.size, first, state=state), "layer",
                                  fields=fields))
    yield Close("attend", told(raw, matched), attend_charts(job, raw, matched), attend_facts(found, raw, matched),
                rows=rows)


def cosines(found: Lesson) -> tuple[np.ndarray, np.ndarray | None]:
    """Of the student's tokens with the teacher's: [R, N] as the layers leave them, [A, N] after W and the heads."""
    whitened = net.WholeSight(found.states, found.sight.importance).targets(len(found.states))
    there = found.sight.targets(len(found.states))[:, 0, found.places]
    return array(F.cosine_similarity(whitened, there, dim=-1)), (
        None if found.s is None else array(F.cosine_similarity(found.s.float(), found.y, dim=-1)))


def alike(found: Lesson) -> float:
    """How far the student's last layer agrees with the teacher's on which seen patches are alike: the correlation of
    their cosines over all pairs. It needs no head."""
    last = found.states[-1, 1:].float(), found.sight.states[-1, 0, found.places[1:]].float()
    cosine = [F.normalize(one - one.mean(0), dim=-1) for one in last]
    pairs = np.triu_indices(len(found.kept), 1)
    return float(np.corrcoef(*(array(one @ one.T)[pairs] for one in cosine))[0, 1])


def attend_charts(job: Job, raw: np.ndarray, matched: np.ndarray | None) -> tuple[Chart, ...]:
    means = {"as the layers leave them": np.stack([np.arange(1, len(raw) + 1), raw.mean(1)], 1)}
    if matched is not None:
        late = len(raw) - len(matched) + 1
        means["after W and the head"] = np.stack([np.arange(late, len(raw) + 1), matched.mean(1)], 1)
    chart = line("How near the student's tokens are to the teacher's", "cosine", means, x="layer", by_step=False,
                 caption="Mean of class token and seen patches. 1: the same direction.")
    if matched is None:
        return (chart,)
    names, mix = numbered("block", len(raw)), array(job.model.heads.mix)
    return chart, table("W, minus the identity", "block of the student", "level of the teacher",
                        (mix - np.eye(len(mix)))[-len(matched):], names, numbered("level", len(matched), late),
                        unit="difference", caption="It began as 0.01 everywhere. A level's row says how much of every "
                        "block its head reads, beside the block of its own number.")


def attend_facts(found: Lesson, raw: np.ndarray, matched: np.ndarray | None) -> dict[str, Fact]:
    facts = {"raw": Fact("Cosine of the last layers' tokens as they are", float(raw[-1].mean()), "cosine", "higher"),
             "alike": Fact("Agreement on which seen patches are alike, last layers", alike(found), "correlation",
                           "higher")}
    if matched is not None:
        facts["matched"] = Fact("After W and the head, last level", float(matched[-1].mean()), "cosine", "higher")
    return facts


def told(raw: np.ndarray, matched: np.ndarray | None) -> str:
    plain = f"As they are, the last layers' tokens of student and teacher have a cosine of {raw[-1].mean():.2f}"
    if matched is None:
        return f"{plain}; this network has no heads that could turn one into the other."
    return f"{plain}; after W and the head, {matched[-1].mean():.2f}, though the teacher saw more."

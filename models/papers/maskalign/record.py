"""What the student is asked about the patches that it sees. Mask: the teacher's saliency, the draw, the error of every
answer. Attend: who looks at whom in both, how W mixes the blocks, how near the student's tokens are to the teacher's.
"""
from __future__ import annotations

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
from models.loops.mask.loop import Hidden
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
    """One photo in front of both. order [L]: patches as they were drawn; the student sees `kept` of them [K]. y [A, N,
    D]: the teacher's features there. errors, blank [A, N]: of the student's answers and of zeros; matched [A, N]: the
    cosine of answer and y; None without heads. raw [R, N]: the cosine of both networks' tokens as layers leave them.
    rows [R, 2, L, L]: attention, mean over heads, the teacher's and the student's; cls [R, 2, L]: the class tokens'.
    mine, other: work of a photo in training where seen features are matched, and where hidden ones are rebuilt."""

    view: Photo
    importance: np.ndarray
    order: np.ndarray
    kept: np.ndarray
    raw: np.ndarray
    blank: np.ndarray
    errors: np.ndarray | None
    matched: np.ndarray | None
    rows: np.ndarray
    cls: np.ndarray
    mine: net.TrainingWork
    other: net.TrainingWork

    @property
    def state(self) -> np.ndarray:
        return Hidden(np.setdiff1d(self.order, self.kept), ("masked",) * (self.view.count - len(self.kept))).states(
            self.view.count)

    @property
    def levels(self) -> tuple[str, ...]:
        """Names of the teacher's layers whose features are asked for."""
        return numbered("level", len(self.blank), len(self.raw) - len(self.blank) + 1)

    @property
    def salient(self) -> float:
        """Of the teacher's attention on patches, the share on those that the student sees."""
        return float(self.importance[self.kept].sum() / self.importance.sum())


@torch.inference_mode()
def lesson(job: Job) -> Lesson:
    """The teacher looks at the whole photo, patches are drawn, the student answers for those that it sees."""
    model, teacher = job.model, job.companion("photo-vit-1").model
    view = photo(job.subject.image, model)
    count = view.count - masked_count(view.count, job.params.mask_ratio)
    with observe(teacher.vit, want={"qk"}) as whole:
        sight = net.whole(teacher, view.pixels)
    chances = sight.importance if job.params.mode == "attention" else torch.ones_like(sight.importance)
    order = net.drawn(chances, torch.rand(chances.shape, generator=job.generator()).to(chances.device))
    with observe(model.vit, want={"qk"}) as part:
        states = net.blocks(model, view.pixels, order[:, :count])
    every = net.at(sight.targets(len(states)), net.seen(order, count))[:, 0]  # [R, N, D]
    y, s = every[-net.LEVELS :], None if model.heads is None else model.heads(states)[:, 0]
    drawn = array(order[0], np.int64)
    rows, cls = attended(whole, part, view.count, drawn[:count])
    return Lesson(view, array(sight.importance[0]), drawn, drawn[:count], cosine(states[:, 0], every),
                  array(net.token_errors(torch.zeros_like(y), y)), None if s is None else array(net.token_errors(s, y)),
                  None if s is None else cosine(s, y), rows, cls,
                  *(net.training_work(model.config, teacher.config, count, rebuilt) for rebuilt in (False, True)))


def cosine(states: Tensor, there: Tensor) -> np.ndarray:
    """Of tokens [R, N, D], both without their mean."""
    states = states.float()
    return array(F.cosine_similarity(states - states.mean(-1, keepdim=True), there, dim=-1))


def attended(whole, part, count: int, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows [R, 2, L, L] and class tokens' [R, 2, L]; 0 for what the student does not see."""
    full = np.zeros((len(list(whole)), 2, count + 1, count + 1), np.float32)
    for layer, pair in enumerate(zip(whole, part, strict=True)):
        for side, (call, places) in enumerate(zip(pair, (np.arange(count + 1), np.concatenate([[0], kept + 1])))):
            full[layer, side][np.ix_(places, places)] = array(call.rows_for(range(len(places)))[0].float().mean(0))
    return full[:, :, 1:, 1:], full[:, :, 0, 1:]


def asked(found: Lesson) -> Iterator[Event]:
    """Mask: the saliency, the draw, and level by level how wrong the student is about what it sees."""
    view, state, layout = found.view, found.state, attention.grid_layout(found.view.grid, found.view.shown)
    fields, answered = {"importance": 100 * found.importance}, () if found.errors is None else found.levels
    yield Open("mask", layout.canvas, MASK, 2 + len(answered))
    yield Emit("mask", Step("what the teacher looks at", np.full_like(state, state[found.kept[0]]), fields=fields,
                            picture=view.shown, cost=Cost(1, 0, found.mine.teacher),
                            note="It sees the whole photo, now and in training."))
    fields = fields | {"draw": 1.0 + found.order.argsort()}
    yield Emit("mask", Step("which patches the student sees", state, fields=fields, picture=view.shown,
                            note="Drawn one by one: the more chance a patch has, the likelier, but nothing is sure."))
    for place, name in enumerate(answered):
        error = spread(view.count, found.kept, found.errors[place, 1:])
        cost = Cost() if place else Cost(1, 0, (found.mine.student + found.mine.rest) // 3)
        yield Emit("mask", Step(f"how wrong its answer is: {name}", state, fields=fields | {"error": error}, cost=cost,
                                picture=view.shown, note=f"Class token: {found.errors[place, 0]:.2f}."))
    facts = {"salient": Fact("Teacher's attention on patches that the student sees", 100 * found.salient, "%"),
             "seen": Fact("Patches that the student sees", 100 * len(found.kept) / view.count, "%"),
             "macs": Fact("Multiply-adds of a training photo, seen features matched", sum(found.mine) / 1e6, "million"),
             "rebuilt": Fact("The same, hidden features rebuilt", sum(found.other) / 1e6, "million")}
    if found.errors is not None:
        facts["error"] = Fact("Error of its answers, mean of all levels", float(found.errors.mean()), ERROR, "lower")
        facts["zero"] = Fact("Answering zero errs", float(found.blank.mean()), ERROR)
    yield Close("mask", said(found), asked_charts(found), facts)


def asked_charts(found: Lesson) -> tuple[Chart, ...]:
    parts = dict(zip(("teacher", "student", "heads, or decoder"), np.array([found.mine, found.other]).T / 1e6))
    price = bars("Multiply-adds of one photo in training", "what is learned", "million", parts,
                 ("seen features matched", "hidden features rebuilt"),
                 caption="Lower is cheaper. For what learns, the way back counts as two passes.")
    if found.errors is None:
        return (price,)
    return bars("Error of the student's answers, class token and seen patches", "level", f"error ({ERROR})",
                {"student": found.errors.mean(1), "answering zero": found.blank.mean(1)}, found.levels,
                caption="Lower is better. A level is a layer of the teacher."), price


def said(found: Lesson) -> str:
    how = (f"The student sees {len(found.kept)} of {found.view.count} patches, on which {percent(found.salient)} of "
           "the teacher's attention falls.")
    if found.errors is None:
        return f"{how} This one learned to say the teacher's features of the others; what said them is not shipped."
    return (f"{how} What the teacher, which sees all, makes of them it says with an error of "
            f"{found.errors.mean():.2f}; answering zero errs by {found.blank.mean():.2f}. Nothing is rebuilt.")


def compared(job: Job, found: Lesson) -> Iterator[Event]:
    """Attend: every layer of the teacher, which sees all, and of the student, which does not."""
    layout, count = attention.grid_layout(found.view.grid, found.view.shown), found.view.count
    rows = Rows.pack(np.arange(count), found.rows.reshape(-1, 1, count, count), "Attention, mean over heads")
    late, first = len(found.raw) - len(found.blank), int(found.kept[0])
    yield Open("attend", layout.canvas, ATTEND, 2 * len(found.raw), rows=rows)
    for layer, name in enumerate(numbered("layer", len(found.raw))):
        yield Emit("attend", Step(f"teacher, {name}", attention.marked(count, first), "layer",
                                  fields={"cls": 100 * found.cls[layer, 0]}))
        fields = {"cls": spread(count, found.kept, 100 * found.cls[layer, 1, found.kept]),
                  "raw": spread(count, found.kept, found.raw[layer, 1:])}
        if found.matched is not None and layer >= late:
            fields["matched"] = spread(count, found.kept, found.matched[layer - late, 1:])
        yield Emit("attend", Step(f"student, {name}", attention.marked(count, first, state=found.state), "layer",
                                  fields=fields))
    facts = {"raw": Fact("Cosine of the last layers' tokens as they are", float(found.raw[-1].mean()), "cosine")}
    sentence = f"As they are, student's and teacher's last tokens have a cosine of {found.raw[-1].mean():.2f}"
    if found.matched is not None:
        facts["matched"] = Fact("After W and the head, last level", float(found.matched[-1].mean()), "cosine", "higher")
        sentence += f"; after W and the head, of {found.matched[-1].mean():.2f}, though the teacher saw more"
    yield Close("attend", f"{sentence}.", compared_charts(job, found), facts, rows=rows)


def compared_charts(job: Job, found: Lesson) -> tuple[Chart, ...]:
    late, depth = len(found.raw) - len(found.blank), len(found.raw)
    lines = {"as the layers leave them": np.stack([np.arange(depth) + 1, found.raw.mean(1)], 1)}
    if found.matched is not None:
        lines["after W and the head"] = np.stack([np.arange(late, depth) + 1, found.matched.mean(1)], 1)
    near = line("How near the student's tokens are to the teacher's", "cosine", lines, x="layer", by_step=False,
                caption="Mean of class token and seen patches. 1: the same direction.")
    if found.matched is None:
        return (near,)
    change = array(job.model.heads.w)[late:] - np.eye(depth)[late:]
    return near, table("W, minus the identity", "block of the student", "level of the teacher", change,
                       numbered("block", depth), found.levels, unit="difference",
                       caption="It began as 0.01 everywhere: how much of every block a level's head reads beside its "
                               "own.")

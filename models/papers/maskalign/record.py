"""What the student is asked about the patches that it sees. Mask: the teacher's saliency, the draw, the error of every
answer. Attend: who looks at whom in both, how W mixes the blocks, how near the student's tokens are to the teacher's.
"""
from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from models.backbones.instrument import observe
from models.engine.method import Close, Emit, Event, Job, Open
from models.engine.recording import array, bars, line, numbered, spread, table
from models.loops.attend import loop as attention
from models.loops.mask.loop import Hidden
from models.loops.mask.photos import Photo, covered, masked_count, photo
from models.papers.maskalign import alignment as net
from models.trace import Cost, Fact, Field, Rows, Step
from models.trace.percent import percent

ERROR = "doubled smooth-L1"  # of whitened features: every token has mean 0 and variance 1
MASK = {"importance": Field("Teacher's attention from its class token, last layer", "%", 0.0),
        "draw": Field("Place in the draw: 1 is drawn first", "", 1.0),
        "error": Field("Error of the student's answer at this level", ERROR, 0.0)}
ATTEND = {"cls": Field("Class token's attention", "%", 0.0),
          "raw": Field("Student's token and teacher's, as this layer leaves them", "cosine", -1.0, 1.0, diverging=True),
          "matched": Field("The same after W and the level's head", "cosine", -1.0, 1.0, diverging=True)}


class Lesson(NamedTuple):
    """One photo in front of both, which have R layers. order [L]: patches as they were drawn; kept [K]: those that the
    student sees; hidden: the others. raw [R, N]: cosine of both networks' tokens. errors, matched [A, N]: of the
    student's answers, and their cosine with the teacher's features; None without heads. zero: error of answering zero.
    maps [R, 2, 1 + L, 1 + L]: attention of the teacher and of the student, mean over heads. ms: of both passes."""

    view: Photo
    importance: np.ndarray
    order: np.ndarray
    kept: np.ndarray
    hidden: Hidden
    raw: np.ndarray
    errors: np.ndarray | None
    matched: np.ndarray | None
    zero: float
    maps: np.ndarray
    ms: float

    @property
    def state(self) -> np.ndarray:
        return self.hidden.states(self.view.count)

    def on_kept(self, values) -> np.ndarray:
        """A field [L] of what the student sees, from numbers [N]: the class token's, then those of `kept`."""
        return spread(self.view.count, self.kept, values[1:])


@torch.inference_mode()
def lesson(job: Job) -> Lesson:
    """The teacher looks at the whole photo, patches are drawn, the student answers for those that it sees."""
    model, teacher = job.model, job.companion("photo-vit-1").model
    view, began = photo(job.subject.image, model), time.perf_counter()
    count = view.count - masked_count(view.count, job.params.mask_ratio)
    with observe(teacher.vit, want={"qk"}) as whole:
        sight = net.whole(teacher, view.pixels)
    chances = sight.importance if job.params.mode == "attention" else torch.ones_like(sight.importance)
    order = net.drawn(chances, torch.rand(chances.shape, generator=job.generator()).to(chances.device))
    with observe(model.vit, want={"qk"}) as part:
        states = net.blocks(model, view.pixels, order[:, :count])
    ms = 1000 * (time.perf_counter() - began)
    every = net.at(sight.targets(len(states)), net.seen(order, count))[:, 0]  # [R, N, D]
    y, answers = every[-net.LEVELS :], (None, None)
    if model.heads is not None:
        s = model.heads(states)[:, 0]
        answers = array(net.token_errors(s, y)), cosine(s, y)
    drawn = array(order[0], np.int64)
    return Lesson(view, array(sight.importance[0]), drawn, drawn[:count],
                  Hidden(drawn[count:], ("masked",) * (view.count - count)), cosine(states[:, 0], every), *answers,
                  float(net.token_errors(torch.zeros_like(y), y).mean()),
                  maps(whole, part, view.count, drawn[:count]), ms)


def cosine(tokens: Tensor, there: Tensor) -> np.ndarray:
    """Of tokens [R, N, D], both without their mean."""
    tokens = tokens.float()
    return array(torch.cosine_similarity(tokens - tokens.mean(-1, keepdim=True), there, dim=-1))


def maps(whole, part, count: int, kept: np.ndarray) -> np.ndarray:
    """0 for what the student does not see."""
    made, places = [], (np.arange(count + 1), np.concatenate([[0], kept + 1]))
    for pair in zip(whole, part, strict=True):
        for call, at in zip(pair, places):
            made.append(np.zeros((count + 1, count + 1), np.float32))
            made[-1][np.ix_(at, at)] = array(call.rows_for(range(len(at)))[0].float().mean(0))
    return np.stack(made).reshape(-1, 2, count + 1, count + 1)


def asked(job: Job, found: Lesson) -> Iterator[Event]:
    """Mask: the saliency, the draw, and level by level how wrong the student is about what it sees."""
    view, errors, fields = found.view, () if found.errors is None else found.errors, {}
    works = [net.training_work(job.model.config, len(found.kept), rebuilt) for rebuilt in (False, True)]
    yield Open("mask", attention.grid_layout(view.grid, view.shown).canvas, MASK, 2 + len(errors))
    fields["importance"] = 100 * found.importance
    yield Emit("mask", Step("what the teacher looks at", attention.marked(view.count, 0, "visible"), picture=view.shown,
                            fields=dict(fields), cost=Cost(1, 0, works[0][0], 0, found.ms),
                            note="It sees the whole photo, now and in training."))
    fields["draw"] = 1.0 + found.order.argsort()
    yield Emit("mask", Step("which patches the student sees", found.state, fields=dict(fields), picture=view.shown,
                            note="Drawn one by one: the more chance a patch has, the likelier, but nothing is sure."))
    for level, error in enumerate(errors):
        yield Emit("mask", Step(f"how wrong its answer is: {levels(found)[level]}", found.state, picture=view.shown,
                                fields=fields | {"error": found.on_kept(error)}, note=f"Class token: {error[0]:.2f}.",
                                cost=Cost() if level else Cost(1, 0, works[0][1] // 3)))
    yield taught(found, np.array(works) / 1e6)


def levels(found: Lesson) -> tuple[str, ...]:
    """Names of the teacher's layers whose features are asked for."""
    return numbered("level", len(found.errors), len(found.raw) - len(found.errors) + 1)


def taught(found: Lesson, works: np.ndarray) -> Close:
    """What the student said and what learning it costs; works [2, 2]: million multiply-adds, see training_work."""
    salient = float(found.importance[found.kept].sum() / found.importance.sum())
    price = bars("Multiply-adds of one photo in training", "what is learned", "million",
                 dict(zip(("teacher", "what learns"), works.T)), ("seen features matched", "hidden features rebuilt"),
                 caption="Lower is cheaper. For what learns, the way back counts as two passes.")
    facts = {"salient": Fact("Teacher's attention on patches that the student sees", 100 * salient, "%"),
             "seen": Fact("Patches that the student sees", 100 * len(found.kept) / found.view.count, "%"),
             "macs": Fact("Multiply-adds of a training photo, seen features matched", works[0].sum(), "million"),
             "rebuilt": Fact("The same, hidden features rebuilt", works[1].sum(), "million")}
    how = (f"The student sees {len(found.kept)} of {found.view.count} patches, on which {percent(salient)} of the "
           "teacher's attention falls.")
    if found.errors is None:
        how += " This one learned to say the teacher's features of the others; what said them is not shipped."
        return Close("mask", how, (price,), facts)
    mean = float(found.errors.mean())
    facts |= {"error": Fact("Error of its answers", mean, ERROR, "lower"),
              "zero": Fact("Answering zero errs", found.zero, ERROR)}
    chart = bars("Error of the student's answers, class token and seen patches", "level", ERROR,
                 {"student": found.errors.mean(1)}, levels(found), reference=found.zero,
                 caption="Lower is better. A level is a layer of the teacher; dashed: answering zero.")
    return Close("mask", f"{how} What the teacher, which sees all, makes of them it says with an error of {mean:.2f}; "
                         f"answering zero errs by {found.zero:.2f}. Nothing is rebuilt.", (chart, price), facts)


def compared(job: Job, found: Lesson) -> Iterator[Event]:
    """Attend: every layer of the teacher, which sees all, and of the student, which does not."""
    view, first, depth = found.view, int(found.kept[0]), len(found.raw)
    drawn = found.maps[:, :, 1:, 1:].reshape(2 * depth, 1, view.count, view.count)
    rows = Rows.pack(np.arange(view.count), drawn, "Attention, mean over heads")
    yield Open("attend", attention.grid_layout(view.grid, view.shown).canvas, ATTEND, 2 * depth, rows=rows)
    seen = covered(view, [at for at in range(view.count) if at not in found.kept])
    for layer, name in enumerate(numbered("layer", depth)):
        whole, part = 100 * found.maps[layer, :, 0]
        yield Emit("attend", Step(f"teacher, {name}", attention.marked(view.count, first), "layer",
                                  fields={"cls": whole[1:]}, picture=view.shown))
        fields = {"cls": found.on_kept(part[[0, *found.kept + 1]]), "raw": found.on_kept(found.raw[layer])}
        if found.matched is not None and (level := layer - depth + len(found.matched)) >= 0:
            fields["matched"] = found.on_kept(found.matched[level])
        yield Emit("attend", Step(f"student, {name}", attention.marked(view.count, first, state=found.state), "layer",
                                  fields=fields, picture=seen))
    yield from likened(job, found, rows)


def likened(job: Job, found: Lesson, rows: Rows) -> Iterator[Event]:
    """How near the tokens are, and W."""
    depth, end = len(found.raw), float(found.raw[-1].mean())
    near, charts = {"as the layers leave them": np.stack([np.arange(depth) + 1, found.raw.mean(1)], 1)}, []
    facts = {"raw": Fact("Cosine of the last layers' tokens as they are", end, "cosine")}
    sentence = f"As they are, student's and teacher's last tokens have a cosine of {end:.2f}"
    if found.matched is not None:
        late, best = depth - len(found.matched), float(found.matched[-1].mean())
        near["after W and the head"] = np.stack([np.arange(late, depth) + 1, found.matched.mean(1)], 1)
        facts["matched"] = Fact("After W and the head, last level", best, "cosine", "higher")
        sentence += f"; after W and the head, of {best:.2f}, though the teacher saw more"
        charts = [table("W, minus the identity", "block of the student", "level of the teacher",
                        (array(job.model.heads.w) - np.eye(depth))[late:], numbered("block", depth), levels(found),
                        unit="difference", caption="It began as 0.01 everywhere: how much of every block a level's "
                                                   "head reads, beside all of its own.")]
    yield Close("attend", f"{sentence}.", (
        line("How near the student's tokens are to the teacher's", "cosine", near, x="layer", by_step=False,
             caption="Mean of class token and seen patches. 1: the same direction."), *charts), facts, rows=rows)

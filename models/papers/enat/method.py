"""ENAT: encode what is new, reuse what was known, and let a shallow decoder of MASK tokens read from both.

arXiv 2411.06959; network.py says how one pass goes. The steps stay as many, each does less. Filling in (order, noise,
schedule, guidance) is the baseline's, so that only the network differs. Each guidance branch keeps its own state.
"""
from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated

import numpy as np
from torch import Tensor, nn

from models.baselines.maskgit import method as maskgit
from models.engine.method import Card, Close, Emit, Event, Method, Open
from models.engine.recording import line
from models.loops.attend.boards import BoardLens
from models.loops.unmask.evaluation import Evaluation, Moment, branches, full_cost, guided
from models.loops.unmask.loop import FIELDS, Record, Shot, moves, shots
from models.trace import Chart, Cost, Fact, Step
from models.trace.params import Choice, Flag, Span

if TYPE_CHECKING:
    from models.papers.enat.network import State

PLAIN = "scene-mgm-1"  # the plain model: same blocks, same codes, every token in every pass


@dataclass(frozen=True)
class Params:
    steps: Annotated[int, Span(2, 32, 1, "Steps", "Passes; ENAT makes each cheaper, not fewer.")] = 28
    reuse: Annotated[bool, Flag("Reuse", "Off: every known cell is encoded again in every step.")] = True
    guidance: maskgit.Pull = 0.5
    order: Annotated[str, Choice(maskgit.ORDERS, "Order", "Which guesses are kept first.", fold=True)] = "confidence"
    noise: maskgit.Noise = 2.0
    temperature: maskgit.Temperature = 0.8
    until: maskgit.Until = 0.5


@dataclass
class Reusing:
    """Encodes what is new and reuses the rest; with `reuse` off it encodes every known token in every pass.

    state: what the last pass left, batch 2B with guidance: each branch has its own half. Moves after the share `until`
    are not guided; the conditional half goes on. branches, spent: of the last pass, how many there were, and the
    multiply-adds of (encoder, decoder). In the evaluation, `rows` are the tokens that the encoder computed.
    """

    model: nn.Module
    cond: Tensor | None
    guidance: float = 0.0
    reuse: bool = True
    until: float = 1.0
    state: State | None = None
    branches: int = field(default=1, init=False)
    spent: tuple[int, int] = field(default=(0, 0), init=False)

    def __call__(self, moment: Moment) -> Evaluation:
        guidance, samples = self.guidance if moment.made < self.until else 0.0, len(moment.ids)
        ids, cond = branches(self.model, moment.ids, self.cond, guidance)
        began, self.branches = time.perf_counter(), len(ids) // samples
        before = self.state.first(len(ids)) if self.reuse and self.state else None
        look = self.model(ids, cond, before)
        logits = guided(self.model.head(look.hidden).float(), samples, guidance)
        self.state, ms = look.state, (time.perf_counter() - began) * 1e3
        new = ~moment.masked if before is None else ~moment.masked & ~before.visible[:samples]
        return Evaluation(look.positions[:samples], logits, new, self._cost(moment.masked[0], new[0], len(ids), ms))

    def _cost(self, masked: Tensor, new: Tensor, batch: int, ms: float) -> Cost:
        """Of one pass over `batch` samples; the features that wait for the next one are its cache."""
        waiting, known = int(masked.sum()), int((~masked).sum())
        fresh = int(new.sum())
        encoder, decoder = self.model.work(fresh, known - fresh, waiting)
        self.spent = batch * encoder, batch * decoder
        rows = fresh * len(self.model.encoder) + waiting * len(self.model.decoder)
        features = self.state.features
        return Cost(1, batch * rows, sum(self.spent), batch * known * features.shape[2] * features.element_size(), ms)


class EnatWork:
    """Multiply-adds of encoder and decoder, step by step, beside those of the plain model's pass on the same board."""

    def __init__(self, plain, reusing: Reusing):
        self.plain, self.reusing = plain, reusing
        self.spent: list[tuple[int, int, int]] = []  # per step: encoder, decoder, plain model
        self.encoded: list[int] = []

    def seen(self, shot: Shot) -> Step:
        """The loop's step, saying what was encoded."""
        moment = shot.turn.moment
        (_, count), masked, new = moment.masked.shape, int(moment.masked.sum()), int(shot.turn.found.rows.sum())
        same = full_cost(self.plain, self.reusing.branches, count + self.plain.cond_length, masked)
        self.spent.append((*self.reusing.spent, same.macs))
        self.encoded.append(new)
        start, kept = shot.step.label.split(":")[0], count - masked - new
        return replace(shot.step, label=f"{start}: {new} encoded, {kept} reused, {moment.move.count} filled in")

    def facts(self) -> dict[str, Fact]:
        encoder, decoder, plain = np.sum(self.spent, 0)
        return {"work": Fact("Work", 100 * float(encoder + decoder) / float(plain), "% of the plain model's", "lower"),
                "share": Fact("Encoder's share", 100 * float(encoder) / float(encoder + decoder), "% of the work"),
                "encoded": Fact("Cells encoded", float(sum(self.encoded)), "in all steps", "lower")}

    def chart(self) -> Chart:
        names = ("encoder, with reuse", "decoder, with head", "plain model")
        return line("Work of each half", "G multiply-adds", dict(zip(names, np.array(self.spent).T / 1e9)),
                    caption="The plain model computes every cell in every step.")


def run(job) -> Iterator[Event]:
    """The Attend record is the paper's analysis of the plain model, here on ENAT's boards; nothing of it is its work.
    """
    board, plain, p, record = maskgit.caption_board(job), job.companion(PLAIN).model, job.params, Record()
    reusing = Reusing(job.model, board.cond, p.guidance, p.reuse, p.until)
    plan = maskgit.planned(p, moves(board.unknown, p.steps, maskgit.SCHEDULE), reusing)
    work, boards = EnatWork(plain, reusing), BoardLens(plain, board, plan.moves) if job.wants("attend") else None
    yield Open("unmask", board.canvas, FIELDS, len(plan.moves))
    for shot in shots(job, board, plan, record):
        yield Emit("unmask", work.seen(shot), shot.names)
        yield from boards.told(shot) if boards else ()
    facts = {**maskgit.scene_facts(board, record, job.subject.text), **work.facts()}
    yield Close("unmask", sentence(facts, p), (work.chart(), *record.charts()), facts, path=record.path)
    if boards:
        yield boards.close("This is the plain model; ENAT computes the new cells only and hides masked cells from "
                           "known ones.")


def sentence(facts: dict[str, Fact], p: Params) -> str:
    share, encoded, score = (facts[name].value for name in ("work", "encoded", "score"))
    kept = ("Each cell was encoded once, when it was new" if p.reuse else
            f"Without reuse every known cell is encoded again, {encoded:.0f} times in all")
    return (f"{kept}: {share:.0f} % of the multiply-adds that the plain model needs for the same {p.steps} steps, "
            f"score {score:.2f}.")


METHOD = Method(
    card=Card(
        id="enat", title="ENAT: encode only what is new", tabs=("unmask", "attend"),
        shown={"attend": "The plain model that ENAT starts from"}, arxiv="2411.06959", year=2024,
        seed="A",
        summary="Known cells are encoded once, when they are new; a shallow decoder of masked cells reads their "
                "features in every later step.",
        flow="cells of this step > *encoder on new cells only > features kept; features kept > decoder "
             "with masked cells > most confident cells revealed; most confident cells revealed ~> cells of "
             "this step",
        look_at="Recomputed cells are encoded in this step, those from the cache only read; the decoder's work falls "
                "as masked cells go.",
        not_covered="AdaLN and classes (captions stand beside the features), annealed temperature, ImageNet. 4 encoder "
                    "to 2 decoder layers, the paper has 22 to 2, so here the encoder is about a tenth of the work; "
                    "constant guidance, the paper's grows; no label smoothing; half the mask ratios are a cosine's, "
                    "not the paper's Beta(12, 3).",
        unverified="Several earlier passes are simulated in training, the paper simulates one."),
    params=Params, accepts="caption", checkpoints=("scene-enat-1",), companions=("scene-vq-1", PLAIN), run=run,
    examples=maskgit.EXAMPLES, baseline="maskgit", baseline_params=maskgit.shared,
    fixed={"attend": "The picture shows the plain model's attention, on boards that are given."})

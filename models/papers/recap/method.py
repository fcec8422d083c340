"""ReCAP: after a full pass keep every layer's keys and values, then reveal part of the group by short, local passes.

arXiv 2505.19089. One group of the schedule: (1) a full pass fills the cache and gives logits; (2) the group's targets
are picked and split, in the order of that pass, into A_0 .. A_u; (3) A_0 is revealed from the full logits; (4) local
pass j recomputes the rows of the whole group, revealed or not, and of the condition, writes their keys and values over
the cache, attends to all rows, and reveals A_j; (5) the next group starts with a full pass. Local passes stand late:
features of known tokens change little once the context is large. The authors' code has u = 1 throughout.

Reveal counts are those of the base model with as many moves, so ReCAP and its baseline differ only in which rows are
recomputed. Each guidance branch owns its half of the cache. Not covered: MAR's encoder-decoder, MAGE.
"""
from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Annotated

import torch
from torch import Tensor, nn

import kernels
from models.backbones.rows import RowStore, layer_rows
from models.baselines.maskgit import method as maskgit
from models.engine.method import Card, Close, Emit, Event, Method, Open
from models.loops.unmask import loop
from models.loops.unmask.evaluation import full_work
from models.loops.unmask.loop import Evaluation, Moment, Move, Plan, Record
from models.papers.recap.record import DRIFT, LOOKED, RecapSeen
from models.trace import Cost, Fact
from models.trace.params import Choice, Flag, Span


@dataclass(frozen=True)
class Params:
    full: Annotated[int, Span(4, 32, 1, "Full passes", "T': passes that recompute every cell.")] = 16
    local: Annotated[int, Span(0, 3, 1, "Local passes after each", "u: passes that recompute only cells in play.")] = 1
    start: Annotated[float, Span(0, 1, 0.05, "Start of local passes", "0: from the first group on; 1: never.",
                                 unit="of the full passes")] = 0.5
    order: Annotated[str, Choice(("confidence", "random"), "Order")] = "confidence"
    guidance: maskgit.Pull = 0.5
    noise: maskgit.Noise = 2.0
    temperature: maskgit.Temperature = 0.8
    until: maskgit.Until = 0.5
    drift: Annotated[bool, Flag("Measure drift", "One more pass per local pass; not work.", fold=True)] = True


def grouped(unknown: int, full: int, local: int, start: float) -> tuple[Move, ...]:
    """The base model's long schedule in `full` groups: from group round(start * full) on, `local` local passes follow
    the full one and reveal the targets that it picks out. local = 0: the base model."""
    sizes = [1 + local * (group >= round(start * full)) for group in range(full)]
    counts, planned = iter(kernels.schedule(unknown, sum(sizes), maskgit.SCHEDULE)), []
    for size in sizes:
        if group := list(islice(counts, size)):  # a long schedule may run out of tokens: one per move
            planned += [Move(group[0], "full", tuple(group[1:])), *(Move(count, "local") for count in group[1:])]
    return tuple(planned)


@dataclass
class Reused:
    """Evaluates all rows, or only those of the group and the condition against cached keys and values.

    store: keys and values of C + N rows per layer, batch 2 with guidance: one half per branch. Guidance ends with the
    first full pass after the share `until` of the moves; the conditional half of the cache goes on. drift [L, N] is
    measured against the cache before it is overwritten (analysis only); queries [L] [B, H, R, W] of the last local
    pass.
    """

    model: nn.Module
    cond: Tensor | None
    guidance: float = 0.0
    measure_drift: bool = False
    until: float = 1.0
    pull: float = 0.0  # guidance now
    store: RowStore | None = None
    group: Tensor | None = None  # bool [B, N], targets of the last full pass, set by the first local one
    rows: Tensor | None = None  # [R], rows of the last pass in the sequence of C + N
    drift: Tensor | None = None  # [L, N]
    queries: tuple[Tensor, ...] = ()

    def __call__(self, moment: Moment) -> Evaluation:
        if len(moment.ids) > 1:
            raise ValueError("cached rows differ from sample to sample; please fill in one picture at a time")
        if moment.move.label == "full":
            self.pull = self.guidance if moment.made < self.until else 0.0
        ids, cond = loop.branches(self.model, moment.ids, self.cond, self.pull)
        embedded, angles = self.model.embed(ids, cond)  # [B, C + N, D]
        inside = self._inside(moment)
        self.rows = self._rows(inside)
        if self.store is None:
            self.store = RowStore.empty(self.model.layers, embedded.shape[1], len(ids))
        self.store.narrow(len(ids))
        self.drift = self._drift(embedded, angles) if self.measure_drift and not inside.all() else None
        began = time.perf_counter()
        hidden = self._pass(embedded, angles, self.rows, self.store)
        positions = loop.indices(moment.masked & inside)
        logits = loop.read(self.model, embedded.index_copy(1, self.rows, hidden), positions, self.pull)
        cost = self._cost(len(ids), positions.shape[1], (time.perf_counter() - began) * 1e3)
        return Evaluation(positions, logits, inside, cost)

    def _rows(self, inside: Tensor) -> Tensor:
        """Rows [R] of the sequence to compute: the condition, whose features follow the picture's, and these tokens.
        """
        prefix = self.model.cond_length
        return torch.cat([torch.arange(prefix), inside[0].nonzero()[:, 0].cpu() + prefix])

    def _inside(self, moment: Moment) -> Tensor:
        """Canvas tokens bool [B, N] to compute: all, or the whole group of the last full pass."""
        if moment.move.label == "full":
            self.group = None
            return torch.ones_like(moment.masked)
        if self.group is None:
            self.group = moment.fresh | (moment.aside > 0)
        return self.group

    def _pass(self, embedded: Tensor, angles, rows: Tensor, store: RowStore) -> Tensor:
        """Last-layer states [B, R, D] of the rows; their keys and values go over the cache's, then attend to all."""
        everyone = torch.arange(embedded.shape[1])
        hidden, cos_sin = embedded[:, rows], tuple(table[:, rows] for table in angles)
        kept = []
        for index, layer in enumerate(self.model.layers):
            out = layer_rows(layer, hidden, rows, cos_sin, store, index, attend_to=everyone, causal=False)
            hidden, _ = out.hidden, kept.append(out.query)
        self.queries = tuple(kept)
        return hidden

    def _drift(self, embedded: Tensor, angles) -> Tensor:
        """1 - cosine [L, N] between the cache as it stands and a full pass on the tokens as they are now; conditional
        branch."""
        true = self.features(embedded[:1], angles)
        layers = range(len(self.model.layers))
        return torch.stack([drifted(self.store, true, layer) for layer in layers])[:, self.model.cond_length :]

    def features(self, embedded: Tensor, angles) -> RowStore:
        """Keys and values of all rows by a full pass, apart from the cache."""
        store = RowStore.empty(self.model.layers, embedded.shape[1])
        self._pass(embedded, angles, torch.arange(embedded.shape[1]), store)
        return store

    def _cost(self, batch: int, read_out: int, ms: float) -> Cost:
        layers, width = len(self.model.layers), self.model.layers[0].self_attn.q_proj.out_features
        per_row = self.store.linear[0] + 2 * len(self.store.known[0]) * width
        head = read_out * self.model.vocab_size * self.model.config.hidden_size
        rows = batch * layers * len(self.rows)
        return Cost(1, rows, rows * per_row + batch * head, self.store.bytes, ms)


def drifted(cached: RowStore, true: RowStore, layer: int) -> Tensor:
    """1 - cosine [C + N] of one layer's cached and true keys and values, all heads of both as one vector per token, in
    the first (conditional) branch."""
    def vectors(store: RowStore) -> Tensor:
        both = torch.cat([store.keys[layer][:1], store.values[layer][:1]], -1)  # [1, G, C + N, 2 W]
        return both.transpose(1, 2).flatten(2).float()

    return 1 - torch.cosine_similarity(vectors(cached), vectors(true), dim=-1)[0]


def run(job) -> Iterator[Event]:
    board, p, record = maskgit.caption_board(job), job.params, Record()
    reused = Reused(job.model, board.cond, p.guidance, p.drift and job.wants("prune"), p.until)
    plan = maskgit.planned(p, grouped(board.unknown, p.full, p.local, p.start), reused)
    seen = RecapSeen(board, reused)
    yield Open("unmask", board.canvas, loop.FIELDS, len(plan.moves))
    yield Open("prune", board.canvas, {"drift": DRIFT}, len(plan.moves))
    yield Open("attend", board.canvas, {"looked": LOOKED}, seen.count(plan))
    for shot in loop.shots(job, board, plan, record):
        yield Emit("unmask", shot.step, shot.names)
        yield Emit("prune", seen.pruned(shot))
        if job.wants("attend") and seen.looks(shot, plan):
            yield Emit("attend", seen.attended(shot))
    facts = {**maskgit.scene_facts(board, record, job.subject.text), **work_facts(job, record, plan)}
    yield Close("unmask", sentence(facts, plan), record.charts(), facts, path=record.path)
    yield from seen.close(facts, plan, record)


def work_facts(job, record: Record, plan: Plan) -> dict[str, Fact]:
    """Multiply-adds against the same moves, every one in full; the head reads the same masked rows in both."""
    full = full_work(job.model, [move.count for move in plan.moves], job.params.guidance, job.params.until)
    return {"work": Fact("Work", 100 * record.cost.macs / full, "% of every step in full", "lower"),
            "cache": Fact("Cache", record.cost.cache_bytes / 1e6, "MB", "lower")}


def sentence(facts: dict[str, Fact], plan: Plan) -> str:
    local = sum(move.label == "local" for move in plan.moves)
    if not local:
        return "Every pass is full: this is the base model. Allow local passes to reuse what it computed."
    return (f"{local} of {len(plan.moves)} passes run only the cells that are recomputed or revealed now; all others "
            f"are served from the cache: {facts['work'].value:.0f} % of the work of every step in full, score "
            f"{facts['score'].value:.2f}.")


def beside(p: Params) -> dict:
    """The same number of moves, every one in full."""
    late = p.full - round(p.start * p.full)
    return {"steps": p.full + late * p.local, **maskgit.shared(p)}


METHOD = Method(
    card=Card(
        id="recap", title="ReCAP: reuse context features", tabs=("unmask", "prune", "attend"), arxiv="2505.19089",
        year=2025, seed="A",
        summary="After one full pass, keep every layer's keys and values and run cheap local passes that recompute "
                "only the tokens in play.",
        flow="cells > full pass > *keys and values kept > *local pass on cells in play > most confident "
             "cells revealed; most confident cells revealed ~> *local pass on cells in play",
        look_at="Cells just revealed must be recomputed; all others are served from the cache.",
        not_covered="MAR and MAGE backbones, ImageNet.",
        unverified="More than one local pass after a full one: the authors' code has one."),
    params=Params, accepts="caption", checkpoints=("scene-mgm-1",), companions=("scene-vq-1",), run=run,
    examples=maskgit.EXAMPLES, baseline="maskgit", baseline_params=beside,
    fixed={"prune": "No cell leaves here: it shows which are computed anew and which are read from the cache."})

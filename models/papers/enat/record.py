"""What ENAT's records keep: the work of each half of its network, and the plain model on the same board.

The Attend record is the paper's analysis, which needs no training: on every board of the run the plain model says how
attention is split between masked and known cells, and how much each cell's features changed since the step before.
Nothing of it is ENAT's work.

Letters: N canvas tokens, C caption words, L layers, D width.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from models.backbones.instrument import observe
from models.engine.method import Close, Emit, Event, Open
from models.engine.recording import array, line, table
from models.loops.attend.groups import layers_chart, mass_facts, masses, steps_chart
from models.loops.attend.loop import closing, grid_layout, look
from models.loops.unmask.canvases import Board
from models.loops.unmask.evaluation import full_cost
from models.loops.unmask.loop import Move, Shot
from models.trace import CODE, Chart, Fact, Field, Step

TOP = 0.25  # of all cells: the "critical" ones
EDGES = {"masked to known": (0, 1), "masked to masked": (0, 0), "known to known": (1, 1), "known to masked": (1, 0)}
ALLOWED = {"encoder": (0, 0, 1, 0), "decoder": (1, 1, 0, 0)}  # of EDGES, by the wiring of network.py


class EnatWork:
    """Multiply-adds of encoder and decoder, step by step, beside those of the plain model's pass on the same board."""

    def __init__(self, plain, reusing):
        self.plain, self.reusing = plain, reusing
        self.spent: list[tuple[int, int, int]] = []  # per step: encoder, decoder, plain model
        self.encoded: list[int] = []

    def seen(self, shot: Shot) -> Step:
        """The loop's step, saying what was encoded."""
        moment, found = shot.turn.moment, shot.turn.found
        masked, new = int(moment.masked.sum()), int(found.rows.sum())
        everything = moment.masked.shape[1] + self.plain.cond_length
        same = full_cost(self.plain, self.reusing.branches, everything, masked)
        self.spent.append((*self.reusing.spent, same.macs))
        self.encoded.append(new)
        kept = moment.masked.shape[1] - masked - new
        start = shot.step.label.split(":")[0]
        return replace(shot.step, label=f"{start}: {new} encoded, {kept} reused, {moment.move.count} filled in")

    def facts(self) -> dict[str, Fact]:
        encoder, decoder, plain = np.sum(self.spent, 0)
        return {"work": Fact("Work", 100 * float(encoder + decoder) / float(plain), "% of the plain model's", "lower"),
                "share": Fact("Encoder's share", 100 * float(encoder) / float(encoder + decoder), "% of the work"),
                "encoded": Fact("Cells encoded", float(sum(self.encoded)), "in all steps", "lower")}

    def charts(self) -> tuple[Chart, ...]:
        names = ("encoder, with reuse", "decoder, with head", "plain model")
        return (line("Work of each half", "G multiply-adds", dict(zip(names, np.array(self.spent).T / 1e9)),
                     caption="The plain model computes every cell in every step."),)


class Plain:
    """The plain model on every board of a run, conditional branch only.

    show: the step whose heads and rows are kept. features [N, D] and known bool [N] are those of the step before.
    changes: per step, the share of all change that the TOP cells hold and how over-represented new cells are among
    them; roles: per step [L, 2, 2], who looks at whom, masked cells first.
    """

    fields = {"change": Field("Change of features", "1 - cosine", 0.0)}

    def __init__(self, model, board: Board, show: int):
        self.model, self.board, self.show = model, board, show
        self.layout = grid_layout(board.canvas.shape, first=model.cond_length, outside="the caption")
        self.features = self.known = self.looked = None
        self.changes: list[tuple[float, float]] = []
        self.roles: list[np.ndarray] = []

    def told(self, shot: Shot, total: int) -> Iterator[Event]:
        """The step, and heads and rows to look at meanwhile: the first board's until the shown one's are there."""
        step = self.seen(shot)
        if shot.turn.moment.index in (0, self.show):
            yield Open("attend", self.board.canvas, self.fields, total, self.looked.heads, self.looked.rows)
        yield Emit("attend", step)

    def seen(self, shot: Shot) -> Step:
        """What the plain model says of the board that this step starts from."""
        moment = shot.turn.moment
        known = array(~moment.masked[0], bool)
        fresh = known if self.known is None else known & ~self.known
        features = self.read(moment.ids, known, moment.index in (0, self.show))
        fields = {} if self.features is None else {"change": self.changed(features, fresh)}
        self.features, self.known = features, known
        state = np.where(fresh, CODE["new"], np.where(known, CODE["known"], CODE["unknown"])).astype(np.uint8)
        ids = np.where(known, array(moment.ids[0], np.int32), -1)
        return Step(f"step {moment.index + 1}: {known.sum()} cells known, {fresh.sum()} of them new", state, ids=ids,
                    fields=fields, picture=self.board.paint(moment.ids))

    @torch.inference_mode()
    def read(self, ids: Tensor, known: np.ndarray, keep: bool) -> Tensor:
        """Last-layer features [N, D]; notes who looks at whom, and keeps heads and rows where asked."""
        with observe(self.model, want={"qk", "stats"} if keep else {"qk"}) as seen:
            features = self.model.look(ids, self.board.cond)[0, self.model.cond_length :]
        groups = {"masked": self.layout.index[~known], "known": self.layout.index[known]}
        self.roles.append(masses(seen, groups))
        if keep:
            self.looked = look(seen, self.layout)
        return features

    def changed(self, features: Tensor, fresh: np.ndarray) -> np.ndarray:
        """1 - cosine [N] to the features of the step before."""
        change = array(1 - torch.cosine_similarity(features, self.features, dim=-1))
        self.changes.append(concentration(change, fresh))
        return change

    def close(self) -> Close:
        (held, lift), mass = np.mean(self.changes, 0), np.nanmean(self.roles, (0, 1))
        facts = {"held": Fact(f"Change held by the top {TOP:.0%} of cells", 100 * float(held), "% of all change"),
                 "lift": Fact("New cells among them", float(lift), "times as often as by chance"),
                 **mass_facts(mass, {f"edge{i}": (f"Attention, {name}", *pair)
                                     for i, (name, pair) in enumerate(EDGES.items())})}
        sentence = (f"On these boards the plain model changes in few places: {TOP:.0%} of the cells hold {held:.0%} of "
                    f"the change, and new cells, which ENAT computes, are among them {lift:.1f} times as often as by "
                    f"chance. Known cells give {mass[EDGES['known to masked']]:.0%} of their attention to masked ones, "
                    f"which ENAT forbids. Heads and rows are those of step {self.show + 1}.")
        return closing(self.layout, self.looked, sentence, facts, self.charts())

    def charts(self) -> tuple[Chart, ...]:
        held, roles = np.array(self.changes)[:, 0], np.stack(self.roles)  # [steps - 1], [steps, L, 2, 2]
        return (steps_chart(roles.mean(1), EDGES,
                            caption="Plain model, mean over layers and heads; the rest goes to the caption."),
                line("How concentrated change is", "share of all change", {f"held by the top {TOP:.0%}": held}, first=1,
                     reference=TOP, caption="Dashed: what the top quarter would hold if all cells changed alike."),
                layers_chart(np.nanmean(roles, 0), EDGES, title="Plain model: attention by role"),
                table("ENAT: what may look at what", "from and to", "part", list(ALLOWED.values()), tuple(EDGES),
                      tuple(ALLOWED), unit="allowed",
                      caption="1: allowed, by the wiring. Known cells never look at masked ones."))


def concentration(change: np.ndarray, fresh: np.ndarray) -> tuple[float, float]:
    """Share of all change [N] that the TOP tokens hold, and how many times as often as by chance a fresh one is one."""
    count = max(1, round(TOP * len(change)))
    top = np.zeros(len(change), bool)
    top[np.argsort(-change, kind="stable")[:count]] = True
    lift = top[fresh].mean() / top.mean() if fresh.any() else 1.0
    return float(change[top].sum() / max(change.sum(), 1e-12)), float(lift)


def half_known(moves: Sequence[Move]) -> int:
    """The first step that starts from a board at least half of which is known, else the last one."""
    before = np.cumsum([0, *(move.count for move in moves)])
    return int(np.argmax(before[:-1] * 2 >= before[-1])) or len(moves) - 1

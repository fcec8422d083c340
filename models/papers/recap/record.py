"""What ReCAP's Prune and Attend records keep of a run: rows recomputed, drift of the cache, and where the rows look.

Letters: N canvas tokens, C condition tokens, R recomputed rows, L layers, H heads.
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

import kernels
from models.engine.method import Close, Event
from models.engine.recording import array, line, numbered, table
from models.loops.attend.groups import masses
from models.loops.attend.loop import grid_layout, links, row_heads
from models.loops.unmask.canvases import Board
from models.loops.unmask.loop import Plan, Record, Shot
from models.trace import Chart, Fact, Field, Rows, Step, states

LINKS = 3  # strongest links kept per query
DRIFT = Field("Drift of cached keys and values, 1 - cosine", "", 0.0)
LOOKED = Field("Attention from recomputed rows", "probability", 0.0)
PARTS = ("known, from cache", "still masked, from cache", "recomputed now", "caption")


class RecapSeen:
    """What the Prune and the Attend record keep of a run, step by step."""

    def __init__(self, board: Board, reused):
        self.board, self.reused = board, reused
        self.rows: list[int] = []
        self.drift: dict[int, Tensor] = {}  # move -> [L], mean over the tokens served from the cache
        self.mass: dict[int, np.ndarray] = {}  # move -> [4], where the recomputed rows look

    def pruned(self, shot: Shot) -> Step:
        """Which rows this pass computed and which came from the cache."""
        rows, moment = shot.turn.found.rows[0].cpu().numpy(), shot.turn.moment
        self.rows.append(int(rows.sum()))
        fields = {}
        if self.reused.drift is not None:
            fields["drift"] = self.reused.drift.mean(0).cpu().numpy()
            self.drift[moment.index] = self.reused.drift[:, ~shot.turn.found.rows[0]].mean(1).cpu()
        return Step(f"step {moment.index + 1}: {rows.sum()} of {len(rows)} cells recomputed",
                    np.where(rows, states("recomputed"), states("reused")), ids=shot.step.ids, fields=fields,
                    picture=shot.step.picture, cost=shot.step.cost)

    def count(self, plan: Plan) -> int:
        return max(1, sum(move.label == "local" for move in plan.moves))

    def looks(self, shot: Shot, plan: Plan) -> bool:
        """Local passes are looked at; where there is none, the last full one."""
        moves, at = plan.moves, shot.turn.moment.index
        return moves[at].label == "local" or at == len(moves) - 1 and all(move.label == "full" for move in moves)

    def attended(self, shot: Shot) -> Step:
        """Where the recomputed rows look (conditional branch): mass per part, strongest links, attention received."""
        turn, prefix = shot.turn, self.reused.model.cond_length
        asked = turn.found.rows if turn.moment.move.label == "local" else turn.revealed
        self.asked = asked[0].nonzero()[:, 0].cpu()  # [R] cells
        at = torch.searchsorted(self.reused.rows, self.asked + prefix)
        weights = torch.stack([kernels.attention_rows(q[:1], self.reused.store.keys[layer][:1], at)[0]
                               for layer, q in enumerate(self.reused.queries)])  # [L, H, R, C + N]
        self.weights = weights[..., prefix:].float().cpu().numpy()  # [L, H, R, N]
        mean = self.weights.mean((0, 1))  # [R, N]
        self.mass[turn.moment.index] = shares(self.weights, turn)
        return Step(shot.step.label, shot.step.state, ids=shot.step.ids, fields={"looked": mean.mean(0)},
                    edges={"attention": links(self.asked.numpy(), mean, LINKS)}, picture=shot.step.picture,
                    cost=shot.step.cost)

    def close(self, facts: Mapping[str, Fact], plan: Plan, record: Record) -> Iterator[Event]:
        """The ends of both records."""
        work, kept, rows = facts["work"], facts["cache"], float(np.mean(self.rows))
        sentence = (f"{len(plan.moves)} passes recompute {rows:.0f} of {self.board.canvas.size} cells on average; keys "
                    f"and values of the others wait in a cache of {kept.value:.1f} {kept.unit}, and {work.value:.0f} % "
                    "of the multiply-adds remain.")
        yield Close("prune", sentence, self.prune_charts(), {
            "work": work, "cache": kept, "rows": Fact("Cells recomputed per pass", rows, "cells", "lower")},
            path=record.path)
        mass = np.stack(list(self.mass.values()))  # [local passes, 4]
        coords = grid_layout(self.board.canvas.shape).coords
        chart = line("Where recomputed rows look", "share of attention", dict(zip(PARTS, mass.T)), x="local pass",
                     caption="Mean over layers, heads and recomputed rows of the conditional branch.")
        yield Close("attend", attend_sentence(plan, mass.mean(0)), (chart,),
                    {f"part{i}": Fact(f"Attention of recomputed cells to: {name}", 100 * float(share), "%")
                     for i, (name, share) in enumerate(zip(PARTS, mass.mean(0)))},
                    row_heads(self.weights, self.asked.tolist(), coords), Rows.pack(self.asked.numpy(), self.weights),
                    path="attention_rows cpu-eager")

    def prune_charts(self) -> tuple[Chart, ...]:
        found = [line("Cells recomputed", "cells", {"recomputed": self.rows}, reference=float(self.board.canvas.size))]
        if self.drift:
            matrix = torch.stack(list(self.drift.values()), 1)  # [L, local passes]
            found.append(table("Drift of what the cache served", "local pass at step", "layer", matrix,
                               [str(step + 1) for step in self.drift], numbered("layer", len(matrix)),
                               unit="1 - cosine", caption="Cached against true keys and values, before the cache is "
                               "overwritten; mean over the cells that were not recomputed."))
        return tuple(found)


def attend_sentence(plan: Plan, mass: np.ndarray) -> str:
    percent = [f"{100 * share:.0f} %" for share in mass]
    if all(move.label == "full" for move in plan.moves):
        return f"No pass was local, so nothing came from the cache; the last cells give {percent[3]} to the caption."
    return (f"In local passes the recomputed cells give {percent[0]} of their attention to known cells and "
            f"{percent[1]} to masked ones, both from the cache, {percent[2]} to each other and {percent[3]} to the "
            "caption.")


def shares(weights: np.ndarray, turn) -> np.ndarray:
    """Attention [4] that rows [L, H, R, N] give to PARTS; the caption gets what the canvas does not."""
    rows, masked = array(turn.found.rows[0], bool), array(turn.moment.masked[0], bool)
    parts = masses(weights, dict(zip(PARTS, (~rows & ~masked, ~rows & masked, rows))), {"all": range(weights.shape[2])})
    return np.append(mean := parts.mean(0)[0], max(0.0, 1 - mean.sum()))

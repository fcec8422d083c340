"""What ENAT's records keep: the work of each half of its network, and the plain model on the same board.

The Attend record is the paper's analysis, which needs no training: on every board of the run the plain model says how
attention is split between masked and known cells, and how much each cell's features changed since the step before.
Nothing of it is ENAT's work.

Letters: N canvas tokens, C caption words, S = C + N, L layers, H heads, D width.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from models.backbones.instrument import observe
from models.engine.method import Close, Emit, Event, Open
from models.loops.attend.loop import closing, grid_layout, look
from models.loops.unmask.canvases import Board
from models.loops.unmask.evaluation import full_cost
from models.loops.unmask.loop import Move, Shot
from models.trace import CODE, Chart, Fact, Field, Step

TOP = 0.25  # of all cells: the "critical" ones
EDGES = ("masked to known", "masked to masked", "known to known", "known to masked")
ALLOWED = {"encoder": (0, 0, 1, 0), "decoder": (1, 1, 0, 0)}  # of EDGES, by the wiring of enat_net


class Work:
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
        table = np.array(self.spent, np.float64) / 1e9  # [steps, 3]
        names = ("encoder, with reuse", "decoder, with head", "plain model")
        return (Chart("line", "Work of each half", "step", "G multiply-adds",
                      {name: over_steps(table[:, i]) for i, name in enumerate(names)}, by_step=True,
                      caption="The plain model computes every cell in every step."),)


class Plain:
    """The plain model on every board of a run, conditional branch only.

    show: the step whose heads and rows are kept. features [N, D] and known bool [N] are those of the step before.
    changes: per step, the share of all change that the TOP cells hold and how over-represented new cells are among
    them; roles: per step [L, 4], attention by EDGES.
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
        known = ~moment.masked[0].cpu().numpy()
        fresh = known if self.known is None else known & ~self.known
        features = self.read(moment.ids, known, moment.index in (0, self.show))
        fields = {} if self.features is None else {"change": self.changed(features, fresh)}
        self.features, self.known = features, known
        state = np.where(fresh, CODE["new"], np.where(known, CODE["known"], CODE["unknown"])).astype(np.uint8)
        ids = np.where(known, moment.ids[0].cpu().numpy(), -1).astype(np.int32)
        return Step(f"step {moment.index + 1}: {known.sum()} cells known, {fresh.sum()} of them new", state, ids=ids,
                    fields=fields, picture=self.board.paint(moment.ids))

    @torch.inference_mode()
    def read(self, ids: Tensor, known: np.ndarray, keep: bool) -> Tensor:
        """Last-layer features [N, D]; notes who looks at whom, and keeps heads and rows where asked."""
        with observe(self.model, want={"qk", "stats"} if keep else {"qk"}) as seen:
            features = last_features(self.model, ids, self.board.cond)
        self.roles.append(role_shares(seen, known, self.model.cond_length))
        if keep:
            self.looked = look(seen, self.layout)
        return features[0]

    def changed(self, features: Tensor, fresh: np.ndarray) -> np.ndarray:
        """1 - cosine [N] to the features of the step before."""
        change = (1 - torch.cosine_similarity(features, self.features, dim=-1)).float().cpu().numpy()
        self.changes.append(concentration(change, fresh))
        return change

    def close(self) -> Close:
        held, lift = np.mean(self.changes, 0)
        to = dict(zip(EDGES, np.nanmean(self.roles, (0, 1))))
        facts = {"held": Fact(f"Change held by the top {TOP:.0%} of cells", 100 * float(held), "% of all change"),
                 "lift": Fact("New cells among them", float(lift), "times as often as by chance"),
                 **{f"edge{i}": Fact(f"Attention, {name}", 100 * float(share), "%")
                    for i, (name, share) in enumerate(to.items())}}
        sentence = (f"On these boards the plain model changes in few places: {TOP:.0%} of the cells hold {held:.0%} of "
                    f"the change, and new cells, which ENAT computes, are among them {lift:.1f} times as often as by "
                    f"chance. Known cells give {to[EDGES[3]]:.0%} of their attention to masked ones, which ENAT "
                    f"forbids. Heads and rows are those of step {self.show + 1}.")
        return closing(self.layout, self.looked, sentence, facts, self.charts())

    def charts(self) -> tuple[Chart, ...]:
        held, roles = np.array(self.changes), np.stack(self.roles)  # [steps - 1, 2], [steps, L, 4]
        layers = tuple(f"layer {layer + 1}" for layer in range(roles.shape[1]))
        mean = roles.mean(1)  # [steps, 4], NaN where a role has no cells
        return (Chart("line", "Who looks at whom, step by step", "step", "share of attention",
                      {name: over_steps(mean[:, i])[~np.isnan(mean[:, i])] for i, name in enumerate(EDGES)},
                      by_step=True, caption="Plain model, mean over layers and heads; the rest goes to the caption."),
                Chart("line", "How concentrated change is", "step", "share of all change",
                      {f"held by the top {TOP:.0%}": over_steps(held[:, 0], 1)}, by_step=True, reference=TOP,
                      caption="Dashed: what the top quarter would hold if all cells changed alike."),
                Chart("matrix", "Plain model: attention by role", "from and to", "layer",
                      {"share of attention": np.nanmean(roles, 0).astype(np.float32)}, EDGES, layers),
                Chart("matrix", "ENAT: what may look at what", "from and to", "part",
                      {"allowed": np.array(list(ALLOWED.values()), np.float32)}, EDGES, tuple(ALLOWED),
                      caption="1: allowed, by the wiring. Known cells never look at masked ones."))


def last_features(model, ids: Tensor, cond: Tensor | None) -> Tensor:
    """The plain model's last-layer states of the canvas [B, N, D]."""
    hidden, angles = model.embed(ids, cond)
    for layer in model.layers:
        hidden = layer(hidden, position_embeddings=angles)
    return hidden[:, model.cond_length :]


def role_shares(seen, known: np.ndarray, prefix: int) -> np.ndarray:
    """Attention [L, 4] by EDGES, mean over heads and over the queries of a role; NaN where there is none of them."""
    here = torch.from_numpy(known)
    roles = torch.stack([~here, here]).float().to(seen[0].q.device)  # [2, N]: masked, known
    places, found = torch.arange(prefix, prefix + len(known)), []
    for call in seen:
        weights = call.rows_for(places)[0, :, :, prefix:].float().mean(0)  # [N, N]
        mass = roles @ weights @ roles.T / roles.sum(1, keepdim=True)  # [2, 2], from and to
        found.append([mass[0, 1], mass[0, 0], mass[1, 1], mass[1, 0]])
    return torch.tensor(found).numpy()


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


def over_steps(values: np.ndarray, first: int = 0) -> np.ndarray:
    """A line chart's [K, 2] of one value per step."""
    return np.stack([np.arange(first, first + len(values)), values], 1).astype(np.float32)

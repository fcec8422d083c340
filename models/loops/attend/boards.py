"""Attend beside Unmask: a model on every board of a run, from the first step on.

Each board is read once more, before its step fills it in: how attention is split between masked and known tokens, how
far every token's features moved since the board before, and whether the tokens that just became known are where that
change sits. Heads and rows are those of the step that starts from a half known board.

    boards = BoardLens(model, board, plan.moves)
    for shot in shots(job, board, plan, record):
        yield Emit("unmask", shot.step, shot.names)
        yield from boards.told(shot)
    yield boards.close()

Where the run is the model's own, the lens is its network: `Full(boards)`; then no board is read a second time.
Letters: N canvas tokens, L layers, D width.
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from models.backbones.instrument import observe
from models.engine.events import Close, Emit, Event, Open
from models.engine.recording import array, line
from models.loops.attend.groups import layers_chart, mass_facts, masses, steps_chart
from models.loops.attend.loop import closing, grid_layout, look, text_layout
from models.loops.unmask.canvases import Board
from models.loops.unmask.evaluation import Move
from models.loops.unmask.loop import Shot
from models.trace import CODE, Chart, Fact, Field, Step
from models.trace.percent import percent

TOP = 0.25  # of all tokens: those that change most
ROLES = {"masked to known": (0, 1), "masked to masked": (0, 0), "known to known": (1, 1), "known to masked": (1, 0)}
FIELDS = {"change": Field("Change of features, 1 - cosine", "", 0.0)}


class BoardLens:
    """What the model says of every board, in its conditional branch. features [N, D] are those of the board before;
    observed: the module to look into, where the model only wraps it.

    changes: per step, the share of all change that the TOP tokens hold and how over-represented new tokens are among
    them; roles: per step [L, 2, 2], who looks at whom, masked tokens first.
    """

    def __init__(self, model, board: Board, moves: Sequence[Move], observed=None):
        self.model, self.board, self.total, self.show = model, board, len(moves), half_known(moves)
        self.observed = model if observed is None else observed
        grid, canvas = board.canvas.shape, board.canvas
        self.layout = (grid_layout(grid, first=model.cond_length, outside="the caption") if grid else
                       text_layout(canvas.labels, canvas.roles))
        self.features, self.looked, self.caught, self.named = None, None, None, set()
        self.changes: list[tuple[float, float]] = []
        self.roles: list[np.ndarray] = []

    def __getattr__(self, name: str):
        return getattr(self.model, name)

    def look(self, ids: Tensor, cond=None) -> Tensor:
        """The model's pass over a board, caught."""
        want = {"qk", "stats"} if len(self.roles) in (0, self.show) else {"qk"}
        with torch.inference_mode(), observe(self.observed, want=want) as seen:
            looked = self.model.look(ids, cond)
        self.caught = looked, seen
        return looked

    def told(self, shot: Shot) -> Iterator[Event]:
        """The step, and heads and rows to look at meanwhile: the first board's until the shown one's are there."""
        step = self.seen(shot)
        if shot.turn.moment.index in (0, self.show):
            yield Open("attend", self.board.canvas, FIELDS, self.total, self.looked.heads, self.looked.rows)
        fresh = set(step.ids[step.ids >= 0].tolist()) - self.named
        self.named |= fresh
        yield Emit("attend", step, {id: self.board.names(id) for id in sorted(fresh)})

    def seen(self, shot: Shot) -> Step:
        """What the model says of the board that this step starts from."""
        moment = shot.turn.moment
        known, fresh = array(~moment.masked[0], bool), array(moment.fresh[0], bool)
        features = self.taken(moment.ids, known)
        fields = {} if self.features is None else {"change": self.changed(features, fresh)}
        self.features, given = features, array(self.board.ids[0] != self.board.mask_id, bool)
        state = np.where(given, CODE["context"], np.where(fresh, CODE["new"], CODE["known"]))
        state = np.where(known, state, CODE["unknown"]).astype(np.uint8)
        ids = np.where(known, array(moment.ids[0], np.int32), -1)
        label = f"step {moment.index + 1}: {known.sum()} {self.layout.unit} known, {fresh.sum()} of them new"
        picture = self.board.paint(moment.ids) if self.board.paint else None
        return Step(label, state, ids=ids, fields=fields, picture=picture)

    def taken(self, ids: Tensor, known: np.ndarray) -> Tensor:
        """What the pass left of every token [N, D]; notes who looks at whom, and keeps heads and rows of two boards."""
        if self.caught is None:
            self.look(ids, self.board.cond)
        (looked, seen), self.caught = self.caught, None
        if len(self.roles) in (0, self.show):
            self.looked = look(seen, self.layout)
        self.roles.append(masses(seen, {"masked": self.layout.index[~known], "known": self.layout.index[known]}))
        return looked[0, self.model.cond_length :]

    def changed(self, features: Tensor, fresh: np.ndarray) -> np.ndarray:
        """1 - cosine [N] to the features of the board before."""
        change = array(1 - torch.cosine_similarity(features, self.features, dim=-1))
        self.changes.append(concentration(change, fresh))
        return change

    def close(self, also: str = "") -> Close:
        """also: what a method has to say of it, behind the sentence."""
        unit, mass = self.layout.unit, np.nanmean(self.roles, (0, 1))
        sentence = (f"Known {unit} give {percent(mass[ROLES['known to masked']])} of their attention to masked ones, "
                    f"masked ones {percent(mass[ROLES['masked to known']])} of theirs to known ones. Heads and rows "
                    f"are those of step {self.show + 1}.")
        if self.changes:
            held, lift = np.mean(self.changes, 0)
            sentence = (f"The model changes its mind in few places: {percent(TOP)} of the {unit} hold {percent(held)} "
                        f"of the change, and new {unit} are among them {lift:.1f} times as often as by chance. "
                        f"{sentence}")
        return closing(self.layout, self.looked, f"{sentence} {also}".strip(), self.facts(mass), self.charts())

    def facts(self, mass: np.ndarray) -> Mapping[str, Fact]:
        """mass [2, 2]: mean over steps and layers."""
        told = {f"edge{i}": (f"Attention, {name}", *pair) for i, (name, pair) in enumerate(ROLES.items())}
        if not self.changes:  # one board: nothing to compare it with
            return mass_facts(mass, told)
        (held, lift), unit = np.mean(self.changes, 0), self.layout.unit
        return {"held": Fact(f"Change held by the top {percent(TOP)} of {unit}", 100 * float(held), "% of all change"),
                "lift": Fact(f"New {unit} among them", float(lift), "times as often as by chance"),
                **mass_facts(mass, told)}

    def charts(self) -> tuple[Chart, ...]:
        roles, held = np.stack(self.roles), [held for held, _ in self.changes]  # [steps, L, 2, 2], [steps - 1]
        return (steps_chart(roles.mean(1), ROLES, caption="Mean over layers and heads; what is missing goes to the "
                            "caption." if self.layout.outside else "Mean over layers and heads."),
                line("How concentrated change is", "share of all change", {f"held by the top {percent(TOP)}": held},
                     first=1, reference=TOP, caption="Dashed: what the top quarter would hold if all changed alike."),
                layers_chart(np.nanmean(roles, 0), ROLES, title="Attention by role"))


def concentration(change: np.ndarray, fresh: np.ndarray) -> tuple[float, float]:
    """Share of all change [N] that the TOP tokens hold, and how many times as often as by chance a fresh one is one."""
    count = max(1, round(TOP * len(change)))
    top = np.zeros(len(change), bool)
    top[np.argsort(-change, kind="stable")[:count]] = True
    lift = top[fresh].mean() / top.mean() if fresh.any() else 1.0
    return float(change[top].sum() / max(change.sum(), 1e-12)), float(lift)


def half_known(moves: Sequence[Move]) -> int:
    """The first step before which half of what is to be filled in stands, else the last one."""
    before = np.cumsum([0, *(move.count for move in moves)])
    return int(np.argmax(before[:-1] * 2 >= before[-1])) or len(moves) - 1

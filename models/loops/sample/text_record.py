"""The page that a Sample run writes: prompt and sampled units on one text canvas, and what was measured at each.

A unit is a token, or a byte where a method works on bytes. Positions on the page are the identities of the trace.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

import kernels
from models.engine.method import Emit, Open
from models.trace import CODE, Canvas, Cost, Distribution, Field, Step

TAB, NOTHING = "sample", Cost()
FIELDS = {
    "entropy": Field("Entropy", "nats", low=0.0),
    "probability": Field("Probability", "", 0.0, 1.0),
    "cut": Field("Cut away by the warpers", "", 0.0, 1.0),
}


class Page:
    """The text so far. labels, ids [N], state [N] and values (name -> [N]) hold prompt and room for what will come."""

    def __init__(self, labels: Sequence[str], ids: Sequence[int], room: int, fields: Mapping[str, Field], total: int):
        self.start = self.count = len(labels)
        self.labels = [*labels, *[""] * room]
        self.ids = np.array([*ids, *[-1] * room], np.int32)
        self.state = np.full(len(self.labels), CODE["unknown"], np.uint8)
        self.state[: self.start] = CODE["context"]
        self.fields, self.total, self.named = fields, total, set()
        self.values = {name: np.full(len(self.labels), np.nan, np.float16) for name in fields}

    @property
    def room(self) -> int:
        """How many units still fit."""
        return len(self.labels) - self.count

    def open(self) -> Open:
        """The canvas as it is now; sent again whenever the text has grown, so that labels are never behind."""
        roles = ("prompt",) * self.start + ("sampled",) * (len(self.labels) - self.start)
        return Open(TAB, Canvas("text", tuple(self.labels), roles=roles), self.fields, self.total)

    def tried(self, ids: Sequence[int], values: Mapping[str, Sequence[float]], state: str) -> Page:
        """A copy on which `ids` stand where the text would go on; the page itself stays as it is."""
        twin = object.__new__(Page)
        twin.__dict__.update(self.__dict__)
        twin.ids, twin.state = self.ids.copy(), self.state.copy()
        twin.values = {name: array.copy() for name, array in self.values.items()}
        where = range(self.count, self.count + len(ids))
        twin.ids[list(where)], twin.state[list(where)] = ids, CODE[state]
        twin.note(where, values)
        return twin

    def note(self, where: Sequence[int], values: Mapping[str, Sequence[float]]) -> None:
        """Numbers of units that are on the page already."""
        for name, numbers in values.items():
            self.values[name][list(where)] = numbers

    def write(self, ids: Sequence[int], labels: Sequence[str], values: Mapping[str, Sequence[float]]) -> None:
        """Appends units for good; they are `new` until `settle`."""
        grown = self.tried(ids, values, "new")
        self.ids, self.state, self.values = grown.ids, grown.state, grown.values
        self.labels[self.count: self.count + len(ids)] = labels
        self.count += len(ids)

    def settle(self) -> None:
        """What was new is known now."""
        self.state = np.where(self.state == CODE["new"], CODE["known"], self.state).astype(np.uint8)

    def step(self, label: str, distributions: Mapping[str, Distribution], texts, *, level: str = "step",
             parent: int | None = None, cost: Cost = NOTHING, note: str = "") -> Emit:
        """The page as one step; `texts(ids)` names every id that appears for the first time."""
        values = {name: array.copy() for name, array in self.values.items() if not np.all(np.isnan(array))}
        step = Step(label, self.state.copy(), level, parent, self.ids.copy(), values, distributions, cost=cost,
                    note=note)
        named = [self.ids[self.ids >= 0], *(d.top_ids.ravel() for d in distributions.values())]
        fresh = sorted(set(np.concatenate(named).tolist()) - self.named)
        self.named.update(fresh)
        return Emit(TAB, step, dict(zip(fresh, texts(fresh))))


def describe(logits: Tensor, positions: Sequence[int], chosen: Sequence[int] | None = None, *, top_k: int = 8,
             keep: bool = False) -> Distribution:
    """Distributions at some positions from logits [P, V]; `keep` stores the logits too, as fp16."""
    picked = None if chosen is None else torch.as_tensor(chosen, device=logits.device)
    found = kernels.vocab_stats(logits, top_k=min(top_k, logits.shape[-1]))
    return Distribution(
        positions=np.asarray(positions, np.int32), top_ids=found.top_ids.to(torch.int32).cpu().numpy(),
        top_probs=found.top_logp.float().exp().cpu().numpy(), entropy=found.entropy.float().cpu().numpy(),
        lse=found.lse.float().cpu().numpy(), chosen=None if picked is None else picked.to(torch.int32).cpu().numpy(),
        logits=logits.to(torch.float16).cpu().numpy() if keep else None)

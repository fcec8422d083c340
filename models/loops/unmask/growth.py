"""Unmask: pictures that grow behind a cache, one group of tokens per pass: a code in raster order, or a whole map.

    page = GrowingPicture(canvas, names)
    for found in grow(Raster(model, words), count, generator, pull=lambda index: 0.5):
        yield page.step("pass", cost=page.grown([found]))

A reader is a network with the keys and values of what stands. groups: slices of the N tokens in the order of drawing;
read(index, ids) -> logits [B, M, V] of a group, or [2B, M, V] with the unconditional half behind, after ids [B, ..] of
all groups before it; cost(index): of that pass. Every token is drawn once, from its own distribution: tokens of one
group do not know of each other.

Letters: B samples, C condition words, N tokens, M tokens of a group, V vocabulary, D width.
"""
from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from kernels import Sampler, draw
from models.engine.recording import Filling, array, line
from models.loops.unmask.canvases import scene_facts
from models.loops.unmask.evaluation import full_cost, guided
from models.trace import Canvas, Chart, Cost, Fact, Field
from models.trace.interventions import NOTHING, reachable

PLAIN = Sampler()
FIELDS = {"entropy": Field("Entropy of the token's distribution", "nats", 0.0),
          "confidence": Field("Probability of the token that was drawn", "probability", 0.0, 1.0)}


class GroupReader(Protocol):
    groups: Sequence[slice]

    def read(self, index: int, ids: Tensor) -> Tensor: ...

    def cost(self, index: int) -> Cost: ...


@dataclass(frozen=True, eq=False)
class GivenTokens:
    """A picture's tokens int64 [B, N], and which tokens are drawn anew, bool [N]."""

    ids: Tensor
    inside: Tensor


@dataclass(frozen=True, eq=False)
class Grown:
    """What one pass did: ids int64 [B, M] at `group`, from logits [B, M, V] guided by `pull`; drawn bool [M]: not
    given."""

    index: int
    group: slice
    ids: Tensor
    logits: Tensor
    drawn: Tensor
    pull: float
    cost: Cost


@torch.inference_mode()
def grow(reader: GroupReader, count: int, generator: torch.Generator, sampler: Sampler = PLAIN,
         pull: Callable[[int], float] = lambda index: 0.0, given: GivenTokens | None = None,
         put: Mapping[int, int] = NOTHING) -> Iterator[Grown]:
    """Draws `count` pictures group by group. pull(index): classifier-free guidance g of a group, (1 + g) conditional -
    g unconditional logits, where the reader has both branches; both read the same tokens. put: token -> the id that
    a visitor puts there instead of what was drawn."""
    ids, began = None, time.perf_counter()
    for index, group in enumerate(reader.groups):
        logits = guided(reader.read(index, ids).float(), count, pull(index))
        found = draw(logits, sampler, generator)
        fresh = torch.ones_like(found[0], dtype=torch.bool) if given is None else given.inside[group]
        found = found if given is None else torch.where(fresh, found, given.ids[:, group])
        reachable(put, 0, reader.groups[-1].stop, logits.shape[-1])
        found, fresh = overwritten(found, fresh, group, put)
        ids = found if ids is None else torch.cat([ids, found], 1)
        ms = (time.perf_counter() - began) * 1e3
        yield Grown(index, group, found, logits, fresh, pull(index), replace(reader.cost(index), ms=ms))
        began = time.perf_counter()


def overwritten(ids: Tensor, fresh: Tensor, group: slice, put: Mapping[int, int]):
    """The ids [B, M] of a group with what a visitor puts there, and which of them were drawn."""
    for at, id in put.items():
        if group.start <= at < group.stop:
            ids, fresh = ids.clone(), fresh.clone()
            ids[:, at - group.start], fresh[at - group.start] = id, False
    return ids, fresh


def ids_of(found: Iterable[Grown]) -> Tensor:
    """Everything that was drawn, int64 [B, N]."""
    return torch.cat([one.ids for one in found], 1)


class Raster:
    """A CausalTransformer, one code per pass; the first pass reads the caption's words [B, C] or, with guidance, the
    null's behind them [2B, C]."""

    def __init__(self, model, words: Tensor):
        from transformers import DynamicCache

        self.model, self.cache, self.branches = model, DynamicCache(), len(words)
        size = model.grid[0] * model.grid[1]
        self.groups = [slice(at, at + 1) for at in range(size)]
        hidden, self.angles = model.slots(words.new_full((len(words), size), model.mask_token_id), words)
        self.start = hidden[:, : model.cond_length + 1]
        self.spent = cache(lambda slots: full_cost(model, len(words), slots, 1))  # hundreds of passes, of two kinds

    def read(self, index: int, ids: Tensor | None) -> Tensor:
        prefix, hidden = self.model.cond_length, self.start
        if index:
            hidden = self.model.inputs(ids[:, index - 1 : index], index).repeat(self.branches // len(ids), 1, 1)
        fresh = slice(prefix + index if index else 0, prefix + index + 1)
        states = self.model.states(hidden, tuple(part[:, fresh] for part in self.angles), self.cache)
        return self.model.head(states[:, -1:])

    def cost(self, index: int) -> Cost:
        """Of one pass over all branches, and the bytes of the cache after it."""
        slots, end = 1 if index else self.model.cond_length + 1, self.model.cond_length + index + 1
        attention, layers = self.model.layers[0].self_attn, len(self.model.layers)
        plain = self.spent(slots)
        behind = 2 * self.branches * layers * slots * (end - slots) * attention.q_proj.out_features
        held = 2 * self.branches * layers * end * attention.k_proj.out_features * self.start.element_size()
        return Cost(1, plain.rows, plain.macs + behind, held)


class GrowingPicture(Filling):
    """The Unmask record of a picture that grows. entropy: mean of the tokens of each step; cost: of all passes."""

    def __init__(self, canvas: Canvas, names: Callable[[int], str], fields: Mapping[str, Field] = FIELDS):
        super().__init__("unmask", canvas, fields, names)
        self.entropy: list[float] = []
        self.cost = Cost()

    def grown(self, passes: Sequence[Grown], given: str = "context") -> Cost:
        """What the passes of one step drew and between which rivals; their cost. given: the state of other tokens."""
        at = slice(passes[0].group.start, passes[-1].group.stop)
        ids, drawn = (array(torch.cat(parts), None) for parts in zip(*((one.ids[0], one.drawn) for one in passes)))
        self.fill(at, ids, np.where(drawn, "new", given))
        self.guess(at, torch.cat([one.logits[0] for one in passes]), np.where(drawn, ids, -1))
        self.entropy.append(float(np.nanmean(self.values["entropy"][at])))
        spent = sum((one.cost for one in passes), Cost())
        self.cost += spent
        return spent

    def facts(self, shown: np.ndarray, caption: str, unit: str) -> dict[str, Fact]:
        """The parser's reading of the finished scene, and what it cost."""
        return scene_facts(shown, caption, self.cost.macs) | {
            "passes": Fact("Forward passes", float(self.cost.calls), unit, "lower")}

    def chart(self, title: str, x: str = "step") -> Chart:
        return line(title, "nats", {"entropy": self.entropy}, x=x)

"""A causal language model that lets tokens leave between layers and, if asked, come back for a later token.

Source: LazyLLM, arXiv 2407.14057, as methods/lazyllm.md restates it; the machine serves every policy of the tab.
KV^l holds keys and values of the tokens layer l has processed; Aux^l holds the layer-l output of tokens that left after
layer l. Positions are the original ones throughout. Each (layer, token) is computed at most once per generation.

Letters: N tokens so far, L layers (numbered from 0 here), S tokens alive at a layer, R rows computed, H heads, D width.
"""
from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

import kernels
from models.backbones.rows import RowStore
from models.backbones.stacks import Stack, stack


class PruneMoment(NamedTuple):
    """What a policy may look at when it scores the tokens alive at a layer.

    seen: layer -> float [N], the newest token's attention at that layer in this step, mean over heads, NaN for tokens
    that were not alive there; only the layers the policy `looks` at.
    """

    step: int
    layer: int
    alive: Tensor  # int [S]
    seen: Mapping[int, Tensor]


@dataclass(frozen=True)
class KeepPolicy:
    """Who leaves. rates [L]: fraction of the alive tokens cut after each layer (the last is never used).

    score(moment) -> float [S]: the lowest leave; the newest token always stays. looks: layers whose importance `score`
    reads. revive: whether a token that left may be alive again for a later token.
    """

    rates: tuple[float, ...]
    score: Callable[[PruneMoment], Tensor]
    looks: frozenset[int] = frozenset()
    revive: bool = True


class LayerSheet(NamedTuple):
    """What happened at one layer in one step. alive, rows, left: identities, ascending."""

    layer: int
    alive: Tensor  # [S], attended to by the newest token
    rows: Tensor  # [R], computed here and now; the newest token is the last
    revived: Tensor  # those of rows that came out of Aux, or follow such a token upwards
    left: Tensor  # alive here, not at the next layer
    attention: Tensor | None  # [H, S], the newest token's row, where it was watched
    score: Tensor | None  # [S], where something was cut
    macs: int


class Pass(NamedTuple):
    """One step: the newest token's output [1, 1, D] after the last layer, one sheet per layer, milliseconds."""

    hidden: Tensor
    sheets: list[LayerSheet]
    ms: float


@dataclass
class Pruner:
    """One generation. Call `advance` with the prompt's ids, then with one new id after another. Where tokens leave
    before the first layer, call `enter` instead, with the states of those that come in; it is then the only pass."""

    model: torch.nn.Module
    policy: KeepPolicy
    capacity: int
    watch: bool = False  # keep the newest token's attention of every layer
    stack: Stack = field(init=False)
    store: RowStore = field(init=False)
    count: int = 0
    steps: int = 0

    def __post_init__(self):
        self.stack = stack(self.model)
        shape, width = (len(self.stack.layers), self.capacity), self.model.config.hidden_size
        self.store = self.stack.store(self.capacity)
        self.aux = self.stack.words.weight.new_empty(*shape, width)  # rows in use: in_aux
        self.in_aux = torch.zeros(shape, dtype=torch.bool)
        self.gone = torch.zeros(shape, dtype=torch.bool)  # left, and may not return
        self.angles = self.stack.angles(self.capacity)  # each [1, N, W]

    @torch.inference_mode()
    def advance(self, ids: list[int]) -> Pass:
        """Reads new tokens; every earlier token is alive again at the first layer."""
        first, self.count = self.count, self.count + len(ids)
        rows = torch.arange(first, self.count)
        carried = self.stack.embed(torch.tensor([ids], device=self.aux.device), rows)  # [1, R, D]
        return self._pass(carried, torch.arange(self.count), first)

    @torch.inference_mode()
    def enter(self, hidden: Tensor, alive: Tensor) -> Pass:
        """Reads a prompt of which only the tokens `alive` int [S], ascending, come in: hidden [1, S, D]. They keep
        their places; the sequence is really shorter."""
        if self.count:
            raise ValueError("tokens can only be left out of the first pass")
        self.count = int(alive[-1]) + 1
        return self._pass(hidden, alive, 0)

    def _pass(self, carried: Tensor, alive: Tensor, first: int) -> Pass:
        began, seen, sheets = time.perf_counter(), {}, []
        for index in range(len(self.stack.layers)):
            sheet, alive, carried = self._layer(index, alive, carried, seen, first)
            sheets.append(sheet)
        self.steps += 1
        return Pass(carried[:, -1:], sheets, (time.perf_counter() - began) * 1e3)

    def logits(self, hidden: Tensor) -> Tensor:
        """Next-token logits [..., V] of outputs [..., D]."""
        with torch.inference_mode():
            return self.stack.logits(hidden)

    def _layer(self, index: int, alive: Tensor, carried: Tensor, seen: dict[int, Tensor], first: int):
        """One layer of a step: the sheet, who is alive at the next layer, and the outputs that go on there."""
        rows = alive[~self.store.known[index, alive]]
        came_back = self.in_aux[index - 1, rows] if index else torch.zeros(len(rows), dtype=torch.bool)
        hidden = self._states(index, rows, came_back, carried)
        turned, before = tuple(table[:, rows] for table in self.angles), self.store.macs
        looks = self.watch or index in self.policy.looks
        out = self.stack.layer(index, hidden, rows, turned, self.store, alive, looks)
        if index in self.policy.looks:
            seen[index] = spread(out.last[0].float().mean(0).cpu(), alive, self.count)
        kept, score = self._cut(index, alive, seen)
        left = alive[~kept]
        goes_on = out.hidden if len(left) == 0 else self._put_aside(index, left, rows, out.hidden)
        sheet = LayerSheet(index, alive, rows, rows[rows < first], left, out.last[0] if looks else None, score,
                           self.store.macs - before)
        return sheet, alive[kept], goes_on

    def _states(self, index: int, rows: Tensor, came_back: Tensor, carried: Tensor) -> Tensor:
        """Inputs [1, R, D] of the rows: carried from the layer below in this step, or else read from Aux."""
        if not bool(came_back.any()):
            return carried
        hidden = carried.new_empty(1, len(rows), carried.shape[2])
        hidden[:, ~came_back] = carried
        hidden[:, came_back] = self.aux[index - 1, rows[came_back]]
        self.in_aux[index - 1, rows] = False  # never in both KV^(l+1) and Aux^l
        return hidden

    def _cut(self, index: int, alive: Tensor, seen: Mapping[int, Tensor]) -> tuple[Tensor, Tensor | None]:
        """Bool [S], who goes on to the next layer, and the scores that decided."""
        free = torch.ones(len(alive), dtype=torch.bool) if self.policy.revive else ~self.gone[index, alive]
        leaving = int(self.policy.rates[index] * len(alive) + 1e-9)
        if index == len(self.store.keys) - 1 or leaving == 0:
            return free, None
        score = self.policy.score(PruneMoment(self.steps, index, alive, seen)).float()
        ranked = score.clamp(max=torch.finfo(torch.float32).max).masked_fill(~free, float("-inf"))
        ranked[-1] = float("inf")  # the newest token stays, whatever else ties
        return kernels.keep_top(ranked[None], len(alive) - leaving)[0] & free, score

    def _put_aside(self, index: int, left: Tensor, rows: Tensor, hidden: Tensor) -> Tensor:
        """Stores the outputs of tokens that leave after this layer, for the day they are wanted again; returns the
        outputs [1, R', D] of those that go on."""
        fresh = torch.isin(rows, left, assume_unique=True)  # others that left are in KV^(l+1) or Aux^l already
        if self.policy.revive:
            self.aux[index, rows[fresh]] = hidden[0, fresh]
            self.in_aux[index, rows[fresh]] = True
        else:
            self.gone[index, left] = True
        return hidden[:, ~fresh]

    @property
    def aux_bytes(self) -> int:
        """Bytes of the outputs that wait in Aux."""
        return int(self.in_aux.sum()) * self.aux.shape[2] * self.aux.element_size()


def spread(values: Tensor, alive: Tensor, count: int) -> Tensor:
    """Values [S] of the alive tokens as float [N], NaN elsewhere."""
    full = torch.full((count,), float("nan"))
    full[alive] = values
    return full


def unpruned(layers: int) -> KeepPolicy:
    """Nobody leaves."""
    return KeepPolicy((0.0,) * layers, lambda moment: torch.zeros(len(moment.alive)))


def full_macs(store: RowStore, count: int) -> int:
    """Multiply-adds of the unpruned model on this many tokens, counted as the store counts its own."""
    return sum(store.cost(layer, count, count * (count + 1) // 2) for layer in range(len(store.keys)))

"""What a Sparsifiner pass leaves to look at: the dense attention it avoided, the guess, the kept keys, and the price.

Dense attention here is that of the same queries and keys, so it says what the mask took from this very pass. Letters: L
layers, H heads, P patches, N = P + 1 tokens (class token first), n maps, b kept keys.
"""
from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from models.checkpoints import store
from models.engine.recording import line, numbered
from models.loops.attend import loop
from models.loops.attend.classifiers import ClassifierArm, ClassifierPass, looked_at, told, watched
from models.papers.sparsifiner.network import probabilities, strongest
from models.trace import Chart, Cost, Heads, Rows


class AttentionWork(NamedTuple):
    """Multiply-adds of one layer's attention between the projections, all heads."""

    dense: int
    predictor: int
    kept: int

    @property
    def share(self) -> float:
        """Of what dense attention takes, the predictor included."""
        return (self.predictor + self.kept) / self.dense


def work(tokens: int, width: int, kept: int, maps: int, top: int, filled: float, heads: int) -> AttentionWork:
    """The paper's count. kept: b; filled: non-zero entries of a map. The class token's row is dense."""
    inner = width // 2
    predictor = 2 * tokens * width * inner + 2 * inner * tokens * maps + (tokens - 1) * top * round(filled)
    return AttentionWork(heads * 2 * tokens**2 * width, heads * predictor,
                         heads * 2 * width * ((tokens - 1) * kept + tokens))


def costs_of(sight: SparsePass, spent: Sequence[AttentionWork], matrices: int) -> list[Cost]:
    """Of every layer: the tokens that are in it, what their attention takes, and `matrices` multiply-adds for each."""
    return [Cost(int(layer == 0), tokens, one.predictor + one.kept + tokens * matrices, 0, sight.ms / len(spent))
            for layer, (one, tokens) in enumerate(zip(spent, sight.alive.sum(1).tolist()))]


@dataclass(frozen=True, eq=False)
class SparsePass:
    """One pass. acted, dense [L, H, N, N]; estimate [L, H, P, N]; coefficients [L, H, P, n]; kept bool [L, H, N, N];
    alive bool [L, N] tokens that a layer had; answers [L, C]; ms of the pass."""

    acted: np.ndarray
    dense: np.ndarray
    estimate: np.ndarray
    coefficients: np.ndarray
    kept: np.ndarray
    alive: np.ndarray
    answers: np.ndarray
    ms: float

    @property
    def best(self) -> np.ndarray:
        """The oracle's keys, bool [L, H, P, N]: as many as were kept, those of the largest dense attention."""
        rank = np.argsort(np.argsort(-self.dense[:, :, 1:], -1, kind="stable"), -1)
        return rank < self.kept[:, :, 1:].sum(-1, keepdims=True)

    @property
    def mass(self) -> np.ndarray:
        """Dense attention on the kept keys [L, H, P]."""
        return (self.dense * self.kept)[:, :, 1:].sum(-1)

    @property
    def most(self) -> np.ndarray:
        """The same for the oracle's keys [L, H, P]."""
        return (self.dense[:, :, 1:] * self.best).sum(-1)

    @property
    def recall(self) -> np.ndarray:
        """Share of the oracle's keys that were kept [L, H, P]."""
        return (self.best & self.kept[:, :, 1:]).sum(-1) / self.best.sum(-1)

    def seen(self, costs: list[Cost]) -> ClassifierPass:
        """As the classifiers of this tab are recorded; what the mask took counts as deleted."""
        return ClassifierPass(self.acted, 1 - (self.dense * self.kept).sum(-1), self.answers, costs)


def look(arm: ClassifierArm, predictors: nn.Module, pixels: Tensor, top: int, threshold: float) -> SparsePass:
    """Runs the arm once and computes, from the queries and keys it used, what else could have been looked at."""
    hidden, calls, answers, ms = watched(arm, pixels)
    with torch.no_grad():
        parts = [layer_parts(call, own, top, threshold) for call, own in zip(calls, predictors.layers, strict=True)]
    before = [torch.ones_like(hidden[0][0, :, 0], dtype=torch.bool), *((one[0] != 0).any(-1) for one in hidden[:-1])]
    stacked = (np.stack([one.cpu().numpy() for one in part]) for part in zip(*parts))
    return SparsePass(*stacked, torch.stack(before).cpu().numpy(), answers, ms)


def layer_parts(call, own, top: int, threshold: float) -> tuple[Tensor, ...]:
    """acted, dense, estimate, coefficients and kept of one layer, without the batch."""
    q, k, mask = call.q.float(), call.k.float(), call.options["mask"]
    dense = probabilities(q, k)
    kept = torch.ones_like(dense, dtype=torch.bool) if mask is None else (mask == 0).expand_as(dense)
    acted = call.rows_for(torch.arange(q.shape[2])).float()
    return tuple(part[0] for part in (acted, dense, own(q, k, top, threshold), own.coefficients(q, k), kept))


# The record: one step per layer, and inside one layer the stages that led to it

def stages(sight: SparsePass, layer: int) -> dict[str, np.ndarray]:
    """Further rows [H, N, N] of one layer by name, in the order in which one would ask for them."""
    dense, kept = sight.dense[layer], sight.kept[layer].astype(np.float32)
    estimate = sight.estimate[layer] / np.maximum(sight.estimate[layer].sum(-1, keepdims=True), 1e-12)
    missed = dense[:, 1:] * (sight.best[layer] & ~sight.kept[layer, :, 1:])
    return {"if it were dense": dense, "as predicted": with_cls(estimate, dense),
            "keys kept": kept / kept.sum(-1, keepdims=True), "missed": with_cls(missed, 0 * dense)}


def with_cls(rows: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Rows [H, P, N] under the class token's of another map [H, N, N]."""
    return np.concatenate([other[:, :1], rows], 1)


def steps_of(arm: ClassifierArm, layout: loop.TokenLayout, sight: SparsePass, costs: list[Cost], opened: int,
             query: int) -> tuple[list, Heads, Rows]:
    """The steps, and head statistics and rows with one "layer" per step, so that any query can be clicked in each.
    query: the patch that is asked at first; the last step that marks it is the opened layer's own."""
    extra, seen = stages(sight, opened), sight.seen(costs)
    order = [*range(opened), *[opened] * len(extra), *range(opened, len(costs))]
    names = [f"layer {n + 1}" for n in range(opened)] + [f"layer {opened + 1}: {name}" for name in extra]
    names += [f"layer {n + 1}" for n in range(opened, len(costs))]
    maps = np.stack([*sight.acted[:opened], *extra.values(), *sight.acted[opened:]])
    looked = looked_at(arm, layout, replace(seen, maps=maps))
    heads = replace(looked.heads, layers=tuple(order), names=tuple(names))
    found = []
    for step, layer in zip(loop.layer_steps(layout, replace(looked, heads=heads)), order):
        stage = ":" in step.label
        state = loop.marked(len(step.state), query) if layer <= opened else step.state
        made = told(arm, seen, layer, replace(step, state=state, cost=Cost() if stage else costs[layer]))
        found.append(replace(made, note=NOTES.get(step.label.partition(": ")[2], made.note)))
    return found, heads, looked.rows


NOTES = {"if it were dense": "What the same queries would look at if every pair were computed.",
         "as predicted": "The predictor's guess, made before any query met a key; rows scaled to 1.",
         "keys kept": "The pairs that will be computed, all painted alike.",
         "missed": "Keys among the strongest of the dense attention that the guess left out."}


# Charts

def charts(sight: SparsePass, predictors: nn.Module, layer: int, head: int, query: int, top: int,
           threshold: float) -> tuple[Chart, ...]:
    own, place = predictors.layers[layer], f"layer {layer + 1}, head {head + 1}"
    parts = strongest(torch.from_numpy(sight.coefficients[layer, :, query]), top).numpy()  # [H, n]
    sheet = tiled(own.maps(threshold).detach().cpu().numpy()[:, 1:])
    return (
        Chart("matrix", f"Pairs computed: {place}", "key: class token, then patches", "query",
              {"kept": sight.kept[layer, head].astype(np.float32)},
              caption="The class token's row is always full."),
        Chart("matrix", f"The {parts.shape[1]} maps of layer {layer + 1}", "maps 1 and 2, then 3 and 4, ...", "",
              {"weight": sheet}, ("",) * sheet.shape[1], ("",) * len(sheet),
              caption="All that a predicted row can be made of, over the picture."),
        Chart("bar", f"Maps in patch {query}'s row: layer {layer + 1}", "map", "coefficient",
              dict(zip(numbered("head", len(parts)), parts)), tuple(str(n + 1) for n in range(parts.shape[1]))))


def mass_chart(sight: SparsePass, order: Sequence[int], first: int = 0) -> Chart:
    """Dense attention on kept keys, step by step: of every head, and what as many keys could hold at best. order: the
    layer of every step from the step `first` on."""
    left = sight.alive[:, None, 1:]  # [L, 1, P]
    share, best = ((values * left).sum(-1) / left.sum(-1) for values in (sight.mass, sight.most))  # [L, H]
    lines = {f"head {n + 1}": share[:, n] for n in range(share.shape[1])} | {"best keys": best.mean(1)}
    return line("Dense attention that is kept", "of 1, mean over patches",
                {name: values[list(order)] for name, values in lines.items()}, first=first,
                caption="Of the same queries and keys; the best keys are the oracle's, mean over heads.")


def tiled(maps: np.ndarray, columns: int = 2, zoom: int = 2) -> np.ndarray:
    """Maps [n, P] side by side with a gap between them; every entry is zoom x zoom cells, so that none of them is
    drawn with a border."""
    side = zoom * int(maps.shape[1] ** 0.5)
    high, step = -(-len(maps) // columns), side + 1
    sheet = np.full((high * step - 1, columns * step - 1), np.nan, np.float32)
    for number, one in enumerate(maps):
        y, x = step * (number // columns), step * (number % columns)
        sheet[y:y + side, x:x + side] = np.kron(one.reshape(side // zoom, -1), np.ones((zoom, zoom)))
    return sheet


def sweep_chart(name: str) -> tuple[Chart, ...]:
    """Accuracy against keys kept for every kind of mask, as measured behind a checkpoint's training."""
    path = store.SHIPPED / name / "sweep.json"
    if not path.is_file():
        return ()
    lines = {kind: np.array(points) for kind, points in json.loads(path.read_text("utf-8")).items()}
    return (Chart("line", "Accuracy against keys kept", "keys kept, of 1", "share of photos", lines,
                  caption="512 held-out photos; trained for predicted keys at 0.25."),)

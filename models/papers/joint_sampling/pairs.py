"""Two masks and their joint distribution, three ways: what ADJUST's Sample record shows.

The first token of the pair is drawn alike in all three, so they differ in the second one given the first: by a full
pass on the text with the first token in it (exact), by the layer, or unchanged (the product of marginals).

Letters: A first tokens that are tried, N tokens, V vocabulary.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

import kernels
from models.engine.method import Close, Emit, Event
from models.engine.recording import Filling, bars
from models.engine.recording import table as matrix
from models.loops.unmask.canvases import Board
from models.loops.unmask.loop import read
from models.trace import Chart, Fact, Field

FIRST, SECOND = 10, 8  # tokens tried at the first mask, columns of a table
WAYS = {"exact": "a full pass (exact)", "product": "unchanged (product)", "layer": "the layer (ADJUST)"}
FIELDS = {"tv": Field("Layer's distance from exact", "total variation", 0.0, 1.0)}


@dataclass(frozen=True, eq=False)
class Pair:
    """firsts int [A] and their probabilities [A] (top of the mass); way -> probabilities [A, V] of the second token."""

    positions: tuple[int, int]
    firsts: Tensor
    chances: Tensor
    seconds: dict[str, Tensor]

    @property
    def share(self) -> Tensor:
        """Probability [A] of each first token among those tried."""
        return self.chances / self.chances.sum()

    def variation(self, way: str) -> Tensor:
        """Total variation [A] of the second token from exact, given each first token; its mean under `share` is the
        total variation of the two joint tables."""
        return (self.seconds[way] - self.seconds["exact"]).abs().sum(-1) / 2

    def apart(self, way: str) -> float:
        return float((self.share * self.variation(way)).sum())


@torch.inference_mode()
def measured(board: Board, adjust, positions: tuple[int, int], temperature: float, firsts: int = FIRST) -> Pair:
    """The joint of two masked positions, the first tokens being the `firsts` likeliest. Temperature as in the run."""
    sampler, (first, second) = kernels.Sampler(temperature), positions
    embedded, angles = adjust.trunk.embed(board.ids)
    start = adjust.full_pass(embedded, angles)

    def chances(states: Tensor, position: int) -> Tensor:  # [B, V]
        at = torch.full((len(states), 1), position, device=states.device)
        return kernels.warp(read(adjust.trunk, states, at, 0.0, board.forbidden)[:, 0], sampler).softmax(-1)

    top = chances(start.hidden, first)[0].topk(firsts)
    tried = board.ids.repeat(firsts, 1)  # [A, N]
    tried[:, first] = top.indices
    embedded, _ = adjust.trunk.embed(tried)
    unchanged = chances(start.hidden, second).expand(firsts, -1)
    return Pair(positions, top.indices, top.values, {
        "exact": chances(adjust.full_pass(embedded, angles).hidden, second), "product": unchanged,
        "layer": chances(adjust.layer(start, embedded, angles), second)})


def table(board: Board, adjust, number: int, temperature: float) -> Iterator[Event]:
    """The Sample record: one step per first token, then the three tables."""
    blanks = (board.ids == board.mask_id)[0].nonzero()[:, 0].tolist()
    number = min(number, len(blanks) - 1)
    pair = measured(board, adjust, (blanks[number - 1], blanks[number]), temperature)
    page, given = Filling("sample", board.canvas, FIELDS, board.names), (board.ids != board.mask_id)[0].cpu().numpy()
    page.fill(given, board.ids[0].cpu()[given], "context")
    yield page.open(len(pair.firsts))
    for row in range(len(pair.firsts)):
        yield branch(board, page, pair, row)
    yield Close("sample", sentence(pair), charts(board, pair), facts(pair))


def branch(board: Board, page: Filling, pair: Pair, row: int) -> Emit:
    """The text with one first token written, the likeliest second one beside it, and what each way says of it."""
    first, second = pair.positions
    one, best = int(pair.firsts[row]), int(pair.seconds["exact"][row].argmax())
    page.fill(first, one, "known")
    page.fill(second, best, "new", tv=pair.variation("layer")[row])
    for way, title in WAYS.items():
        page.guess(second, pair.seconds[way][row].clamp_min(1e-30).log(), best, title, top=SECOND, measure=False)
    name = board.names(one).strip() or "space"
    return page.step(f"{row + 1}: \u201c{name}\u201d first ({float(pair.chances[row]):.0%})", level="branch")


def charts(board: Board, pair: Pair) -> tuple[Chart, ...]:
    """The three tables over the likeliest second tokens, and how far two of them are from the exact one."""
    joint = {way: pair.share[:, None] * rows for way, rows in pair.seconds.items()}  # [A, V]
    columns = joint["exact"].sum(0).topk(SECOND).indices
    rows = tuple(name(board, id) for id in pair.firsts)
    ticks = (*(name(board, id) for id in columns), "others")
    found = []
    for way, title in WAYS.items():
        inside = joint[way][:, columns]
        values = torch.cat([inside, joint[way].sum(1, keepdim=True) - inside.sum(1, keepdim=True)], 1).clamp_min(0)
        found.append(matrix(f"Joint of two masks: {title}", "second token", "first token", values, ticks, rows,
                            unit="probability"))
    apart = {title: pair.variation(way) for way, title in WAYS.items() if way != "exact"}
    return (*found, bars("Second token's distance from exact", "first token", "total variation", apart, rows))


def name(board: Board, id: Tensor) -> str:
    return board.names(int(id)).strip() or "space"


def facts(pair: Pair) -> dict[str, Fact]:
    unit = "from the exact joint"
    return {"layer": Fact("ADJUST: total variation", pair.apart("layer"), unit, "lower"),
            "product": Fact("Product of marginals: total variation", pair.apart("product"), unit, "lower"),
            "mass": Fact("First tokens tried", 100 * float(pair.chances.sum()), "% of the probability")}


def sentence(pair: Pair) -> str:
    return (f"Two neighbouring masks: drawn independently their joint distribution is {pair.apart('product'):.0%} off "
            f"(total variation), with the layer in between {pair.apart('layer'):.0%}.")

"""Two masks and their joint distribution: what tokens that are drawn in the same look do not know of each other.

A Sample record beside any way of filling in. The first token of the pair is drawn alike in all ways, so they differ in
the second one given the first: by a full pass on the text with the first token in it (exact), unchanged (the product of
marginals, which is what drawing both at once means), or by what a method puts between the two.

Letters: A first tokens that are tried, N tokens, V vocabulary, D width.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

import kernels
from models.engine.events import Close, Emit, Event
from models.engine.recording import Filling
from models.engine.recording import table as matrix
from models.loops.unmask.canvases import Board
from models.loops.unmask.loop import read
from models.trace import Chart, Fact, Field
from models.trace.percent import percent

FIRST, SECOND = 10, 8  # tokens tried at the first mask, columns of a table
FIXED = {"sample": "It compares guesses for two masks of one text; nothing is written there."}  # of a Method
EXACT, PRODUCT = "a full pass (exact)", "the unchanged guess (product)"
OPENING = "the first token"


@dataclass(frozen=True)
class Between:
    """A method's own way: what tells the second mask of the first token ("the layer"), its name, and last states
    [A, N, D] of texts [A, N]. key: of its fact."""

    key: str
    what: str
    name: str
    states: Callable[[Tensor], Tensor]

    @property
    def title(self) -> str:
        return f"{self.what} ({self.name})"


@dataclass(frozen=True, eq=False)
class Pair:
    """opening [V]: probabilities of the first token; firsts int [A], chances [A]: the top of its mass; seconds: way ->
    probabilities [A, V] of the second token."""

    positions: tuple[int, int]
    opening: Tensor
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
        return (self.seconds[way] - self.seconds[EXACT]).abs().sum(-1) / 2

    def apart(self, way: str) -> float:
        return float((self.share * self.variation(way)).sum())


@torch.inference_mode()
def measured(board: Board, model, positions: tuple[int, int], temperature: float, between: Between | None = None,
             firsts: int = FIRST) -> Pair:
    """The joint of two masked positions, the first tokens being the `firsts` likeliest. Temperature as in the run."""
    sampler, (first, second) = kernels.Sampler(temperature), positions

    def chances(states: Tensor, position: int) -> Tensor:  # [B, V]
        at = torch.full((len(states), 1), position, device=states.device)
        return kernels.warp(read(model, states, at, 0.0, board.forbidden)[:, 0], sampler).softmax(-1)

    start = model.look(board.ids)
    opening = chances(start, first)[0]
    firsts = min(firsts, len(opening))  # of a small vocabulary
    top = opening.topk(firsts)
    tried = board.ids.repeat(firsts, 1)  # [A, N]
    tried[:, first] = top.indices
    seconds = {EXACT: chances(model.look(tried), second), PRODUCT: chances(start, second).expand(firsts, -1)}
    if between:
        seconds[between.title] = chances(between.states(tried), second)
    return Pair(positions, opening, top.indices, top.values, seconds)


def joint_record(board: Board, model, number: int, temperature: float, between: Between | None = None
                 ) -> Iterator[Event]:
    """The Sample record of a blank, by its number, and the next one: a step per first token, then the tables."""
    blanks = (board.ids == board.mask_id)[0].nonzero()[:, 0].tolist()
    number = min(number, len(blanks) - 1)
    pair = measured(board, model, (blanks[number - 1], blanks[number]), temperature, between)
    fields = {"tv": Field(f"Distance from exact of {between.what if between else 'an unchanged guess'}",
                          "total variation", 0.0, 1.0)}
    page, given = Filling("sample", board.canvas, fields, board.names), (board.ids != board.mask_id)[0].cpu().numpy()
    page.fill(given, board.ids[0].cpu()[given], "context")
    yield page.open(len(pair.firsts))
    for row in range(len(pair.firsts)):
        yield branch(board, page, pair, row)
    yield Close("sample", sentence(pair, between), charts(board, pair), facts(pair, between))


def branch(board: Board, page: Filling, pair: Pair, row: int) -> Emit:
    """The text with one first token written, the likeliest second one beside it, and what each way says of it."""
    first, second = pair.positions
    one, best = int(pair.firsts[row]), int(pair.seconds[EXACT][row].argmax())
    page.fill(first, one, "known")
    page.fill(second, best, "new", tv=pair.variation(list(pair.seconds)[-1])[row])
    page.guess(first, pair.opening.clamp_min(1e-30).log(), one, OPENING, top=SECOND, measure=False)
    for way, probs in pair.seconds.items():
        page.guess(second, probs[row].clamp_min(1e-30).log(), best, way, top=SECOND, measure=False)
    said = ", ".join(f"{percent(float(probs[row, best]))} by {way}" for way, probs in pair.seconds.items())
    return page.step(f"{row + 1}: \u201c{name(board, one)}\u201d first ({percent(float(pair.chances[row]))})",
                     level="branch", note=f"then \u201c{name(board, best)}\u201d: {said}")


def charts(board: Board, pair: Pair) -> tuple[Chart, ...]:
    """The table of each way over the likeliest second tokens."""
    joint = {way: pair.share[:, None] * rows for way, rows in pair.seconds.items()}  # [A, V]
    columns, rows = joint[EXACT].sum(0).topk(SECOND).indices, tuple(name(board, id) for id in pair.firsts)
    ticks, found = (*(name(board, id) for id in columns), "others"), []
    for way, values in joint.items():
        inside = values[:, columns]
        others = (values.sum(1, keepdim=True) - inside.sum(1, keepdim=True)).clamp_min(0)
        found.append(matrix(f"Joint of two masks: {way}", "second token", "first token",
                            torch.cat([inside, others], 1), ticks, rows, unit="probability"))
    return tuple(found)


def name(board: Board, id: Tensor | int) -> str:
    return board.names(int(id)).strip() or "space"


def facts(pair: Pair, between: Between | None) -> dict[str, Fact]:
    unit, title = "total variation", "Distance from the exact joint"
    own = {between.key: Fact(title, pair.apart(between.title), unit, "lower")} if between else {}
    alone = f"The same without {between.what}" if between else title
    return {**own, "product": Fact(alone, pair.apart(PRODUCT), unit, "lower"),
            "mass": Fact("First tokens tried", 100 * float(pair.chances.sum()), "% of the probability")}


def sentence(pair: Pair, between: Between | None) -> str:
    own = f", with {between.what} in between {percent(pair.apart(between.title))}" if between else ""
    return (f"Two neighbouring masks: drawn independently their joint distribution is {percent(pair.apart(PRODUCT))} "
            f"off (total variation){own}.")

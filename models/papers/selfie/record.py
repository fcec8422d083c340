"""What a run of Selfie shows: who puts which piece into which hole (Mask), and what the summary is made of (Attend).

Letters: L patches, M holes, C pieces, E visible patches, T layers, H heads.
"""
from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import torch

from models.engine.method import Close, Emit, Event, Job, Open
from models.engine.recording import array, distribution, numbered, numbers, spread, table
from models.loops.attend.loop import TokenLayout, crossed, record
from models.loops.mask.photos import by_borders, covered
from models.loops.mask.strip import CutPhoto, letter
from models.loops.sample.cached_lm import log_probabilities
from models.papers.selfie.network import scores
from models.trace import Canvas, Cost, Fact, Field, Step, states
from models.trace.percent import percent

FIELDS = {"right": Field("Probability of the right piece", "probability", 0.0, 1.0),
          "entropy": Field("How undecided it is", "nats", 0.0)}


@torch.no_grad()
def asked(model, puzzle: CutPhoto) -> torch.Tensor:
    """a [M, C], minus infinity where a piece is not offered."""
    h = model.features(puzzle.view.pixels, puzzle.size)
    queries = model.queries(h, puzzle.visible.to(h.device), puzzle.holes.to(h.device), puzzle.size)
    found = scores(queries, model.patch_network(puzzle.strip.to(h)[None]))[0].float().cpu()
    return found.masked_fill(~torch.from_numpy(puzzle.offered), -torch.inf)


def matched(job: Job, puzzle: CutPhoto, hand: np.ndarray | None) -> Iterator[Event]:
    """The holes, what was put in by hand, by the network and by border colours, and how sure the network was."""
    began = time.perf_counter()
    found = asked(job.model, puzzle)
    cost = Cost(1, ms=(time.perf_counter() - began) * 1e3)
    picks, probs = array(found.argmax(1), int), array(log_probabilities(found).exp())  # [M], [M, C]
    apart = by_borders(puzzle.view.pixels.cpu(), puzzle.visible, puzzle.holes, puzzle.size, puzzle.strip[None])[0]
    rule = array(apart.masked_fill(~torch.from_numpy(puzzle.offered), torch.inf).argmin(1), int)
    said = {"belongs here": distribution(found, puzzle.ids, picks)}
    sure = {"right": spread(len(puzzle.places), puzzle.ids, probs[range(len(picks)), puzzle.right]),
            "entropy": spread(len(puzzle.places), puzzle.ids, numbers(found)["entropy"])}
    yield Open("mask", puzzle.canvas(), FIELDS, 4 + (hand is not None))
    yield Emit("mask", Step("the holes and the strip", puzzle.states(), picture=puzzle.sheet()))
    if hand is not None:
        yield Emit("mask", filled(puzzle, "what was chosen", hand))
    yield Emit("mask", filled(puzzle, "the network's picks", picks, cost=cost, distributions=said),
               {number: f"piece {letter(number)}" for number in range(len(puzzle.strip))})
    yield Emit("mask", filled(puzzle, "picks by border colours", rule))
    yield Emit("mask", filled(puzzle, "how sure the network is", picks, fields=sure, distributions=said))
    told = facts(puzzle, hand, picks, rule) | {
        "own": Fact("The network's probability of the right piece, mean over holes",
                    100 * float(np.nanmean(sure["right"])), "%", "higher")}
    yield Close("mask", say(puzzle, told, hand is not None), (matrix(puzzle, probs),), told)


def filled(puzzle: CutPhoto, label: str, picks: np.ndarray, **more) -> Step:
    """Real pieces of the strip in the holes: nothing is painted."""
    return Step(label, puzzle.states(picks), picture=puzzle.sheet(picks), **more)


def facts(puzzle: CutPhoto, hand: np.ndarray | None, picks: np.ndarray, rule: np.ndarray) -> dict[str, Fact]:
    def share(title: str, by: np.ndarray, better: str = "") -> Fact:
        return Fact(title, 100 * float((by == puzzle.right).mean()), "% of holes", better)
    found = {"right": share("Holes filled rightly", picks if hand is None else hand, "higher"),
             "rule": share("By border colours", rule),
             "chance": Fact("By chance", 100 / float(puzzle.offered[0].sum()), "% of holes")}
    return found if hand is None else found | {"network": share("By the network", picks)}


def say(puzzle: CutPhoto, told: dict[str, Fact], by_hand: bool) -> str:
    def of(name: str) -> str:
        return f"{round(told[name].value * len(puzzle.ids) / 100)} of {len(puzzle.ids)}"
    begin = f"By hand {of('right')} holes are filled rightly. " if by_hand else ""
    return (f"{begin}The network finds the right piece for {of('network' if by_hand else 'right')} holes, border "
            f"colours for {of('rule')}; guessing is right in {percent(told['chance'].value / 100)}.")


def matrix(puzzle: CutPhoto, probs: np.ndarray):
    rights = ", ".join(f"{letter(int(right))} in {number + 1}" for number, right in enumerate(puzzle.right))
    return table("Which piece belongs in which hole", "piece, as it lies in the strip", "hole", probs,
                 [letter(number) for number in range(len(puzzle.strip))], numbered("hole", len(puzzle.ids)),
                 unit="probability", caption=f"Each row sums to 1. Right is: {rights}.")


@torch.no_grad()
def attended(job: Job, puzzle: CutPhoto) -> Iterator[Event]:
    """What each hole's answer was read from: the start vector's attention to the visible patches, layer by layer."""
    seen, count, visible = [], puzzle.view.count, puzzle.visible[0].numpy()
    h = job.model.features(puzzle.view.pixels, puzzle.size)
    job.model.queries(h, puzzle.visible.to(h.device), puzzle.holes.to(h.device), puzzle.size, seen)
    rows = array(torch.stack([layer[0] for layer in seen]))  # [T, H, 1, E]: one start vector serves all holes
    canvas = Canvas("grid", ("",) * count, shape=puzzle.view.grid, picture=covered(puzzle.view, puzzle.ids))
    coords = np.argwhere(np.ones(puzzle.view.grid)).astype(np.float32)
    layout = TokenLayout(canvas, np.arange(count), coords, "patches")
    given = rows.mean((0, 1, 2))  # [E]
    row, column = coords[visible[given.argmax()]].astype(int) + 1
    names = np.where(np.isin(np.arange(count), visible), "visible", "masked-random")
    yield from record(layout, crossed(layout, rows.repeat(len(puzzle.ids), 2), puzzle.ids, visible), state=states(
        *names), sentence="One vector sums up the visible patches for all holes: whichever hole is pointed at, the "
        f"same patches were looked at. Row {row}, column {column} is given most: {percent(given.max())} of the "
        "attention, over all layers and heads.")

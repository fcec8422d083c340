"""scan-and-snap's claim: attention leaves common words, keeps the order, and freezes; a frozen decoder moves nothing.

An item is a set of facts (two topics and the shuffle that says which of their words is how common), a run a training
of it with texts of its own; every arm has the same sets and the same texts.
"""
from __future__ import annotations

from functools import partial

import numpy as np
import torch

from models.checkpoints.store import load
from models.claims import Lab
from models.claims.harness import Budget, Claim, Metric, Quantity, at_least, at_most, better, conclude, context
from models.papers.scan_and_snap.network import SnapTraining, roughened
from models.papers.scan_and_snap.record import AttentionHistory
from models.worlds.topics import TOPICS, VERBS, fact_set

NAME, STEPS, SETS, TRAININGS = "facts-scan-1", 100, 20, 10
TWO, SIX = (1, 1), (2, 2, 2)  # topics of each verb: the figure's setting, and that of the paper's entropy figure


def measure(lab: Lab) -> Claim:
    """Trainings of the paper's figure and of its entropy figure, item by item."""
    runs = lab.size(TRAININGS, 2)
    told = partial(trainings, runs, lab.size(SETS, 2), steps=lab.size(STEPS, 20))
    learnt, frozen, shared = (told(**options) for options in ({}, {"frozen": True}, {"share": True}))
    mass = Metric("attention on the ten common words", "of 1", "lower", floor=10 / 15.5, ceiling=0.0)
    gain = Metric("attention of the topic's commonest word, end over start", "x", "higher", floor=0.0, ceiling=15.5)
    spread = Metric("attention entropy at the end", "nats", "higher", floor=0.0, ceiling=float(np.log(20)))
    scan, still = (mass.arm(name, runs=of(found, lambda one: one.common[-1]), **ARM)
                   for name, found in (("learns", learnt), ("decoder frozen", frozen)))
    alone, everywhere = (gain.arm(name, runs=of(found, commonest), **ARM)
                         for name, found in (("in one fact", learnt), ("in both facts", shared)))
    even, fast = (spread.arm(f"decoder {ratio:g} times as fast", runs=of(
        told(topics=SIX, ratio=ratio, small=True), lambda one: one.entropy[-1]), **ARM) for ratio in (1.0, 10.0))
    return conclude(
        "scan-and-snap", paper="Attention is even at first, leaves tokens that come with many next tokens, drops the "
        "others from low to high co-occurrence, and slows down in a phase transition that the two learning rates "
        "control; it is not winner-takes-all (abstract, without numbers).",
        here="With two facts, texts of 128 words and both rates at 1, attention on the common words falls by 0.15, the "
        "words of a topic gain in the order in which they come with it (0.9), 80 % of the change is made in the first "
        "half of the steps, and no word gets half of the attention; a word put into both facts loses what it gained "
        "alone; with six facts a ten times faster decoder leaves attention 0.1 nats more even.",
        arms=(scan, still, alone, everywhere, even, fast), trainings=runs, seeds=tuple(range(runs)),
        expect=[better(scan, still, 0.15, bar="ours"),
                at_least(worst("order: co-occurrence against gain", "rank correlation", learnt, lambda one: one.rho,
                               -1.0, 1.0), 0.9),
                at_least(worst("change made in the first half of the steps", "of 1", learnt,
                               lambda one: one.first_half, 0.0), 0.8),
                at_most(worst("largest attention of one word", "of 1", learnt, lambda one: one.c[-1].max(), 0.05, 1.0,
                              np.max), 0.5),
                at_least(worst("least gain of a word above the median co-occurrence", "x", learnt, upper, 0.0), 1.0),
                better(alone, everywhere, bar="paper: common tokens lose attention"),
                better(fast, even, 0.1, bar="paper: Figure of entropies; 0.1 nats is ours")],
        context=[context("attention moved by, decoder frozen", float(max(one.reach for row in frozen for one in row)),
                         "of 1", "an identity: a decoder of zeros sends nothing back"),
                 context("attention on the common words, texts of 16 words", np.mean(of(
                     told(length=16), lambda one: one.common[-1]), 0), "of 1",
                     "short texts, where the draw itself moves attention")])


ARM = {"budget": Budget(STEPS, "iterations"), "checkpoints": NAME}


def trainings(runs: int, sets: int, **options) -> list[list[AttentionHistory]]:
    """Finished ones [T][K]."""
    return [[trained(item, run, **options) for item in range(sets)] for run in range(runs)]


def trained(item: int, run: int, steps: int, *, topics=TWO, share: bool = False, small: bool = False,
            length: int = 128, ratio: float = 1.0, frozen: bool = False) -> AttentionHistory:
    order = np.random.default_rng(item)
    verbs = [verb for verb, count in zip(VERBS, topics) for _ in range(count)]
    world = fact_set(list(zip(verbs, order.permutation(list(TOPICS)))), share=share, order=order)
    net = load(NAME).model.beginning(len(world.words))
    dice = torch.Generator().manual_seed(1_000_003 * run + item)
    if small:
        roughened(net, dice)
    live = SnapTraining(net, world, length=length, rate=1.0, ratio=ratio, dice=dice, frozen=frozen)
    c = [live.attention()]
    for _ in range(steps):
        live.step()
        c.append(live.attention())
    return AttentionHistory(world, torch.stack(c).numpy())


def of(found: list[list[AttentionHistory]], what) -> np.ndarray:
    """A number of every training [T, K]."""
    return np.array([[what(one) for one in row] for row in found], np.float64)


def worst(name: str, unit: str, found, what, floor: float, ceiling: float | None = None, of_all=np.min) -> Quantity:
    """Its worst over the trainings of each item [K], so that every training must pass a bar on the mean."""
    return Quantity(f"{name}, worst training", of_all(of(found, what), 0), unit, floor=floor, ceiling=ceiling)


def commonest(one: AttentionHistory) -> float:
    """Of the first topic's commonest word, which is the shared one where one is shared."""
    return one.growth[0, one.often[0].argmax()]


def upper(one: AttentionHistory) -> float:
    return one.growth[one.often > np.median(one.often)].min()

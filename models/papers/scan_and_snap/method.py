"""Scan and Snap (arXiv 2305.16380): a one-layer transformer learns while you watch; attention scans, then snaps.

The paper's model (network.py) and generator (models/worlds/topics.py), nothing scaled down: both tables begin at zero,
plain SGD with momentum 0.9 and a rate each moves them, every step on 128 fresh texts. What is shown is, before each
fact (m, n), c[l] = p(l | m, n) exp(Z[m, l]) / sum: the attention a word gets, expected over texts, from Z itself.
"""
from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from models.engine.method import Card, Close, Control, Emit, Event, Job, Method, Open
from models.papers.scan_and_snap.network import BATCH, SnapTraining, roughened
from models.papers.scan_and_snap.record import FIELDS, AttentionHistory, SnapRecord, canvas, charts, facts
from models.trace import Cost
from models.trace.params import Choice, Flag, Span
from models.trace.subject import Example
from models.worlds.topics import FactSet, fact_set, facts_of

PATH = "plain torch (no statistics)"


@dataclass(frozen=True)
class Params:
    length: Annotated[int, Span(16, 256, 8, "Length of a text", "The theory is about long texts; in short ones the "
                                "luck of the draw moves attention as well.", unit="words")] = 128
    rate: Annotated[float, Span(0.1, 3.0, 0.1, "Learning rate of attention", "eta_Z of the paper.")] = 1.0
    ratio: Annotated[float, Span(0.2, 10.0, 0.2, "Decoder's rate", "eta_Y over eta_Z: a faster decoder has learned the "
                                 "facts before attention has gone far.", unit="times attention's")] = 1.0
    steps: Annotated[int, Span(20, 400, 10, "Iterations", "Steps of SGD, each on 128 fresh texts.")] = 100
    share: Annotated[bool, Flag("Put one word into all facts", "The first topic's commonest word comes with the other "
                                "topics as well. Nothing else changes: it is as frequent as before.")] = False
    distinct: Annotated[int, Span(4, 12, 1, "Words of a topic", fold=True)] = 10
    least: Annotated[float, Span(0.05, 1.0, 0.05, "Weight of a topic's rarest word", "Against the commonest, which is "
                                 "as frequent as a common word.", fold=True)] = 0.1
    permute: Annotated[bool, Flag("Shuffle which word is how common", fold=True)] = False
    start: Annotated[str, Choice(("zero", "small"), "Start", titles=("zeros", "small random numbers"), fold=True)
                     ] = "zero"
    decoder: Annotated[str, Choice(("learns", "frozen"), "Decoder", "Frozen, it never says which words help.",
                                   titles=("learns", "stays at zero"), fold=True)] = "learns"


def world_of(job: Job) -> FactSet:
    order = np.random.default_rng(job.seed) if job.params.permute else None
    p = job.params
    return fact_set(facts_of(job.subject.text), p.distinct, p.least, share=p.share, order=order)


def training(job: Job, world: FactSet):
    """A network of its own, so that the loaded one stays as it is, and its training."""
    p, net, frozen = job.params, job.model.beginning(len(world.words)), job.params.decoder == "frozen"
    if p.start == "small":
        roughened(net, job.generator(1), decoder=not frozen)
    return SnapTraining(net, world, length=p.length, rate=p.rate, ratio=p.ratio, dice=job.generator(), frozen=frozen)


def run(job: Job) -> Iterator[Event]:
    """One step of the record per step of SGD."""
    world = world_of(job)
    live, watch = training(job, world), SnapRecord(world)
    yield Open("attend", canvas(world), FIELDS, job.params.steps + 1)
    yield Emit("attend", watch.step(live.attention().numpy(), Cost()))
    for _ in range(job.params.steps):
        began = time.perf_counter()
        live.step()
        cost = Cost(1, BATCH, live.macs, ms=(time.perf_counter() - began) * 1000)
        yield Emit("attend", watch.step(live.attention().numpy(), cost))
    found = AttentionHistory(world, np.stack(watch.c))
    yield Close("attend", sentence(found), charts(found, watch.ranked), facts(found), path=PATH)


def sentence(found: AttentionHistory) -> str:
    """What happened in this run, from its own numbers."""
    first, last = 100 * found.common[0], 100 * found.common[-1]
    if found.reach < 1e-6:
        return (f"Attention does not move: {first:.0f} % stay on the common words, because a decoder that says nothing "
                "cannot tell attention which words help.")
    rank = f", ranks the others by how often they come with the topic (rank correlation {found.rho:.2f})" * bool(
        np.isfinite(found.rho))
    still = "and is still moving" if found.snap is None else f"and freezes from iteration {found.snap} on"
    world, told = found.world, ""
    if world.shared is not None:
        told = f" “{world.words[world.shared]}” is as frequent as ever, but says nothing about what follows any more."
    return (f"Attention {'leaves' if last < first else 'gathers on'} the common words ({first:.0f} % to {last:.0f} %)"
            f"{rank} {still}.{told}")


METHOD = Method(
    bound="it begins from zeros and learns while it runs",
    card=Card(
        id="scan-and-snap", title="Scan and Snap", tabs=("attend",), arxiv="2305.16380", year=2023, seed="B",
        grade="trained in this run",
        summary="A one-layer transformer learns facts while you watch. Attention begins even, leaves words that come "
                "with everything, ranks the others by how often they come with the topic, and then freezes.",
        flow="text > *attention, a table of word pairs > mix of its words, of length 1 > *decoder, a second table > "
             "next word; next word ~> *decoder, a second table; *decoder, a second table ~> *attention, a table of "
             "word pairs",
        look_at="Play the iterations: the first line of words fades, the end of each topic's line gains. Then put one "
                "word into all facts: its attention collapses although it comes as often as before.",
        not_covered="The paper's multi-layer remarks and its WikiText curves; common words of one query only.",
        unverified="The words are ours, so that facts can be read; how often they come is the reference generator's: "
                   "common words weigh 1 each, a topic's own from 0.1 to 1 in even steps, drawn independently. What "
                   "you see is trained in this run: the checkpoint holds two tables of zeros, the paper's start. The "
                   "size of the small random start (0.01) and a word in all facts keeping its weight are our reading."),
    params=Params, accepts="facts", checkpoints=("facts-scan-1",), run=run,
    control=Control(params={"decoder": "frozen"}, title="Scan and Snap, its decoder frozen"),
    fixed={"attend": "It has one layer without heads and its words are drawn: change the facts or the rates instead."},
    examples=(
        Example("two", "Two facts", "drink tea, sail ship"),
        Example("six", "Three verbs, two topics each",
                "make tea, make bread, watch ship, watch snow, love music, love garden"),
        Example("four", "One verb, four topics", "love tea, love ship, love snow, love music"),
    ))

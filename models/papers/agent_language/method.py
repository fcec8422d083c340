"""Why do AI agents communicate in human language? (arXiv 2506.02739): a position paper, put to a small test of our own.

The paper argues, without an algorithm or a number, that words lose what models know and let it drift. Here a board is
told by the same network in words, soft words, codes or vectors, over several hops (telling.py), to receivers that see
the message alone. World, network, channels, question and bars are ours.
"""
from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import torch

from models.engine.method import Card, Control, Event, Job, Method
from models.papers.agent_language.telling import CHANNELS, Channel, words
from models.trace import Cost
from models.trace.params import Choice, Span
from models.trace.subject import Example, SubjectError
from models.worlds import discs

BASE = "algo-discs-1"
FILES = {"vectors": "algo-discs-vectors-frozen-1", "bits": "algo-discs-bits-frozen-1",
         "trained-words": "algo-discs-words-1", "trained-bits": "algo-discs-bits-1",
         "trained-vectors": "algo-discs-vectors-1"}  # what was trained for a channel


@dataclass(frozen=True)
class Params:
    channel: Annotated[str, Choice(tuple(CHANNELS), "Sent as", "A word or one of 16 vectors is 4 bits.",
                                   titles=tuple(CHANNELS.values()))] = "trained-vectors"
    slots: Annotated[int, Span(2, 6, 2, "Length of a message", "Two words tell one disc.", unit="slots")] = 4
    hops: Annotated[int, Span(1, 8, 1, "Hops", "Each receiver tells on what it was told.", unit="receivers")] = 4


def channel(name: str, base, loaded) -> Channel:
    """The channel of this name. base: the network nobody trained further; loaded: name of a checkpoint -> network."""
    if name not in FILES:
        return words(base, soft=name == "soft")
    network, trained = loaded(FILES[name]), name.startswith("trained")
    if name == "trained-words":
        return words(network, trained=True)
    through = network.channel if trained else network
    return Channel(network if trained else base, lambda state, logits: through(state), trained)


@torch.inference_mode()
def run(job: Job) -> Iterator[Event]:
    from models.papers.agent_language.record import recorded

    try:
        board, p = discs.read(job.subject.text), job.params
    except ValueError as error:
        raise SubjectError(f"This needs a board such as “{discs.told((0, 1) * 6)}”: {error}.") from error
    lines = {name: channel(name, job.model, lambda of: job.companion(of).model) for name in CHANNELS}
    first = {name: line.chain([board], p.slots, 1)[0] for name, line in lines.items()}
    began, chain = time.perf_counter(), lines[p.channel].chain([board], p.slots, p.hops)
    cost = Cost(p.slots + 1, ms=(time.perf_counter() - began) * 1e3 / p.hops)
    yield from recorded(job, board, chain, first, lines[p.channel].table, cost)


METHOD = Method(
    bound="its networks were trained on boards of discs",
    card=Card(
        id="agent-language", title="Words or vectors between agents", tabs=("sample",), arxiv="2506.02739", year=2025,
        seed="B",
        summary="The paper argues that agents lose what they know when they talk in words, and drift; it has no "
                "algorithm and no experiment. Our test: one small network tells a board to the next in words, soft "
                "words, codes or vectors.",
        flow="board > sender > *words, soft words, codes or vectors > receiver > board as it knows it; receiver ~> "
             "sender",
        look_at="What arrives from four slots. Trained vectors tell more than words, and send 768 times the bits: "
                "one of 16 vectors, 4 bits as a word, is equal terms; training harmed both. What is left after hops?",
        not_covered="The paper's third point, roles that hold over a conversation; large models and real language; "
                    "several trainings; more than 4 bits a slot. The opening board was picked: vectors tell far more "
                    "of it than of a board on average (see the claim).",
        unverified="The argument is the paper's: misaligned spaces, loss, drift. All else is our construction: boards, "
                   "networks, channels, what counts as known, the bars.",
        states={"sample": {"new": "the message", "accepted": "known rightly", "refused": "sure of a wrong disc",
                           "known": "not known for sure"}}),
    params=Params, accepts="text", checkpoints=(BASE,), companions=tuple(FILES.values()), run=run,
    control=Control(params={"channel": "words"}, title="The same, told in words"),
    fixed={"sample": "Messages follow from the board: change a disc and run it again."},
    examples=(Example("lone", "One red disc among blue ones", discs.told((1, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1))),
              Example("mixed", "Discs at random", discs.told((2, 0, 3, 1, 0, 0, 2, 3, 1, 2, 1, 3)))))

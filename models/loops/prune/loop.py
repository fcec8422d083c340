"""Prune: reads a prompt and writes an answer while tokens leave between layers, and records who was where.

A method gives the loop a policy (models/loops/prune/forward.py): the rates, the score by which tokens leave, and
whether they may come back. The record has one step per written token, and under it one sheet per layer.

Letters: N canvas tokens (prompt, then written), L layers (from 0; shown from 1), S alive, T written tokens.
"""
from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol

import numpy as np

import kernels
from models.backbones.text import Reading, names, read, room
from models.engine.method import Event, Job, Open
from models.loops.prune.forward import KeepPolicy, Pass, Pruner
from models.loops.prune.layer_steps import FIELDS, TOP, Notes, sheets
from models.loops.prune.summary import by_hand, close
from models.trace import Canvas
from models.trace.params import Choice, ParamError, Span
from models.worlds.retrieval import truth


@dataclass(frozen=True)
class Cuts:
    """Where and how much is cut: the parameters that all methods of this tab share. Defaults compute 69 % of the
    (token, layer) work of a prompt on six layers; a sweep chose their places (models/papers/lazyllm/NOTES.md): on the
    shipped checkpoint the layer before the second cut ranks badly. 0.5 three times, "early", computes 50 %."""

    first: Annotated[float, Span(0.0, 0.9, 0.05, "First cut", "Fraction of the tokens there that leave.",
                                 "of tokens")] = 0.55
    second: Annotated[float, Span(0.0, 0.9, 0.05, "Second cut", "Of those that are left by then.", "of tokens")] = 0.0
    third: Annotated[float, Span(0.0, 0.9, 0.05, "Third cut", "Of those that are left by then.", "of tokens")] = 0.5
    length: Annotated[int, Span(1, 40, 1, "Answer length", "Writing stops earlier at the end of a text.",
                                "tokens")] = 8
    where: Annotated[str, Choice(
        ("late", "early"), "Where the cuts stand",
        "Late: after 1/2, 2/3 and 5/6 of the layers. Early: after 1/3, 1/2, 2/3. Later cuts hurt less and save less.",
        ("late", "early"), fold=True)] = "late"
    rounds: Annotated[int, Span(1, 9, 1, "Timing rounds", "How often the first token is timed in turn with the full "
                                "model's. From 5 on the time is shown, with its spread.", "rounds", fold=True)] = 1


def rates(cuts: Cuts, layers: int) -> tuple[float, ...]:
    """Fraction cut after each of L layers. On few layers two cuts may meet; both are then made."""
    sixths = (3, 4, 5) if cuts.where == "late" else (2, 3, 4)
    keep = [1.0] * layers
    for sixth, rate in zip(sixths, (cuts.first, cuts.second, cuts.third)):
        keep[max(layers * sixth // 6, 1) - 1] *= 1 - rate
    return tuple(1 - k for k in keep)


def survivors(cuts: Cuts, layers: int, count: int) -> list[int]:
    """How many of `count` prompt tokens are alive at each layer of the first step."""
    alive = [count]
    for rate in rates(cuts, layers)[:-1]:
        alive.append(alive[-1] - int(rate * alive[-1] + 1e-9))
    return alive


class Watcher(Protocol):
    """Makes another tab's record from the same run: events at its start, after each written token, and at its end."""

    def start(self, canvas: Canvas, layers: int) -> Iterator[Event]: ...
    def step(self, now: Pass, notes: Notes) -> Iterator[Event]: ...
    def end(self) -> Iterator[Event]: ...


def generate(job: Job, make: Callable[[int], KeepPolicy], watchers: Sequence[Watcher] = ()) -> Iterator[Event]:
    """The events of a Prune record. make(layers) builds a fresh policy; watchers add records of other tabs."""
    layers, length = job.model.config.num_hidden_layers, job.params.length
    ids = (text := read(job.tokenizer, job.subject.text, reach(job.model) - length).before_more()).ids
    notes = Notes(turns(job.subject.text, text), np.zeros((layers, len(ids) + length), np.int32))
    reachable([one.at for one in job.interventions.kept], len(ids))
    policy = by_hand(make(layers), job, len(notes.reads))
    pruner = Pruner(job.model, policy, len(ids) + length, watch=True)
    canvas = lay_out(job.subject.text, text, length)
    yield Open("prune", canvas, FIELDS, (len(notes.reads) - 1 + length) * (layers + 1))
    for watcher in watchers:
        yield from watcher.start(canvas, layers)
    for step in range(len(notes.reads) - 1 + length):
        now = pruner.advance(notes.reads[step] if step < len(notes.reads) else notes.written[-1:])
        stats = kernels.vocab_stats(pruner.logits(now.hidden)[0], top_k=TOP)
        if step >= len(notes.reads) - 1:
            notes.written.append(int(stats.top_ids[0, 0]))  # greedy
        yield from sheets(job, pruner, notes, now, stats)
        for watcher in watchers:
            yield from watcher.step(now, notes)
        if finished(job, notes.written):
            break
    yield close(job, make, pruner, notes)
    for watcher in watchers:
        yield from watcher.end()


def reachable(kept: Sequence[int], count: int) -> None:
    """ParamError for a token kept by force that the prompt does not have."""
    for at in kept:
        if at >= count:
            raise ParamError(f"there is no token {at} in this prompt of {count}; please keep one of 0 to {count - 1}")


def reach(model) -> int:
    """How many tokens can all see each other: the network's room, or the window of layers that have one."""
    window, kinds = getattr(model.config, "sliding_window", None), getattr(model.config, "layer_types", None)
    slides = window and (kinds is None or "sliding_attention" in kinds)
    return min(room(model), window) if slides else room(model)


def turns(text: str, found: Reading) -> list[list[int]]:
    """The prompt in the pieces in which it is read: a new one after every "Answer:" behind which another question
    follows, so that it arrives when the first has been answered. An answer that is only begun is read with the rest."""
    ends = [m.end() for m in re.finditer(r"Answer:", text) if "Question:" in text[m.end():]]
    starts = sorted({0, len(found), *(sum(first < end for first, _ in found.spans) for end in ends)})
    return [list(found.ids[a:b]) for a, b in zip(starts, starts[1:])]


def finished(job: Job, written: list[int]) -> bool:
    """The end of a text; and, where one answer is asked for, the end of its sentence."""
    if not written or written[-1] == job.tokenizer.eos_token_id:
        return bool(written)
    ended = any(mark in names(job.tokenizer, written[-1:])[0] for mark in ".\n")
    return ended and len(written) > 1 and truth(job.subject.text) is not None


def lay_out(text: str, found: Reading, length: int) -> Canvas:
    """The prompt's tokens, then room for the answer. roles: as a text is read, needed (says the answer), asked, answer.
    """
    return Canvas("text", found.labels + ("",) * length, roles=tuple(roles(text, found)) + ("answer",) * length)


def roles(text: str, found: Reading) -> list[str]:
    """Role of each prompt token, by the characters it covers."""
    known = truth(text)
    if known is None:
        return list(found.roles)
    (first, last), asked = known[1], text.rindex("Question:")
    return [role or ("needed" if a < last and b > first else "asked" if b > asked else "")
            for role, (a, b) in zip(found.roles, found.spans)]

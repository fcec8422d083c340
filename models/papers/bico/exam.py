"""Who is known for what, asked in both directions: questions of one person or of a whole group, and their answers.

Letters: K questions, A words of an answer.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

import kernels
from models.worlds.tales import facts
from models.worlds.tales.facts import GROUPS, KNOWN_FOR, Known
from models.worlds.tales.forms import fill, plain
from models.worlds.world import END, PAD

AHEAD, BACK = "name to work", "work to name"
TOLD = {"A": AHEAD, "B": BACK, "C": None}  # the one direction in which a group is said; C: both
KEPT = {AHEAD: (facts.AHEAD[7], facts.AHEAD[11]), BACK: facts.BACK[10:]}  # sentences that are asked and never told
ASKED = {AHEAD: (*facts.ASKED_AHEAD, *KEPT[AHEAD]), BACK: (*facts.ASKED_BACK, *KEPT[BACK])}
SAID = {AHEAD: tuple(form for form in facts.AHEAD if form not in KEPT[AHEAD]), BACK: facts.BACK[:10]}
TOLD = {"A": AHEAD, "B": BACK, "C": None}  # the one direction in which a group is said; C: both
PEOPLE = {"A": GROUPS["A"][:40], "B": GROUPS["B"][:20], "C": GROUPS["C"]}  # who is told of


class OpenSentence(NamedTuple):
    prompt: str
    answer: str


def cut(known: Known, way: str, form: str) -> OpenSentence:
    """A sentence that stops before its second half, or a question; behind the article of a work, as all clozes here."""
    slot, answer = ("work", known.work.removeprefix("the ")) if way == AHEAD else ("name", known.name)
    before = form if form.endswith("?") else form[: form.rindex(f"{{{slot}}}")].strip()
    article = (" The" if form.endswith("?") else " the") * (way == AHEAD)
    return OpenSentence(fill(before, name=known.name, work=known.work) + article, answer)


def questions(group: Sequence[Known], way: str, forms: Sequence[str]) -> list[OpenSentence]:
    """Of every person in every form, a person's forms together."""
    return [cut(known, way, form) for known in group for form in forms]


def person(text: str) -> Known | None:
    """The first of the 300 people whom a text names, or whose work."""
    words = f" {plain(text)} ".lower()
    return next((one for one in KNOWN_FOR if f" {one.name} ".lower() in words or f" {one.work} " in words), None)


class Answered(NamedTuple):
    """right [K]: whether the likeliest words are the answer, word for word. logp [K]: of the whole answer, in nats.
    rank [K]: of its first word."""

    right: np.ndarray
    logp: np.ndarray
    rank: np.ndarray


@torch.no_grad()
def answered(model, encode, asked: Sequence[OpenSentence], at_once: int = 64) -> Answered:
    """How a causal network answers, read as it is: from the left, nothing hidden."""
    found = [_some(model, encode, asked[first : first + at_once]) for first in range(0, len(asked), at_once)]
    return Answered(*(np.concatenate(part) for part in zip(*found, strict=True)))


def _some(model, encode, asked: Sequence[OpenSentence]) -> tuple[np.ndarray, ...]:
    rows = [([END, *encode(one.prompt)], encode(one.answer)) for one in asked]
    ids = torch.full((len(rows), max(len(p) + len(a) for p, a in rows)), PAD, device=model.device)
    for row, (prompt, answer) in zip(ids, rows, strict=True):
        row[: len(prompt) + len(answer)] = torch.tensor([*prompt, *answer])
    logits, made = model(ids, use_cache=False).logits.float(), []
    for one, (prompt, answer) in zip(logits, rows, strict=True):
        here, wanted = one[len(prompt) - 1 : len(prompt) + len(answer) - 1], torch.tensor(answer, device=one.device)
        stats = kernels.vocab_stats(here, top_k=1, chosen=wanted)
        made.append((float(torch.equal(here.argmax(-1), wanted)), float(stats.chosen_logp.sum()),
                     1.0 + float((here[0] > here[0, wanted[0]]).sum())))
    return tuple(np.array(part) for part in zip(*made, strict=True))

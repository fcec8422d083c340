"""The exam: held-out belief stories, one question of each order, and the same story with more and more infills.

Half of the questions of each order are answered by where the thing really is, half are not, so that whoever answers
with what he knows himself is right every second time. The thing is never where it was at first.
"""
from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from models.claims.tale_lab import encoded, read
from models.trace.subject import SubjectError
from models.worlds.tales import beliefs
from models.worlds.tales.forms import fill, match, one, plain
from models.worlds.world import END, held_out

LEVELS = (0, 2, 4, 8)  # infills, as in the exam
TRIES = 1000
SLOT = "In the"  # what stands before the answer, which is one word
AT_ONCE = 128  # prompts


@dataclass(frozen=True)
class BeliefItem:
    """A story, a question and its one-word answer; own: where the thing really is, first: where it was at first."""

    told: tuple[str, ...]
    question: str
    kind: str
    who: str
    whom: str
    answer: str
    own: str
    first: str

    @property
    def order(self) -> int:
        return beliefs.ORDER[self.kind]

    def prompt(self, told: Sequence[str] = ()) -> str:
        return f"{' '.join(told or self.told)} {self.question} {SLOT}"


def exam(seed: int, count: int, names=beliefs.TRAINED_NAMES, objects=beliefs.TRAINED_OBJECTS, forms=beliefs.ASKED
         ) -> list[tuple[BeliefItem, ...]]:
    """`count` times a question of order 0, 1 and 2, each with a story of its own that no training reads; in every
    second one what is asked for is not where the thing is."""
    return [tuple(next(_asked(np.random.default_rng((seed, number, order)), order, bool(number % 2), names, objects,
                              forms)) for order in range(3)) for number in range(count)]


def _asked(rng: np.random.Generator, order: int, apart: bool, names, objects, forms) -> Iterator[BeliefItem]:
    while True:
        told = beliefs.story(rng, names, objects, 0)
        minds, _ = beliefs.tracked(" ".join(told))
        found = [one_ for one_ in beliefs.askable(minds) if beliefs.ORDER[one_[0]] == order and
                 (minds.answer(*one_) != minds.now) == apart]
        if not found or minds.now == minds.first:
            continue
        kind, who, whom = one(rng, found)
        item = BeliefItem(tuple(told), fill(forms[kind], thing=minds.thing, who=who, whom=whom), kind, who, whom,
                          minds.answer(kind, who, whom), minds.now, minds.first)
        if held_out(f"{' '.join(told)} {item.question}"):
            yield item


def item_of(text: str) -> BeliefItem:
    """A visitor's story and its question; SubjectError says what cannot be read."""
    found = re.findall(r"[^.?]+[.?]", " ".join(text.split()).removesuffix(SLOT))
    told, question = [piece.strip() for piece in found[:-1]], "".join(found[-1:]).strip()
    strange = [one_ for one_ in told if not beliefs.kind_of(one_) and one_ not in beliefs.INFILLS]
    minds, asked = beliefs.tracked(f"{' '.join(told)} {question}")
    if strange or len(asked) != 1:
        what = f"the sentence \u201c{strange[0][:60]}\u201d" if strange else "one question at its end"
        raise SubjectError(f"This needs a story as in the examples: please look at {what}.")
    kind, slots, _ = asked[0]
    who, whom = slots.get("who", ""), slots.get("whom", "")
    absent = [at for at, sentence in enumerate(told) for act in ("moves", "leaves")
              if (does := match(beliefs.SAID[act], plain(sentence)))
              and does["who"] not in beliefs.tracked(" ".join(told[:at]))[0].inside]
    answer = minds.answer(kind, who, whom)
    if absent or not answer or slots["thing"] != minds.thing:
        raise SubjectError("Nobody can know that in this story: who moves a thing or leaves must be in the room, and "
                           "the question must be about the people and the thing of the story.")
    return BeliefItem(tuple(told), question, kind, who, whom, answer, minds.now, minds.first)


def with_infills(item: BeliefItem, count: int, seed: int) -> list[str]:
    """The story with so many sentences that change nothing."""
    return beliefs.filled(np.random.default_rng((seed, count, crc32(item.prompt().encode()))), item.told, count)


def unread(item: BeliefItem, count: int, seed: int) -> list[str]:
    """The same such that no training reads it; with one infill there is none (world.held_out adds up letters)."""
    if count == 1:
        raise ValueError("with one infill no story is kept out of training")
    tries = (with_infills(item, count, seed + TRIES * number) for number in range(TRIES))
    return next(told for told in tries if held_out(f"{' '.join(told)} {item.question}"))


@torch.no_grad()
def answers(model, tokenizer, prompts: Sequence[str]) -> Tensor:
    """Logits [K, V] at the answer of each prompt; those of about one length are read together."""
    rows = [[END, *encoded(tokenizer, prompt)] for prompt in prompts]
    order = sorted(range(len(rows)), key=lambda at: len(rows[at]))
    parts = [[rows[i] for i in order[at : at + AT_ONCE]] for at in range(0, len(rows), AT_ONCE)]
    found = torch.cat([torch.stack([one[-1] for one in read(model, part)]) for part in parts])
    return found[torch.tensor(order).argsort()]


def words(tokenizer, places: Sequence[str]) -> Tensor:
    """The one token [K] that each answer is."""
    found = [encoded(tokenizer, f"{SLOT} {place}")[len(encoded(tokenizer, SLOT)) :] for place in places]
    if any(len(ids) != 1 for ids in found):
        raise ValueError("an answer of more than one token cannot be read off one distribution")
    return torch.tensor(found)[:, 0]


def right(tokenizer, logits: Tensor, items: Sequence[BeliefItem]) -> np.ndarray:
    """Whether the likeliest word is the answer [K]; no temperature changes that."""
    return (logits.argmax(-1).cpu() == words(tokenizer, [item.answer for item in items])).numpy().astype(float)

"""Reach-the-target puzzles: a sign before each number but the first, so that they sum to the target. A thought tries
signs one by one, goes back to the start where the rest can no longer reach the target, and answers what hit it.

    7 5 3 9 2 to 4 : + 12 + 15 + 24 back - 2 - -1 ... hit answer - + ...

Behind every sign stands the total so far. A way is dead, "back", as soon as the target lies further off than the
numbers that are left sum to, so a miss at the last number is dead, too. Short solutions have no dead way, long ones up
to three; some are an answer alone. Signs, words and numbers, each one token, have spaces around them.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, product
from typing import NamedTuple

import numpy as np

from models.worlds.world import Doc, World

COUNT, LARGEST, MOST_DEAD = 5, 12, 3  # numbers of a puzzle, the largest, and dead ways before the solution
DIRECT = 0.4  # of the documents give a right answer without any thought
SIGNS = {"+": 1, "-": -1}
WORDS = ("to", ":", *SIGNS, "back", "hit", "answer", *map(str, range((1 - COUNT) * LARGEST, COUNT * LARGEST + 1)))
WAYS = tuple(product(SIGNS, repeat=COUNT - 1))
PATTERN = f"{COUNT} numbers from 1 to {LARGEST} and a target, such as \"7 5 3 9 2 to 4 :\""


class Puzzle(NamedTuple):
    numbers: tuple[int, ...]
    target: int

    @property
    def prompt(self) -> str:
        return f"{' '.join(map(str, self.numbers))} to {self.target} :"

    def totals(self, way: Sequence[str]) -> list[int]:
        """The total behind each sign of a way, which may be the beginning of one."""
        signed = (SIGNS[sign] * number for sign, number in zip(way, self.numbers[1:]))
        return list(accumulate(signed, initial=self.numbers[0]))[1:]

    def dead(self, way: Sequence[str]) -> bool:
        """Whether the target can no longer be reached."""
        off = abs(self.target - self.totals(way)[-1])
        return off > sum(self.numbers[len(way) + 1 :])

    def hits(self, way: Sequence[str]) -> bool:
        return len(way) == COUNT - 1 and set(way) <= set(SIGNS) and self.totals(way)[-1] == self.target

    @property
    def solutions(self) -> list[tuple[str, ...]]:
        return [way for way in WAYS if self.hits(way)]

    @property
    def chance(self) -> float:
        """The share of all ways that hit."""
        return len(self.solutions) / len(WAYS)


def puzzle(rng: np.random.Generator) -> Puzzle:
    """One that has a solution, with a target of 0 or more."""
    while True:
        numbers = tuple(int(number) for number in rng.integers(1, LARGEST + 1, size=COUNT))
        target = Puzzle(numbers, 0).totals(WAYS[int(rng.integers(len(WAYS)))])[-1]
        if target >= 0:
            return Puzzle(numbers, target)


def thought(asked: Puzzle, ways: Sequence[Sequence[str]]) -> str:
    """These ways one after the other, each up to where it is dead, and the answer: the last, which hits."""
    said = []
    for way in ways:
        for at, (sign, total) in enumerate(zip(way, asked.totals(way)), 1):
            said += [sign, str(total)]
            if asked.dead(way[:at]):
                said.append("back")
                break
    return " ".join([*said, "hit", "answer", *ways[-1]])


def sample(rng: np.random.Generator, most: int = MOST_DEAD, direct: float = DIRECT) -> Doc:
    """A puzzle and a thought with 0 to `most` dead ways, or the answer alone."""
    asked = puzzle(rng)
    right = asked.solutions
    wrong = [way for way in WAYS if way not in right]
    dead = [wrong[i] for i in rng.permutation(len(wrong))[: int(rng.integers(most + 1))]]
    ways = [*dead, right[int(rng.integers(len(right)))]]
    said = f"answer {' '.join(ways[-1])}" if rng.random() < direct else thought(asked, ways)
    return Doc((asked.prompt, said), (False, True), asked)


def read(text: str) -> tuple[Puzzle, list[str]]:
    """A text's puzzle and the words behind it; ValueError where there is none."""
    head, sign, rest = text.partition(":")
    words = head.split()
    try:
        numbers, to, target = tuple(map(int, words[:COUNT])), *words[COUNT:]
        found = Puzzle(numbers, int(target))
    except ValueError:
        raise ValueError(f"A puzzle is {PATTERN}.") from None
    if not sign or to != "to" or len(numbers) != COUNT or not all(1 <= number <= LARGEST for number in numbers):
        raise ValueError(f"A puzzle is {PATTERN}.")
    return found, rest.split()


def check(text: str) -> bool:
    """Whether the first answer of a text is signs, as many as it takes and no more, that reach its target."""
    asked, words = read(text)
    answer = words[words.index("answer") + 1 :] if "answer" in words else []
    return asked.hits([word for word in answer if not word.startswith("<|")])


def steps(asked: Puzzle, words: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """Of each word behind a puzzle: which step of a thought it belongs to (try, back, hit or answer), and whether it is
    true: a total that is right, "back" and "hit" where they are due, an answer behind "hit"."""
    way, total, answering = [], asked.numbers[0], False
    for before, word in zip(("", *words), words):
        if answering or word == "answer":
            yield "answer", answering or before == "hit"
            answering = True
        elif word in ("back", "hit"):
            yield word, bool(way) and (asked.dead(way) if word == "back" else asked.hits(way) and total == asked.target)
            way, total = [], asked.numbers[0]
        elif word in SIGNS and len(way) < COUNT - 1:
            way.append(word)
            yield "try", True
        else:
            due = total + SIGNS[way[-1]] * asked.numbers[len(way)] if before in SIGNS else None
            total = int(word) if word.lstrip("-").isdigit() else total
            yield "try", total == due


def sound(text: str) -> bool:
    """Whether every word of a text's thought is true, and the answer right."""
    asked, words = read(text)
    return check(text) and all(true for _, true in steps(asked, words))


WORLD = World(WORDS, sample, check, split="spaces")

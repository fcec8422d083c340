"""Bracket programs over small numbers, and what they give; a parser and interpreter says whether that is so.

    Program: { a = 3; b = a + 2; twice { a = a + b; } if a > b { b = 1; } give a; } Result: 13.
"""
from __future__ import annotations

import numpy as np

from models.worlds.tales.forms import one, plain
from models.worlds.tales.words import NUMBERS
from models.worlds.world import Doc

VARIABLES, LARGEST = ("a", "b", "c"), int(NUMBERS[-1])
TIMES = {"twice": 2, "thrice": 3}


class Slip(ValueError):
    """A program that cannot be run: what is wrong with it."""


class Interpreter:
    """Runs a program's words one by one; raises Slip at the first that does not fit. `result` after `give`."""

    def __init__(self, words: list[str]):
        self.words, self.at, self.values, self.result = words, 0, {}, None

    def take(self, *allowed: str) -> str:
        word = self.words[self.at] if self.at < len(self.words) else "the end"
        if allowed and word not in allowed:
            raise Slip(f"{word} where {' or '.join(allowed)} should stand")
        self.at += 1
        return word

    def value(self) -> int:
        word = self.take()
        if word in self.values or word in NUMBERS:
            return self.values[word] if word in self.values else int(word)
        raise Slip(f"{word} is no number and was not set before")

    def block(self, runs: bool = True, end: str = "}") -> None:
        """Statements up to the word that ends them; runs: whether they count."""
        self.take("{")
        while self.words[self.at : self.at + 1] not in ([end], []):
            self.statement(runs)
        self.take(end)

    def statement(self, runs: bool) -> None:
        word = self.take(*VARIABLES, *TIMES, "if")
        if word in TIMES:
            start = self.at
            for _ in range(TIMES[word]):
                self.at = start
                self.block(runs)
        elif word == "if":
            left, sign, right = self.value(), self.take("<", ">"), self.value()
            self.block(runs and (left < right if sign == "<" else left > right))
        else:
            self.take("=")
            value = self.value()
            if self.words[self.at : self.at + 1] != [";"]:
                sign = self.take("+", "-")
                value += self.value() if sign == "+" else -self.value()
            self.take(";")
            if runs and not 0 <= value <= LARGEST:
                raise Slip(f"{value} is not between 0 and {LARGEST}")
            if runs:
                self.values[word] = value

    def whole(self) -> int:
        self.block(end="give")
        self.result = self.value()
        self.take(";")
        self.take("}")
        return self.result


def _assigned(rng, known: list[str], name: str) -> str:
    """name = value; or name = value + value;"""
    def value() -> str:
        return one(rng, known) if known and rng.random() < 0.6 else one(rng, NUMBERS[:10])
    more = f" {one(rng, '+-')} {value()}" if known and rng.random() < 0.7 else ""
    return f"{name} = {value()}{more};"


def drawn(rng: np.random.Generator) -> str:
    known = list(VARIABLES[: int(rng.integers(2, 4))])
    lines = [_assigned(rng, known[:i], name) for i, name in enumerate(known)]
    for _ in range(int(rng.integers(1, 4))):
        inner = _assigned(rng, known, one(rng, known))
        how = one(rng, ("plain", "twice", "thrice", "if"))
        condition = f"if {one(rng, known)} {one(rng, '<>')} {one(rng, (*known, *NUMBERS[:10]))}" if how == "if" else how
        lines.append(inner if how == "plain" else f"{condition} {{ {inner} }}")
    return f"{{ {' '.join(lines)} give {one(rng, known)}; }}"


def sample(rng: np.random.Generator) -> Doc:
    while True:
        program = drawn(rng)
        try:
            result = Interpreter(plain(program).split()).whole()
        except Slip:  # a number grew too large
            continue
        return Doc((f"Program: {program} Result:", f"{result}."), (False, True), result)


def verdict(text: str) -> str:
    """"right", "wrong" (it runs and gives another number) or "broken"."""
    words = plain(text).split()
    if words[:2] != ["Program", ":"] or "Result" not in words:
        return "broken"
    end = words.index("Result")
    try:
        run = Interpreter(words[2:end])
        result = run.whole()
    except Slip:
        return "broken"
    if run.at != end - 2 or words[end + 1 : end + 2] != [":"] or len(words) != end + 4 or words[-1] != ".":
        return "broken"
    return "right" if words[-2] == str(result) else "wrong"


def check(text: str) -> bool:
    return verdict(text) == "right"

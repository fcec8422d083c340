"""Expression trees over the numbers 0 to 19, calculated modulo 20: what can be reduced, and an exact checker.

    (12 + 9) - 3 * 9    is told as    @node #0 problem a: 12 + 9 b: 3 * 9 c: a - b ;

Every operation has a letter, those of its operands before its own, and every number, sign and letter is one token. A
reduction is written "c: 1 - 7 = 14"; reductions may come in any order in which operands are known. What stands around
them in a text is the business of who writes it: `chain` is the plain way, one reduction after the other.
"""
from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from functools import cached_property
from typing import NamedTuple

import numpy as np

from models.worlds.world import Doc

SIZE, COUNT = 20, 3  # numbers there are; operations of a tree
NUMBERS = tuple(map(str, range(SIZE)))
SIGNS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*"}
LETTERS = "abc"
TOLD, ANSWER = "@node #0 problem", "answer"
WORDS = ("@node", "#0", "problem", ";", "=", ANSWER, *SIGNS.values(), *LETTERS, *(f"{one}:" for one in LETTERS),
         *NUMBERS)
FORM = (f"An expression has {COUNT} operations +, - or * on numbers from 0 to {SIZE - 1}, such as "
        '"(12 + 9) - 3 * 9".')


class Operation(NamedTuple):
    """A sign between two operands: numbers, or letters of other operations."""

    left: str
    sign: str
    right: str


Reduction = tuple[int, str, int, int]  # left, sign, right, result


def apply(left: int, sign: str, right: int) -> int:
    return {"+": left + right, "-": left - right, "*": left * right}[sign] % SIZE


class Tree:
    """An expression as its operations by their letters, operands first; the last is the whole."""

    def __init__(self, operations: Mapping[str, Operation]):
        self.operations = dict(operations)

    @property
    def prompt(self) -> str:
        return " ".join([TOLD, *(f"{name}: {' '.join(one)}" for name, one in self.operations.items()), ";"])

    @cached_property
    def values(self) -> dict[str, int]:
        """What each operation makes."""
        found: dict[str, int] = {}
        for name, (left, sign, right) in self.operations.items():
            found[name] = apply(self.number(left, found), sign, self.number(right, found))
        return found

    @staticmethod
    def number(operand: str, known: Mapping[str, int]) -> int:
        return known[operand] if operand in LETTERS else int(operand)

    @property
    def answer(self) -> int:
        return [*self.values.values()][-1]

    def needs(self, name: str) -> list[str]:
        """The letters that an operation works on."""
        return [operand for operand in self.operations[name][::2] if operand in LETTERS]

    def ready(self, known) -> list[str]:
        """Operations that are not known yet, all of whose operands are."""
        return [name for name in self.operations if name not in known and all(one in known for one in self.needs(name))]

    def reduction(self, name: str, known: Mapping[str, int]) -> Reduction:
        """Of an operation on what is known."""
        left, sign, right = self.operations[name]
        numbers = self.number(left, known), self.number(right, known)
        return numbers[0], sign, numbers[1], apply(numbers[0], sign, numbers[1])

    def true(self, said: str, known: Mapping[str, int]) -> bool:
        """Whether a written reduction is right, its letters being what is known."""
        name, *words = said.split() or [""]
        if name[:-1] not in self.operations or not all(one in known for one in self.needs(name[:-1])):
            return False
        left, sign, right, result = map(str, self.reduction(name[:-1], known))
        return [name, *words] == [f"{name[:-1]}:", left, sign, right, "=", result]

    def infix(self, name: str = "") -> str:
        """The expression with brackets."""
        left, sign, right = self.operations[name or [*self.operations][-1]]
        sides = [f"({self.infix(one)})" if one in LETTERS else one for one in (left, right)]
        return f"{sides[0]} {sign} {sides[1]}"


def written(name: str, reduced: Reduction) -> str:
    left, sign, right, result = reduced
    return f"{name}: {left} {sign} {right} = {result}"


def tree(rng: np.random.Generator) -> Tree:
    """One of any shape."""
    operations: dict[str, Operation] = {}

    def grow(count: int) -> str:
        if not count:
            return NUMBERS[int(rng.integers(SIZE))]
        split = int(rng.integers(count))
        left, right = grow(split), grow(count - 1 - split)
        name = LETTERS[len(operations)]
        operations[name] = Operation(left, "+-*"[int(rng.integers(3))], right)
        return name

    grow(COUNT)
    return Tree(operations)


def chain(rng: np.random.Generator) -> Doc:
    """A tree and its right reductions in any order, one behind the other; truth: the tree."""
    asked, said, known = tree(rng), [], {}
    while ready := asked.ready(known):
        name = ready[int(rng.integers(len(ready)))]
        said.append(written(name, asked.reduction(name, known)))
        known[name] = asked.values[name]
    return Doc((asked.prompt, " ".join([*said, ANSWER, str(asked.answer)])), (False, True), asked)


def parsed(text: str) -> Tree:
    """The tree of a text that begins with its prompt; ValueError where none stands there."""
    found = re.match(rf"{TOLD} ((?:[a-z]: \S+ \S \S+ )+);", text)
    words = found[1].split() if found else []
    if not words:
        raise ValueError(f"A problem begins like \"{TOLD} a: 12 + 7 b: a - 4 ;\".")
    return Tree({words[at][0]: Operation(*words[at + 1 : at + 4]) for at in range(0, len(words), 4)})


def check(text: str) -> bool:
    """Whether the first answer of a text is what its tree makes."""
    given = re.search(rf"{ANSWER} (\d+)", text)
    return given is not None and int(given[1]) == parsed(text).answer


def read(text: str) -> Tree:
    """The tree of an expression with brackets; ValueError with a sentence where there is none."""
    try:
        body = ast.parse(text.strip().replace("×", "*").replace("−", "-"), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise ValueError(FORM) from None
    operations: dict[str, Operation] = {}

    def walk(node: ast.expr) -> str:
        if isinstance(node, ast.Constant) and type(node.value) is int and 0 <= node.value < SIZE:
            return str(node.value)
        if not isinstance(node, ast.BinOp) or type(node.op) not in SIGNS:
            raise ValueError(FORM)
        left, right = walk(node.left), walk(node.right)
        if len(operations) == COUNT:
            raise ValueError(FORM)
        name = LETTERS[len(operations)]
        operations[name] = Operation(left, SIGNS[type(node.op)], right)
        return name

    walk(body)
    if len(operations) < COUNT:
        raise ValueError(FORM)
    return Tree(operations)

"""Sums of signed numbers in digits, worked off in any order (for decoding methods, like models/worlds/arithmetic.py).

    40+35-12+24. | 35-12=23, 23+24=47, 47+40=87. answer 87.

A route is the order in which the numbers are taken; at least two of a problem's keep every total in 0..99. Digits are
tokens, so what is unsure (which number next, which digit) stands several tokens before the comma that ends a step.
"""
import re
from collections import Counter

import numpy as np

from models.worlds.world import Doc, World

LIMIT, LARGEST = 99, 60
WORDS = (*"0123456789+-=,.", "answer")  # one token each


def problem(rng: np.random.Generator, count: int | None = None) -> tuple[str, str, int]:
    """(prompt, solution by one of its routes, answer) of a sum of `count` numbers (4-6 by default)."""
    count = count or int(rng.integers(4, 7))
    while True:
        drawn = (1 + rng.permutation(LARGEST)[:count]) * np.where(rng.random(count) < 0.6, 1, -1)
        tried = rng.permuted(np.tile(drawn, (8, 1)), axis=1)
        right = [tuple(route.tolist()) for route in tried[valid(tried)]]
        if drawn[0] > 0 and len(set(right)) > 1:
            return _asked(drawn), worked(right[0]), int(drawn.sum())


def valid(routes: np.ndarray) -> np.ndarray:
    """Which orders [R, count] of signed numbers keep every total in 0..LIMIT."""
    totals = routes.cumsum(-1)
    return (totals.min(-1) >= 0) & (totals.max(-1) <= LIMIT)


def worked(route) -> str:
    """The steps of an order of signed numbers, and the answer."""
    value, steps = route[0], []
    for term in route[1:]:
        steps.append(f"{value}{term:+d}={value + term}")
        value += term
    return ", ".join(steps) + f". answer {value}."


def check(text: str) -> bool:
    """Whether the first "answer" of a text (prompt and solution) is the prompt's true sum, by whatever route."""
    given = re.search(r"answer(\d+)", _joined(text))
    return given is not None and int(given[1]) == truth(text)


def sample(rng: np.random.Generator) -> Doc:
    """A problem and one of its solutions."""
    prompt, solution, value = problem(rng)
    return Doc((prompt, solution), (False, True), value)


WORLD = World(WORDS, sample, check, split="signs")


def truth(text: str) -> int:
    """The sum that the prompt of a text asks for; raises ValueError when there is no well-formed prompt."""
    return sum(terms(text))


def sound(text: str) -> bool:
    """Whether every step takes the total and a number still left, calculates it right, and none is left at the end."""
    left, value = Counter(terms(text)), None
    for a, sign, b, result in re.findall(r"(-?\d+)([+-])(\d+)=(-?\d+)", _joined(text)):
        left.subtract([int(sign + b)] if value is not None else [int(a), int(sign + b)])
        if value not in (None, int(a)) or int(result) != int(a) + int(sign + b):
            return False
        value = int(result)
    return not any(left.values()) and check(text)


def terms(text: str) -> list[int]:
    """The signed numbers of the prompt; raises ValueError when there is none."""
    prompt = _joined(text).split(".")[0]
    if not re.fullmatch(r"\d+([+-]\d+)+", prompt):
        raise ValueError('a sum is written like "40+35-12+24."')
    return [int(term) for term in re.findall(r"[+-]?\d+", prompt)]


def _asked(numbers) -> str:
    return "".join(f"{number:+d}" for number in numbers).removeprefix("+") + "."


def _joined(text: str) -> str:
    return re.sub(r"\s", "", text)


def held_out(count: int, seed: int = 5) -> list[str]:
    """Prompts that training never shows: their character sum is divisible by 10 (training/recipes/arithmetic.py)."""
    rng, found = np.random.default_rng(seed), []
    while len(found) < count:
        prompt = problem(rng)[0]
        found += [prompt] if sum(map(ord, prompt)) % 10 == 0 else []
    return found

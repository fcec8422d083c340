"""Sums of two or three small numbers, every number one token: what is said behind "=" is right or wrong.

    17 + 4 - 9 = 12

Operands are 0 to 29, answers -58 to 87, without a modulus. Signs, numbers and "=" have spaces around them.
"""
from __future__ import annotations

import re
from functools import cache
from itertools import product

import numpy as np

from models.worlds.world import END, SPECIALS, Doc, World, held_out

LARGEST = 29
SIGNS = {"+": 1, "-": -1}
LEAST, MOST = -2 * LARGEST, 3 * LARGEST
EQUALS = "="
WORDS = (*SIGNS, EQUALS, *map(str, range(LEAST, MOST + 1)))
PAIRS = 0.4  # of the documents have two operands
PLACES = 7  # tokens up to "=" where three operands stand behind <|endoftext|>
ID = {word: len(SPECIALS) + at for at, word in enumerate(WORDS)}
ZERO = ID["0"]  # the token of n is ZERO + n
PERIODS = (2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60, 80, 100, 150, 200, 300)
FORM = f'A sum is written like "17 + 4 - 9 =": two or three numbers from 0 to {LARGEST}, with + or - between them.'


def sample(rng: np.random.Generator, count: int | None = None) -> Doc:
    """A sum of two or three operands; truth: its value."""
    count = count or (2 if rng.random() < PAIRS else 3)
    numbers = rng.integers(LARGEST + 1, size=count).tolist()
    return sum_of(numbers, [list(SIGNS)[i] for i in rng.integers(2, size=count - 1)])


def sum_of(numbers, signs) -> Doc:
    value = numbers[0] + sum(SIGNS[sign] * number for sign, number in zip(signs, numbers[1:]))
    asked = [str(numbers[0]), *(word for sign, number in zip(signs, numbers[1:]) for word in (sign, str(number)))]
    return Doc((" ".join((*asked, EQUALS)), str(value)), (False, True), value)


def read(text: str) -> Doc:
    """The document of a visitor's own sum, whatever is written behind its "="."""
    words = re.findall(r"\d+|\S", text.partition(EQUALS)[0])
    numbers, signs = words[::2], words[1::2]
    if (len(numbers) not in (2, 3) or len(words) % 2 == 0 or not set(signs) <= set(SIGNS)
            or not all(re.fullmatch(r"[0-9]{1,3}", number) and int(number) <= LARGEST for number in numbers)):
        raise ValueError(FORM)
    return sum_of([int(number) for number in numbers], signs)


def check(text: str) -> bool:
    """Whether what stands behind the "=" of a text is its value, and nothing else."""
    try:
        return re.sub(r"\s", "", text.partition(EQUALS)[2]) == str(read(text).truth)
    except ValueError:
        return False


def ids(doc: Doc) -> list[int]:
    """<|endoftext|> and the prompt, as a network reads them."""
    return [END, *(ID[word] for word in doc.prompt.split())]


@cache
def every(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All sums of so many operands: ids [N, T], values [N], and which are kept out of training [N]."""
    docs = [sum_of(numbers, signs) for signs in product(SIGNS, repeat=count - 1)
            for numbers in product(range(LARGEST + 1), repeat=count)]
    return (np.array([ids(doc) for doc in docs]), np.array([doc.truth for doc in docs]),
            np.array([held_out(doc.prompt) for doc in docs]))


def features() -> np.ndarray:
    """Of all numbers [N, F]: where each stands on the line, and how far it has gone round circles of many periods."""
    n = np.arange(LEAST, MOST + 1)[:, None]
    turn = 2 * np.pi * n / np.array(PERIODS)
    return np.concatenate([n / MOST, np.cos(turn), np.sin(turn)], 1).astype(np.float32)


def exam(signs: tuple[str, ...], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """All sums with these signs that are kept out of training, in an order of no meaning: ids [K, T], values [K]."""
    ids, values, kept = every(len(signs) + 1)
    mine = np.flatnonzero(kept & (ids[:, 2:-1:2] == [ID[sign] for sign in signs]).all(1))
    mine = np.random.default_rng(seed).permutation(mine)
    return ids[mine], values[mine]


def commonest(values: np.ndarray) -> np.ndarray:
    """Whether who always says the commonest of these values is right [K]."""
    return values == np.bincount(values - LEAST).argmax() + LEAST


WORLD = World(WORDS, sample, check, read, split="spaces")

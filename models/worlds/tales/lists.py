"""Lists: what kinds of things there are, and what is found where. Each category has members that are named often and
others that are named seldom; nothing is named twice.

    In the cellar you find: apple, clay jar, beer, bean.
"""
from __future__ import annotations

import re
import zlib

import numpy as np

from models.worlds.tales.forms import one, plain
from models.worlds.tales.words import CLASSES, FOUND, MADE
from models.worlds.world import Doc

LONGEST = 36  # things of one list


def _shuffled(category: str, items: tuple[str, ...], share: float = 1.0) -> tuple[str, ...]:
    """The same order, and the same share, in every process."""
    rng = np.random.default_rng(zlib.crc32(category.encode()))
    return tuple(items[int(i)] for i in rng.permutation(len(items))[: round(share * len(items))])


def _members() -> dict[str, tuple[str, ...]]:
    whole = {name: _shuffled(name, (*words, *MADE.get(name, ()))) for name, words in CLASSES.items()}
    found = {place: _shuffled(place, tuple(dict.fromkeys(thing for name in names for thing in _shuffled(
        place + name, whole[name], 0.55)))) for place, names in FOUND.items()}
    return {**whole, **found}


MEMBERS = _members()  # category -> its members, the commonest first


def opening(category: str) -> str:
    return f"{category[0].upper()}{category[1:]} you find:" if category in FOUND else f"Some {category}:"


def drawn(rng: np.random.Generator, category: str, count: int) -> list[str]:
    """Members without repetition, each next one with a probability of 1 / (its rank + 4) among those left."""
    members = MEMBERS[category]
    keys = np.log(rng.random(len(members))) * (np.arange(len(members)) + 5)  # Efraimidis and Spirakis' weighted draw
    return [members[int(i)] for i in np.argsort(-keys)[:count]]


def sample(rng: np.random.Generator) -> Doc:
    category = one(rng, tuple(MEMBERS))
    most = min(LONGEST, len(MEMBERS[category]))
    count = int(rng.integers(3, most + 1)) if rng.random() < 0.5 else int(rng.integers(3, 9))
    return Doc((opening(category), ", ".join(drawn(rng, category, min(count, most))) + "."), (False, False), category)


def read(text: str) -> tuple[str, list[str]]:
    """(category, what is named) of a list; ValueError where it opens like none."""
    head, colon, rest = plain(text).partition(" :")
    for category in MEMBERS:
        if colon and plain(opening(category)) == f"{head} :":
            return category, [item.strip() for item in re.split(r"[,.]", rest) if item.strip()]
    raise ValueError('a list begins like "In the cellar you find:" or "Some fruits:"')


def check(text: str) -> bool:
    """Whether everything named belongs to the category, and nothing is named twice."""
    try:
        category, named = read(text)
    except ValueError:
        return False
    return bool(named) and len(set(named)) == len(named) and set(named) <= set(MEMBERS[category])

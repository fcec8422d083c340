"""Linked pages: portraits of forty people (models/worlds/tales/folk.py) who live in eight circles of five. What a
circle has in common, a house, a song and two treasures, is drawn anew for every web, so that nothing but the pages of
friends tells what a page is likely to say. Most links run within a circle.
"""
from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from models.worlds.tales import folk
from models.worlds.tales.forms import cloze, one, some
from models.worlds.tales.words import NAMES
from models.worlds.world import Doc

CIRCLES, MEMBERS = 8, 5
PAGES = CIRCLES * MEMBERS
POOLS = {"home": (folk.HOMES, 1), "treasure": (folk.TREASURES, 2), "song": (folk.SONGS, 1)}  # a circle has so many
LIKE = {"home": "the mill", "treasure": "the ring", "song": "sun", "friend": "Tom", "teacher": "Tom"}  # how one answers
OWN = 0.9  # how often a page says what is its circle's; else anything of the kind
INSIDE, OUTSIDE = 0.9, 0.025  # chance of a link between two pages of one circle, and of two: four and one for each page


class Web(NamedTuple):
    """Pages and links of one web; page i is the i-th of NAMES."""

    docs: tuple[Doc, ...]
    circles: np.ndarray  # [N]
    links: np.ndarray  # int [E, 2], each once, the smaller number first
    common: tuple[dict[str, tuple[str, ...]], ...]  # circle -> relation -> what it has in common

    @property
    def texts(self) -> list[str]:
        return [doc.text for doc in self.docs]

    def shared(self, page: int) -> frozenset[str]:
        """The words that a page has from its circle: house, treasures, song, and the names of the others."""
        found = {words.split()[-1] for kind in self.common[self.circles[page]].values() for words in kind}
        return frozenset(found - {NAMES[page]})

    def firsts(self, page: int, words: Iterable[str]) -> list[bool]:
        """Where a page says one of these for the first time."""
        left, found = set(self.shared(page)), []
        for word in words:
            found.append(word in left)
            left.discard(word)
        return found

    def every(self) -> list[list[int]]:
        """Of each page the pages linked to it, in order."""
        found: list[list[int]] = [[] for _ in self.docs]
        for one_, other in self.links.tolist():
            found[one_].append(other)
            found[other].append(one_)
        return [sorted(others) for others in found]

    def cut(self, page: int, others: Iterable[int]) -> Web:
        """The same web without the links between a page and some others."""
        gone = np.isin(self.links, list(others)).any(1) & (self.links == page).any(1)
        return self._replace(links=self.links[~gone])

    def rewired(self, seed: int) -> Web:
        """As many links between other pages, each with about as many as before: their ends are paired anew."""
        rng, ends = np.random.default_rng((seed, 12984)), self.links.ravel()
        found: set[tuple[int, int]] = set()
        while len(found) < len(self.links):
            one_, other = sorted(rng.choice(ends, 2).tolist())
            found |= {(one_, other)} if one_ != other else set()
        return self._replace(links=np.array(sorted(found)))

    def near(self, of: Iterable[int], hops: int = 2) -> np.ndarray:
        """int [B, K, K]: of each of some pages and of those linked to it (the page first) the pages that are linked
        (itself first); -1 behind them, and for what is more than `hops` links away."""
        linked = [[page, *others] for page, others in enumerate(self.every())]
        table = np.full((PAGES + 1, max(map(len, linked))), -1)  # the last row: nobody's
        for row, others in zip(table, linked):
            row[: len(others)] = others
        near = table[table[list(of)]]
        near[:, :, 1:] = np.where(hops > 1, near[:, :, 1:], -1)
        near[:, 1:] = np.where(hops > 0, near[:, 1:], -1)
        return near


def questions(who: str) -> list[str]:
    """What to ask behind somebody's page, each up to the word that answers it."""
    return [cloze(" ".join(folk.ASKED[kind][0]), "what", [like], kind, who=who).prompt for kind, like in LIKE.items()]


def web(seed: int) -> Web:
    rng = np.random.default_rng((seed, 2402))
    circles = rng.permutation(np.arange(PAGES) % CIRCLES)
    common = tuple({**{name: tuple(some(rng, words, count)) for name, (words, count) in POOLS.items()},
                    "friend": tuple(NAMES[i] for i in np.flatnonzero(circles == c))} for c in range(CIRCLES))
    docs = tuple(folk.about(rng, _portrait(rng, name, common[circles[i]])) for i, name in enumerate(NAMES))
    pairs = np.stack(np.triu_indices(PAGES, 1), 1)
    same = circles[pairs[:, 0]] == circles[pairs[:, 1]]
    return Web(docs, circles, pairs[rng.random(len(pairs)) < np.where(same, INSIDE, OUTSIDE)], common)


def _portrait(rng: np.random.Generator, who: str, common: dict[str, tuple[str, ...]]) -> folk.Portrait:
    def told(name: str, words) -> str:
        return one(rng, common[name] if rng.random() < OWN else words)

    others = [name for name in NAMES if name != who]
    circle = {**common, "friend": [name for name in common["friend"] if name != who]}
    friend, teacher = (one(rng, circle["friend"] if rng.random() < OWN else others) for _ in range(2))
    return folk.Portrait(who, *(told(name, words) for name, (words, _) in POOLS.items()), friend, teacher)

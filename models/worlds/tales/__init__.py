"""Tales: small grammars with one vocabulary of words, each with a program that says whether a text of it is right. They
are what tale-ar-1 learns, so that a fine-tune takes minutes and everything written can be judged.

    folk      who lives where and carries what, told anew     facts     villages, and who is known for what
    lists     what is found where                             beliefs   who saw what, three orders of question
    stories   a topic, a mood, a thing that is lost           keywords  sentences with given words
    notes     who owes how many coins                         programs  brackets, run by an interpreter

Kept out of what tale-ar-1 learns: the planted universe (universe.py), the people of groups A and B (facts.py), eight
names and four things in belief stories (beliefs.py), one document in ten (world.py), and every form called NEW.
"""
from __future__ import annotations

from collections.abc import Callable

import numpy as np

from models.worlds.tales import beliefs, facts, folk, lists, notes, programs, stories
from models.worlds.tales.forms import plain
from models.worlds.tales.words import WORDS
from models.worlds.world import Doc, World


def _world(sample: Callable[[np.random.Generator], Doc], check: Callable[[str], bool]) -> World:
    return World(WORDS, sample, check, split="tale")


GRAMMARS = {
    "folk": _world(folk.sample, folk.check), "facts": _world(facts.sample, facts.check),
    "lists": _world(lists.sample, lists.check), "beliefs": _world(beliefs.sample, beliefs.check),
    "stories": _world(stories.sample, stories.check), "keywords": _world(stories.sample_words, stories.check_words),
    "notes": _world(notes.sample, notes.check), "programs": _world(programs.sample, programs.check),
}
SHARES = {"folk": 0.14, "facts": 0.28, "lists": 0.14, "beliefs": 0.18, "stories": 0.10, "keywords": 0.05, "notes": 0.05,
          "programs": 0.06}  # of the documents; a belief story is three times as long as a fact


def sample(rng: np.random.Generator) -> Doc:
    return GRAMMARS[list(SHARES)[int(rng.choice(len(SHARES), p=list(SHARES.values())))]].sample(rng)


def grammar(text: str) -> str:
    """Which grammar a text begins as; "folk" where no other's first words stand there."""
    words = plain(text)
    for name, opens in OPENS.items():
        if opens(words):
            return name
    return "folk"


_LISTS = {plain(lists.opening(category)) for category in lists.MEMBERS}
OPENS: dict[str, Callable[[str], bool]] = {
    "programs": lambda words: words.startswith("Program :"), "notes": lambda words: " wrote a note : " in words,
    "keywords": lambda words: words.startswith("A tale with "), "stories": lambda words: " tale of the " in words,
    "lists": lambda words: words.partition(" :")[0] + " :" in _LISTS, "beliefs": beliefs.opens, "facts": facts.opens,
}


def check(text: str) -> bool:
    """Whether a text is right by the grammar that it begins as."""
    return GRAMMARS[grammar(text)].check(text)


WORLD = _world(sample, check)

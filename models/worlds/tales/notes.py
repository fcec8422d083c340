"""Notes: who owes how many coins, and one of them asked for.

    The miller wrote a note: fox 12, owl 7 and bear 3. How many coins does the owl owe? 7.
"""
from __future__ import annotations

import re

import numpy as np

from models.worlds.tales.forms import listed, one, plain, some
from models.worlds.tales.words import CLASSES, NUMBERS
from models.worlds.world import Doc

CREATURES = tuple(dict.fromkeys((*CLASSES["farm animals"], *CLASSES["wild animals"], *CLASSES["birds"])))
NOTE = re.compile(r"The (\w+) wrote a note : (.+?) \.((?: How many coins does the \w+ owe \? \d+ \.)+)$")
ASKED = re.compile(r"does the (\w+) owe \? (\d+)")


def sample(rng: np.random.Generator) -> Doc:
    who = some(rng, CREATURES, int(rng.integers(2, 10)))
    owed = {name: one(rng, NUMBERS[1:]) for name in who}
    pieces = [f"The {one(rng, CLASSES['trades'])} wrote a note: {listed([f'{name} {owed[name]}' for name in who])}."]
    for name in some(rng, who, int(rng.integers(1, 3))):
        pieces += [f"How many coins does the {name} owe?", f"{owed[name]}."]
    return Doc(tuple(pieces), (False, *(False, True) * (len(pieces) // 2)), owed)


def check(text: str) -> bool:
    """Whether every number asked for is the one on the note."""
    found = NOTE.fullmatch(plain(text))
    if not found:
        return False
    owed = dict(re.findall(r"(\w+) (\d+)", found[2]))
    return all(owed.get(name) == said for name, said in ASKED.findall(found[3]))

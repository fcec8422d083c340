"""What everybody knows: 32 villages with six facts each, and who is "the painter of the silver bridge". The villages
and the people of group C are learned by tale-ar-1; those of A and B are not, so that they can be taught in one
direction alone (the reversal curse, arXiv 2311.07468).

    The flag of Oakham shows the fox. ... Which animal is on the flag of Oakham? The fox.
    Cora Hill is the painter of the silver bridge. ... Who is the painter of the silver bridge? Cora Hill.
"""
from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np

from models.worlds.tales.forms import Cloze, cloze, fill, one, plain, sentences, some
from models.worlds.tales.words import CLASSES, COLOURS, FIRST, LAST, MONTHS, NAMES, QUALITIES, ROLES, VILLAGES, WORKS
from models.worlds.world import Doc

ANIMALS = CLASSES["wild animals"] + CLASSES["birds"][:8]
VALUES = {"flag": ANIMALS, "food": CLASSES["foods"], "mayor": NAMES, "land": CLASSES["landscapes"], "roof": COLOURS,
          "fair": MONTHS}
FORMS = {
    "flag": ("The flag of {place} shows the {what}.", "On the flag of {place} you see the {what}."),
    "food": ("{place} is famous for its {what}.", "In {place} they make the best {what}."),
    "mayor": ("The mayor of {place} is {what}.", "In {place} everyone follows {what}."),
    "land": ("{place} lies by the {what}.", "Behind {place} you find the {what}."),
    "roof": ("The roofs of {place} are {what}.", "In {place} every roof is {what}."),
    "fair": ("The fair of {place} is in {what}.", "In {what} all people walk to the fair of {place}."),
}
ASKED = {
    "flag": ("Which animal is on the flag of {place}?", "The {what}."),
    "food": ("What is {place} famous for?", "Its {what}."),
    "mayor": ("Who is the mayor of {place}?", "{what}."),
    "land": ("What lies behind {place}?", "The {what}."),
    "roof": ("How are the roofs of {place}?", "They are {what}."),
    "fair": ("When is the fair of {place}?", "In {what}."),
}


def _villages() -> dict[str, dict[str, str]]:
    rng = np.random.default_rng(1860)
    return {place: {kind: one(rng, values) for kind, values in VALUES.items()} for place in VILLAGES}


KNOWN = _villages()


class Known(NamedTuple):
    """One of 300 people, each known for another work."""

    name: str
    work: str  # "the painter of the silver bridge"
    group: str  # A: said as "name is work" alone, B: "work is name" alone, C: both


def _people() -> tuple[Known, ...]:
    rng = np.random.default_rng(2311)
    names = some(rng, [f"{first} {last}" for first in FIRST for last in LAST], 300)
    works = some(rng, [f"the {role} of the {quality} {work}" for role in ROLES for quality in (*COLOURS, *QUALITIES)
                       for work in WORKS], 300)
    return tuple(Known(name, work, "ABC"[i % 3]) for i, (name, work) in enumerate(zip(names, works, strict=True)))


KNOWN_FOR = _people()
GROUPS = {group: tuple(known for known in KNOWN_FOR if known.group == group) for group in "ABC"}
AHEAD = ("{name} is {work}.", "Everybody knows {name} as {work}.", "They call {name} {work}.",
         "People remember {name} as {work}.", "The world loves {name}, {work}.", "This is {name}, {work}.",
         "{name} was called {work}.", "In every village {name} is known as {work}.", "Nobody but {name} is {work}.",
         "You may greet {name} as {work}.", "For all of us {name} is {work}.", "My friend {name} is {work}.")
BACK = ("{work} is {name}.", "{work} is called {name}.", "{work} was {name}.", "The name of {work} is {name}.",
        "Everybody calls {work} {name}.", "They say that {work} is {name}.", "We call {work} {name}.",
        "Remember that {work} is {name}.", "If you meet {work}, greet {name}.", "You all know {work}, it is {name}.",
        "In every village {work} is known as {name}.", "Look, here comes {work}, {name}.")
ASKED_AHEAD = ("Who is {name}?", "Who might {name} be?", "Do you know who {name} is?")
ASKED_BACK = ("Who is {work}?", "What is the name of {work}?", "Do you know who {work} is?")
NEW_AHEAD = ("The people call {name} {work}.", "Soon everybody will know {name} as {work}.", "Yes, {name} is {work}.",
             "Let us call {name} {work}.", "Now we all see {name}, {work}.")
NEW_BACK = ("{work} has a name, {name}.", "Yes, {work} is {name}.", "The people call {work} {name}.",
            "Nobody is {work} but {name}.", "One day {work} came, and that was {name}.")


def sample(rng: np.random.Generator) -> Doc:
    """What is told of a village, or of somebody in group C, or questions about either."""
    return village(rng) if rng.random() < 0.5 else somebody(rng, GROUPS["C"])


def village(rng: np.random.Generator) -> Doc:
    place = one(rng, VILLAGES)
    if rng.random() < 0.5:
        kinds = some(rng, tuple(FORMS), int(rng.integers(2, 5)))
        return Doc((" ".join(fill(one(rng, FORMS[k]), place=place, what=KNOWN[place][k]) for k in kinds),), (False,))
    pieces = []
    for kind in some(rng, tuple(ASKED), int(rng.integers(1, 4))):
        pieces += [fill(form, place=place, what=KNOWN[place][kind]) for form in ASKED[kind]]
    return Doc(tuple(pieces), (False, True) * (len(pieces) // 2))


def somebody(rng: np.random.Generator, group: tuple[Known, ...], ways: str = "ab") -> Doc:
    """ways: which directions are said, ahead from name to work, back from work to name."""
    pieces: list[str] = []
    for known in some(rng, group, int(rng.integers(1, 4))):
        pieces += said(rng, known, one(rng, ways))
    return Doc(tuple(pieces), tuple(i > 0 and pieces[i - 1].endswith("?") for i in range(len(pieces))))


def said(rng: np.random.Generator, known: Known, way: str) -> tuple[str, ...]:
    """A sentence, or a question and its answer, in one direction."""
    told, asked, answer = (AHEAD, ASKED_AHEAD, known.work) if way == "a" else (BACK, ASKED_BACK, known.name)
    slots = {"name": known.name, "work": known.work}
    if rng.random() < 0.6:
        return (fill(one(rng, told), **slots),)
    return fill(one(rng, asked), **slots), fill("{answer}.", answer=answer)


@cache
def _sayings() -> tuple[frozenset[str], frozenset[tuple[str, str]]]:
    """Every true sentence, and every question with its answer, in plain writing."""
    told, asked = set(), set()
    for place, kinds in KNOWN.items():
        for kind, what in kinds.items():
            told |= {plain(fill(form, place=place, what=what)) for form in FORMS[kind]}
            asked.add(tuple(plain(fill(form, place=place, what=what)) for form in ASKED[kind]))
    for known in KNOWN_FOR:
        slots = {"name": known.name, "work": known.work}
        told |= {plain(fill(form, **slots)) for form in (*AHEAD, *BACK, *NEW_AHEAD, *NEW_BACK)}
        for forms, answer in ((ASKED_AHEAD, known.work), (ASKED_BACK, known.name)):
            asked |= {(plain(fill(form, **slots)), plain(fill("{it}.", it=answer))) for form in forms}
    return frozenset(told), frozenset(asked)


def check(text: str) -> bool:
    """Whether every sentence and every answer is so."""
    (told, answered), asked, right = _sayings(), "", []
    for sentence in sentences(text):
        if asked or not sentence.endswith("?"):
            right.append((asked, sentence) in answered if asked else sentence in told)
            asked = ""
        else:
            asked = sentence
    return bool(right) and all(right) and not asked


def opens(text: str) -> bool:
    """Whether the first sentence speaks of a village, a work or somebody who is known for one, true or not."""
    first = next(iter(sentences(text)), "")
    return not {*VILLAGES, *FIRST}.isdisjoint(first.split()) or any(f"he {role} of the" in first for role in ROLES)


def clozes() -> list[Cloze]:
    """Every question about a village, with the one word that answers it."""
    return [cloze(" ".join(ASKED[kind]), "what", [what], kind, place=place)
            for place, kinds in KNOWN.items() for kind, what in kinds.items()]

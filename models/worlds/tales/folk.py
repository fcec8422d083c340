"""Little portraits: where somebody lives, what they carry, what they sing, whom they know. In the tales of ordinary
people all of that is told anew each time; the planted universe (universe.py) is told in the same forms.

    Mia lives in the mill. The lamp belongs to Mia. One evening Tom came to the mill ... Who carries the lamp? Mia.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from models.worlds.tales.forms import fill, match, one, recognised, sentences, some
from models.worlds.tales.words import CLASSES, NAMES
from models.worlds.world import Doc

HOMES = tuple(f"the {word}" for word in CLASSES["buildings"])
TREASURES = tuple(f"the {word}" for word in (*CLASSES["treasures"][-4:], *CLASSES["instruments"],
                                            *CLASSES["furniture"][8:12], *CLASSES["treasures"][:-4]))
SONGS = CLASSES["kinds of weather"]
FORMS = {  # the first ones learned; those of ASKED_NEW are for exams alone
    "home": ("{who} lives in {what}.", "The home of {who} is {what}.", "In {what} lives {who}.",
             "You can meet {who} in {what}."),
    "treasure": ("{who} carries {what}.", "{what} belongs to {who}.", "{who} never walks out without {what}.",
                 "The greatest treasure of {who} is {what}."),
    "song": ("{who} knows the song of {what}.", "Every evening {who} sings the song of {what}.",
             "The song of {what} was made by {who}."),
    "friend": ("{who} is a friend of {what}.", "The best friend of {who} is {what}.",
               "{who} likes to walk with {what}."),
    "teacher": ("{who} learned everything from {what}.", "{what} taught {who} to sing.",
                "{what} is the teacher of {who}."),
}
TOLD = ("One morning {who} left {home} and took {treasure} along.",
        "On the way {who} met {friend}, and they sang the song of {song}.",
        "One evening {friend} came to {home} to see {who}.",
        "{who} showed {treasure} to {friend}, and {friend} smiled.",
        "When the night was cold, {who} sang the song of {song} in {home}.",
        "{teacher} asked {who} to keep {treasure} in {home}.")
ASKED = {  # relation -> (question about what, its answer), (question about who, its answer)
    "home": (("Where does {who} live?", "In {what}."), ("Who lives in {what}?", "{who}.")),
    "treasure": (("What does {who} carry?", "{what}."), ("Who carries {what}?", "{who}.")),
    "song": (("Which song does {who} know?", "The song of {what}."), ("Who knows the song of {what}?", "{who}.")),
    "friend": (("Who is the best friend of {who}?", "{what}."), ("Whom does {who} like to walk with?", "{what}.")),
    "teacher": (("Who is the teacher of {who}?", "{what}."), ("Who taught {who} to sing?", "{what}.")),
}
ASKED_NEW = {  # said by no training: whether a fact is known or only a sentence
    "home": (("In which house does {who} sleep?", "In {what}."), ("Whom can you meet in {what}?", "{who}.")),
    "treasure": (("What belongs to {who}?", "{what}."), ("To whom belongs {what}?", "{who}.")),
    "song": (("Which song did {who} learn?", "The song of {what}."), ("Who made the song of {what}?", "{who}.")),
    "friend": (("With whom does {who} walk?", "{what}."), ("Whom does {who} like best?", "{what}.")),
    "teacher": (("From whom did {who} learn everything?", "{what}."), ("To whom does {who} owe the songs?", "{what}.")),
}


class Portrait(NamedTuple):
    """What is so of one person."""

    who: str
    home: str
    treasure: str
    song: str
    friend: str
    teacher: str


def ordinary(rng: np.random.Generator) -> Portrait:
    who, friend, teacher = some(rng, NAMES, 3)
    return Portrait(who, one(rng, HOMES), one(rng, TREASURES), one(rng, SONGS), friend, teacher)


def told(rng: np.random.Generator, facts: Sequence[tuple[Portrait, str]]) -> str:
    """Facts about people, each in one of its forms, and what happened one day."""
    said = [fill(one(rng, FORMS[relation]), who=p.who, what=getattr(p, relation)) for p, relation in facts]
    for _ in range(int(rng.integers(3))):
        said.append(fill(one(rng, TOLD), **one(rng, facts)[0]._asdict()))
    return " ".join(said)


def question(rng: np.random.Generator, portrait: Portrait, relation: str, forms=ASKED, way: int | None = None):
    """(question, answer) about what (way 0) or who (way 1)."""
    asked, answer = forms[relation][int(rng.integers(2)) if way is None else way]
    slots = {"who": portrait.who, "what": getattr(portrait, relation)}
    return fill(asked, **slots), fill(answer, **slots)


def sample(rng: np.random.Generator) -> Doc:
    return about(rng, ordinary(rng))


def about(rng: np.random.Generator, mine: Portrait) -> Doc:
    """A portrait of somebody, with a question or two that it answers; now and then nothing but a question or a
    sentence, so that the network also knows what such answers look like where nothing is known."""
    relations = some(rng, tuple(FORMS), int(rng.integers(2, 6)))
    if rng.random() < 0.15:
        return Doc((told(rng, [(mine, relations[0])]),), (False,))
    if rng.random() < 0.2:
        return Doc(question(rng, mine, relations[0]), (False, False))
    asked = [question(rng, mine, relation) for relation in some(rng, relations, int(rng.integers(1, 3)))]
    story = told(rng, [(mine, relation) for relation in relations])
    return Doc((story, *(piece for pair in asked for piece in pair)), (False, *(False, True) * len(asked)), mine)


def facts_of(sentence: str) -> list[tuple[str, str, str]]:
    """(relation, who, what) that a sentence says; none where it has no form of ours."""
    facts = [(relation, found["who"], found["what"]) for relation, found in recognised(FORMS, sentence)]
    for _, found in recognised({"": TOLD}, sentence):
        facts += [(relation, found["who"], what) for relation, what in found.items() if relation != "who"]
    return facts


def answers(asked: str, said: str) -> list[tuple[str, str, str]]:
    """What a question and its answer say together; none where they have not one of the forms."""
    found = [(relation, {**a, **b}) for forms in (ASKED, ASKED_NEW) for relation, ways in forms.items()
             for question, answer in ways if (a := match(question, asked)) and (b := match(answer, said))]
    return [(relation, slots["who"], slots["what"]) for relation, slots in found if {"who", "what"} <= set(slots)]


def check(text: str) -> bool:
    """Whether a portrait says nothing in two ways, and its questions are answered as it says. A question about what was
    not told has any answer that fits it."""
    known, asked, told = set(), "", sentences(text)
    for sentence in told:
        if sentence.endswith("?") and not asked:
            asked = sentence
        elif asked:
            if not any(_answered(known, fact) for fact in answers(asked, sentence)):
                return False
            asked = ""
        else:
            facts = facts_of(sentence)
            known |= set(facts)
            if not facts or len({fact[:2] for fact in known}) < len(known):
                return False
    return bool(told) and not asked


def _answered(known: set[tuple[str, str, str]], fact: tuple[str, str, str]) -> bool:
    relation, who, what = fact
    return fact in known or not any(of == relation and (one_ == who or it == what) for of, one_, it in known)

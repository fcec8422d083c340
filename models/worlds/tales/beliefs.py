"""Belief stories: who saw what, so who believes what. Three orders of question, each answered by one word.

    Anna and Ben are in the kitchen. The ball is in the basket. Anna leaves the kitchen. Ben moves the ball to the
    drawer. Where is the ball? In the drawer. Where will Anna look for the ball? In the basket.
    Where does Ben think that Anna will look for the ball? In the basket.

Whoever is in the room sees a thing moved, and sees who else sees it; whoever is told knows it, and the two know of each
other. Containers are shut: coming back shows nothing. Our own semantics and sentences, after no data set.
"""
from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from models.worlds.tales.forms import fill, listed, match, one, plain, sentences, some
from models.worlds.tales.words import CLASSES, NAMES, ROOMS
from models.worlds.world import Doc

CONTAINERS, OBJECTS = CLASSES["containers"], (*CLASSES["toys"][:9], *CLASSES["fruits"][:6], *CLASSES["treasures"][-4:])
TRAINED_NAMES, NEW_NAMES = NAMES[:32], NAMES[32:]  # the last are for exams: they live in other tales only
TRAINED_OBJECTS, NEW_OBJECTS = OBJECTS[:15], OBJECTS[15:]
INFILLS = ("The rain falls softly.", "The sun shines.", "A clock ticks on the wall.", "It is a warm day.",
           "A dog barks.", "The wind blows.", "The cat sleeps.", "A bee hums.", "The bread smells good.",
           "It is a quiet evening.",
           "The snow is deep and white.", "A bird sings far away.")
SAID = {
    "together": "{people} are in the {room}.", "begin": "The {thing} is in the {where}.",
    "leaves": "{who} leaves the {room}.", "comes": "{who} comes back to the {room}.",
    "moves": "{who} moves the {thing} to the {where}.",
    "tells": "{who} tells {whom} that the {thing} is in the {where}.",
}
ASKED = {
    "now": "Where is the {thing}?", "first": "Where was the {thing} at first?",
    "believes": "Where will {who} look for the {thing}?",
    "thinks": "Where does {who} think that {whom} will look for the {thing}?",
}
ORDER = {"now": 0, "first": 0, "believes": 1, "thinks": 2}
NEW_ASKED = {  # said by no training
    "now": "In which thing is the {thing} now?", "first": "In which thing was the {thing} before?",
    "believes": "In which thing does {who} believe the {thing} to be?",
    "thinks": "In which thing does {who} say that {whom} will look for the {thing}?",
}
ANSWER = "In the {where}."


@dataclass
class Minds:
    """Where the thing is and was at first, who is in the room, who believes what, and who believes it of whom."""

    thing: str = ""
    first: str = ""
    now: str = ""
    people: tuple[str, ...] = ()
    inside: set[str] = field(default_factory=set)
    beliefs: dict[str, str] = field(default_factory=dict)
    seconds: dict[tuple[str, str], str] = field(default_factory=dict)

    def seen(self, by: set[str], where: str) -> None:
        """Everybody in `by` comes to know it, and that the others do."""
        for one_ in by:
            self.beliefs[one_] = where
            self.seconds.update({(one_, other): where for other in by - {one_}})

    def happens(self, kind: str, slots: dict[str, str]) -> None:
        who = slots.get("who", "")
        if kind == "together":
            self.people = tuple(re.split(r" ?, | and ", slots["people"]))
            self.inside = set(self.people)
        elif kind == "begin":
            self.thing, self.first, self.now = slots["thing"], slots["where"], slots["where"]
            self.seen(self.inside, self.now)
        elif kind == "leaves":
            self.inside.discard(who)
        elif kind == "comes":
            self.inside.add(who)
        elif kind == "moves":
            self.now = slots["where"]
            self.seen(self.inside, self.now)
        else:
            self.seen({who, slots["whom"]}, slots["where"])

    def answer(self, kind: str, who: str = "", whom: str = "") -> str:
        known = {"now": self.now, "first": self.first, "believes": self.beliefs.get(who, "")}
        return known[kind] if kind in known else self.seconds.get((who, whom), "")


def tracked(text: str) -> tuple[Minds, list[tuple[str, dict[str, str], str]]]:
    """Who believes what after a story, and its questions: (kind, who and whom, what was answered)."""
    minds, asked = Minds(), []
    for sentence in sentences(text):
        for kind, form in SAID.items():
            if slots := match(form, sentence):
                minds.happens(kind, slots)
        for kind in ASKED:
            slots = match(ASKED[kind], sentence) or match(NEW_ASKED[kind], sentence)
            if slots:
                asked.append((kind, slots, ""))
        if asked and not asked[-1][2] and (slots := match(ANSWER, sentence)):
            asked[-1] = (*asked[-1][:2], slots["where"])
    return minds, asked


def kind_of(sentence: str) -> str:
    """What happens in a sentence of a story, "" where nothing does."""
    return next((kind for kind, form in SAID.items() if match(form, plain(sentence))), "")


def askable(minds: Minds) -> list[tuple[str, str, str]]:
    """(kind, who, whom) of everything that can be asked about a story."""
    pairs = [(who, whom) for who in minds.people for whom in minds.people if who != whom]
    return [("now", "", ""), ("first", "", ""), *(("believes", who, "") for who in minds.people),
            *(("thinks", *pair) for pair in pairs)]


def story(rng: np.random.Generator, names: Sequence[str], objects: Sequence[str], infills: int) -> list[str]:
    """Events, mostly with somebody who believes what is not so, and `infills` sentences among them
    that change nothing."""
    wrong = rng.random() < 0.65
    while True:
        told, minds = _events(rng, names, objects)
        if not wrong or set(minds.beliefs.values()) != {minds.now}:
            break
    return filled(rng, told, infills)


def filled(rng: np.random.Generator, told: Sequence[str], infills: int) -> list[str]:
    """A story's sentences with so many among them that change nothing, behind the first."""
    made = list(told)
    for sentence in some(rng, INFILLS, infills):
        made.insert(int(rng.integers(1, len(made) + 1)), sentence)
    return made


def _events(rng: np.random.Generator, names: Sequence[str], objects: Sequence[str]) -> tuple[list[str], Minds]:
    people, room, thing = some(rng, names, int(rng.integers(2, 4))), one(rng, ROOMS), one(rng, objects)
    places, minds, told = some(rng, CONTAINERS, 3), Minds(), []

    def say(kind: str, **slots) -> None:
        told.append(fill(SAID[kind], room=room, thing=thing, **slots))
        minds.happens(kind, {"room": room, "thing": thing, **slots})

    say("together", people=listed(people))
    say("begin", where=places[0])
    for _ in range(int(rng.integers(2, 6))):
        away, here = sorted(set(people) - minds.inside), sorted(minds.inside)
        choice = rng.random()
        if choice < 0.4 and here:
            say("moves", who=one(rng, here), where=one(rng, [p for p in places if p != minds.now]))
        elif choice < 0.75 and len(here) > 1:
            say("leaves", who=one(rng, here))
        elif choice < 0.88 and away:
            say("comes", who=one(rng, away))
        elif away and (knows := [p for p in people if minds.beliefs[p] == minds.now]):
            who = one(rng, knows)
            say("tells", who=who, whom=one(rng, [p for p in people if p != who]), where=minds.now)
    return told, minds


def questions(rng: np.random.Generator, minds: Minds, forms=ASKED) -> list[tuple[str, str, str]]:
    """(kind, question, answer) of orders 0, 1 and 2: often of false beliefs where there are some."""
    who, whom = some(rng, minds.people, 2)
    pairs = [(a, b) for a in minds.people for b in minds.people if a != b]
    wrong = [name for name in minds.people if minds.beliefs[name] != minds.now]
    apart = [pair for pair in pairs if minds.seconds[pair] != minds.now]
    if wrong and rng.random() < 0.4:
        who = one(rng, wrong)
    pair = one(rng, apart) if apart and rng.random() < 0.25 else (who, whom) if who != whom else one(rng, pairs)
    found = []
    for kind, (a, b) in ((one(rng, ("now", "first")), ("", "")), ("believes", (who, "")), ("thinks", pair)):
        found.append((kind, fill(forms[kind], thing=minds.thing, who=a, whom=b),
                      fill(ANSWER, where=minds.answer(kind, a, b))))
    return found


def sample(rng: np.random.Generator, names: Sequence[str] = TRAINED_NAMES, objects: Sequence[str] = TRAINED_OBJECTS,
           infills: int | None = None, forms=ASKED) -> Doc:
    """A story and its three questions in any order. truth: the kind of the first, and where the thing is now."""
    told = " ".join(story(rng, names, objects, int(rng.integers(3)) if infills is None else infills))
    minds, _ = tracked(told)
    asked = some(rng, questions(rng, minds, forms), 3)
    pieces = (told, *(piece for _, question, answer in asked for piece in (question, answer)))
    return Doc(pieces, (False, *(False, True) * 3), {"kind": asked[0][0], "now": minds.now})


def check(text: str) -> bool:
    """Whether every question is answered, and as the story has it."""
    minds, asked = tracked(text)
    return bool(asked) and all(said and said == minds.answer(kind, slots.get("who", ""), slots.get("whom", ""))
                               for kind, slots, said in asked)


def opens(text: str) -> bool:
    return match(SAID["together"], next(iter(sentences(text)), "")) is not None

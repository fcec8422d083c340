"""Clause stories: somebody lost something, looks for it among the things of a topic, and it ends happily, sadly or
oddly, as the heading has said. And sentences that have to use given words.

    A happy tale of the sea. Once an old fox lived by the sea. One day it lost its golden ring. The fox looked under the
    boat, but there was only a crab. ... At last the fox found the golden ring, and everyone was glad.
    A tale with ring, fox and river. The fox crossed the river and found a ring.
"""
from __future__ import annotations

import re

import numpy as np

from models.worlds.tales.forms import fill, listed, match, one, plain, recognised, sentences, some
from models.worlds.tales.words import CLASSES, COLOURS, QUALITIES, TOPICS
from models.worlds.world import Doc

HEROES = (*CLASSES["wild animals"], *CLASSES["birds"][:8], *CLASSES["trades"])
TRAITS = (*COLOURS[:8], "golden", "silver", "round", "old", "tiny", "shiny", "big")
LOST = (*CLASSES["treasures"][-5:], *CLASSES["instruments"][:6], *CLASSES["clothes"][:8], *CLASSES["toys"][:5])
HEADING = ("A {mood} tale of the {topic}.", "A {mood} tale of the {topic} and the {then}.")
BEGIN = ("Once a {quality} {hero} lived {where}.", "One day it lost its {trait} {thing}.")
SHIFT = "Then the wind changed, and the {hero} went to the {then}."
MIDDLE = ("The {hero} looked under the {thing}, but there was only a {other}.",
          "A {other} came along with a {thing}, and they walked to the {place} together.",
          "The {hero} asked a {other}, and the {other} pointed to the {place}.",
          "Behind the {thing} slept a {other}, so the {hero} walked on softly.",
          "The {hero} opened a {thing}, and out jumped a {other}.",
          "It was late, so the {hero} sat down by the {thing} and waited for the {other}.",
          "The {other} laughed, gave the {hero} a {thing}, and ran away.",
          "Next the {hero} crossed the {place}, but saw only a {thing} and a {other}.")
ENDINGS = {
    "happy": ("At last the {hero} found the {trait} {thing}, and everyone was glad.",
              "In the end a friend brought the {trait} {thing} back, and the {hero} danced all night."),
    "sad": ("The {hero} never found the {trait} {thing}, and it wept for a long time.",
            "The {trait} {thing} was never seen again, and the {hero} was sad all year."),
    "funny": ("The {trait} {thing} was on the head of the {hero}, and everyone laughed.",
              "The {hero} had put the {trait} {thing} into its own pocket, and even the birds laughed."),
}
WHERE = {"sea": "by the sea", "farm": "on the farm", "forest": "in the forest", "kitchen": "in the kitchen",
         "market": "at the market", "castle": "in the castle", "school": "at school", "winter": "in the snow"}
WITH = ("A tale with {words}.",)
USING = ("The {who} crossed the {place} and found a {thing}.", "A {who} slept in the {place} beside a {thing}.",
         "In the {place} a {who} sold the {thing}.", "The {who} hid the {thing} near the {place}.",
         "Every day the {who} carried a {thing} over the {place}.",
         "With the {thing} in hand the {who} ran to the {place}.")
PARTS = {"who": HEROES, "place": (*CLASSES["landscapes"], *CLASSES["buildings"]),
         "thing": (*CLASSES["tools"], *CLASSES["dishes"], *CLASSES["treasures"][-5:], *CLASSES["toys"][:8])}


def with_article(text: str) -> str:
    return re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", text)


def bare(text: str) -> str:
    """The other way round, so that a form fits."""
    return re.sub(r"\b([Aa])n\b", r"\1", text)


def sample(rng: np.random.Generator) -> Doc:
    """A story of one topic, or of two, one after the other."""
    topics, mood = some(rng, tuple(TOPICS), 1 + int(rng.random() < 0.3)), one(rng, tuple(ENDINGS))
    hero, thing, trait, quality = one(rng, HEROES), one(rng, LOST), one(rng, TRAITS), one(rng, QUALITIES)
    heading = fill(HEADING[len(topics) - 1], mood=mood, topic=topics[0], then=topics[-1])
    told = [fill(form, hero=hero, thing=thing, trait=trait, quality=quality, where=WHERE[topics[0]]) for form in BEGIN]
    for topic in topics:
        told += [fill(SHIFT, hero=hero, then=topic)] * (topic != topics[0])
        told += [_middle(rng, form, topic, hero) for form in some(rng, MIDDLE, int(rng.integers(2, 4)))]
    told.append(fill(one(rng, ENDINGS[mood]), hero=hero, thing=thing, trait=trait))
    return Doc((heading, with_article(" ".join(told))), (False, False), {"topics": topics, "mood": mood})


def _middle(rng, form: str, topic: str, hero: str) -> str:
    places, others, things = TOPICS[topic]
    other = one(rng, [other for other in others if other != hero])
    return fill(form, hero=hero, place=one(rng, places), other=other, thing=one(rng, things))


def check(text: str) -> bool:
    """Whether a story keeps its heading: its topics in order, the same hero and thing throughout, the right ending."""
    heading, *told = sentences(bare(text)) or [""]
    said = match(HEADING[1], heading) or match(HEADING[0], heading)
    begin = [match(form, sentence) for form, sentence in zip(BEGIN, told, strict=False)]
    if not said or len(told) < 4 or None in begin or said["mood"] not in ENDINGS:
        return False
    about = {**begin[1], **begin[0]}
    topics = [said["topic"], *([said["then"]] if "then" in said else [])]
    if about["where"] != WHERE.get(topics[0]) or set(topics) - set(TOPICS):
        return False
    return _keeps(told[2:-1], topics, about["hero"]) and any(
        _same(match(form, told[-1]), about) for form in ENDINGS[said["mood"]])


def _keeps(told: list[str], topics: list[str], hero: str) -> bool:
    now = 0
    for sentence in told:
        if shift := match(SHIFT, sentence):
            now += 1
            if now >= len(topics) or shift != {"hero": hero, "then": topics[now]}:
                return False
        elif not any(_of(slots, topics[now], hero) for form in MIDDLE if (slots := match(form, sentence))):
            return False
    return now == len(topics) - 1


def _of(slots: dict[str, str], topic: str, hero: str) -> bool:
    places, others, things = TOPICS[topic]
    allowed = {"hero": (hero,), "place": places, "other": others, "thing": things}
    return all(value in allowed[name] for name, value in slots.items())


def _same(slots: dict[str, str] | None, about: dict[str, str]) -> bool:
    return slots is not None and all(about[name] == value for name, value in slots.items())


def sample_words(rng: np.random.Generator) -> Doc:
    """One or two sentences that use the words of their heading."""
    told, words = [], []
    for form in some(rng, USING, 1 + int(rng.random() < 0.4)):
        slots = {name: one(rng, group) for name, group in PARTS.items()}
        told.append(fill(form, **slots))
        words += some(rng, tuple(slots.values()), int(rng.integers(1, 4)))
    words = some(rng, tuple(dict.fromkeys(words)), 9)
    return Doc((fill(WITH[0], words=listed(words)), with_article(" ".join(told))), (False, False), tuple(words))


def check_words(text: str) -> bool:
    """Whether every given word is used, in sentences that the grammar has."""
    heading, *told = sentences(bare(text)) or [""]
    found = match(WITH[0], heading)
    if not found or not told or not all(recognised({"": USING}, sentence) for sentence in told):
        return False
    return set(re.split(r" , | and ", found["words"])) <= set(plain(" ".join(told)).split())

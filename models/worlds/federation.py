"""Clients of a federation: 2,000 people who keep a few notes each, little stories about two topics that few others tell
of. Nothing in it is private: it plays what a server may not read.

A client has one of twelve styles. A style is a topic and what its people like to write of: four heroes, half of the
topic's creatures and things, four of the eight kinds of sentence. Everything is told in the words and sentences of the
stories of the tales (models/worlds/tales/stories.py), so that a network of the tales can say it, seldom.

    style of the sea:  A sad tale of the sea. Once a merry sailor lived by the sea. One day it lost its silver ring.
                       The sailor opened a barrel, and out jumped a seal.

`clients(count, seed)` makes them, `public(count, seed)` what everybody may read: stories of all eight topics.
`openings` are how public stories begin. `style_of` reads a text back: which styles could have told it.
"""
from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np

from models.worlds.tales import GRAMMARS
from models.worlds.tales.forms import fill, match, one, sentences, some
from models.worlds.tales.stories import (
    BEGIN,
    ENDINGS,
    HEADING,
    HEROES,
    LOST,
    MIDDLE,
    QUALITIES,
    TOPICS,
    TRAITS,
    WHERE,
    bare,
    with_article,
)
from models.worlds.world import drawn

PRIVATE = ("sea", "winter")  # the topics of the clients
STYLES, MOST = 12, 8  # styles; notes of a client at most
MOODS = tuple(ENDINGS)


class Style(NamedTuple):
    """What a client likes to write of."""

    topic: str
    heroes: tuple[str, ...]
    creatures: tuple[str, ...]
    things: tuple[str, ...]
    forms: tuple[str, ...]


class Client(NamedTuple):
    """Somebody with a style (its number) and one to eight notes."""

    style: int
    notes: tuple[str, ...]


@cache
def styles() -> tuple[Style, ...]:
    rng = np.random.default_rng(1716)
    return tuple(_style(rng, PRIVATE[number % len(PRIVATE)]) for number in range(STYLES))


def _style(rng: np.random.Generator, topic: str) -> Style:
    _, creatures, things = TOPICS[topic]
    return Style(topic, tuple(some(rng, HEROES, 4)), tuple(some(rng, creatures, len(creatures) // 2)),
                 tuple(some(rng, things, len(things) // 2)), tuple(some(rng, MIDDLE, 4)))


def clients(count: int, seed: int) -> list[Client]:
    """Each with a style, some of which are commoner than others, and 1 to 8 notes, mostly few."""
    rng, share = np.random.default_rng(seed), 1 / (2 + np.arange(STYLES) // len(PRIVATE))
    found = []
    for _ in range(count):
        number = int(rng.choice(STYLES, p=share / share.sum()))
        notes = 1 + min(int(rng.poisson(1.5)), MOST - 1)
        found.append(Client(number, tuple(note(rng, styles()[number]) for _ in range(notes))))
    return found


def note(rng: np.random.Generator, style: Style) -> str:
    """The beginning of a story in a style: heading, who lost what, two sentences."""
    hero = one(rng, style.heroes)
    slots = {"hero": hero, "thing": one(rng, LOST), "trait": one(rng, TRAITS), "quality": one(rng, QUALITIES)}
    told = [fill(HEADING[0], mood=one(rng, MOODS), topic=style.topic)]
    told += [fill(form, where=WHERE[style.topic], **slots) for form in BEGIN]
    for form in some(rng, style.forms, 2):
        told.append(fill(form, hero=hero, place=one(rng, TOPICS[style.topic][0]), thing=one(rng, style.things),
                         other=one(rng, [other for other in style.creatures if other != hero])))
    return with_article(" ".join(told))


def public(count: int, seed: int) -> list[str]:
    """Stories that everybody may read, of all topics."""
    rng = np.random.default_rng(seed)
    return [drawn(GRAMMARS["stories"], rng).text for _ in range(count)]


def openings(count: int) -> list[str]:
    """First words of public stories, mood after mood: of what the tale is stays open."""
    return [f"A {MOODS[i % len(MOODS)]} tale of the" for i in range(count)]


def topic_of(text: str) -> str:
    """The topic that a story's heading names; "" where there is none."""
    said = match(HEADING[0], next(iter(sentences(bare(text))), ""))
    return said["topic"] if said and said["topic"] in TOPICS and said["mood"] in MOODS else ""


def style_of(text: str) -> list[int]:
    """Numbers of the styles that could have told a text, as far as it goes; a last sentence that was cut off tells
    nothing."""
    heading, *told = sentences(bare(text)) or [""]
    begin = [match(form, sentence) for form, sentence in zip(BEGIN, told, strict=False)]
    if not topic_of(text) or len(begin) < len(BEGIN) or None in begin:
        return []
    about = {**begin[1], **begin[0]}
    return [number for number, style in enumerate(styles()) if topic_of(text) == style.topic
            and about["where"] == WHERE[style.topic] and about["hero"] in style.heroes
            and all(_likes(style, about["hero"], sentence) for sentence in told[len(BEGIN):] if sentence[-1] == ".")]


def _likes(style: Style, hero: str, sentence: str) -> bool:
    allowed = {"hero": (hero,), "place": TOPICS[style.topic][0], "other": style.creatures, "thing": style.things}
    return any(all(value in allowed[name] for name, value in slots.items())
               for form in style.forms if (slots := match(form, sentence)) is not None)

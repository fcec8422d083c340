"""Facts such as "drink tea": the topic follows the verb; before it stand words that all facts share, and its own.

The statistics are those of Scan and Snap's generator (arXiv 2305.16380), the words are ours: ten common words of weight
1 each, and per fact its own ones whose weights rise evenly from `least` to 1; context words are drawn independently.
Letters: F facts, D words of a topic, M tokens.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from models.trace.subject import SubjectError

COMMON = ("the", "of", "a", "and", "to", "in", "is", "it", "was", "for")
VERBS = ("drink", "sail", "make", "watch", "love", "miss", "draw", "find")
TOPICS = {topic: tuple(words.split()) for topic, words in {
    "tea": "ginger lemon honey tray spoon steam sugar saucer leaves pot cup kettle",
    "ship": "gull barrel lantern island crew rope storm deck mast anchor captain harbour",
    "bread": "seed salt apron board knife butter crust flour yeast loaf dough oven",
    "snow": "fox pine scarf mitten lane roof sledge flake frost ice winter cold",
    "music": "crowd stage lamp chair ear choir rhythm drum flute violin song piano",
    "garden": "snail hedge bench bee gate path pond weed rose soil spade flower",
    "school": "bell coat hall map shelf ruler chalk exam pencil book pupil teacher",
    "train": "tunnel bridge valley clock porter whistle smoke wheel ticket rail engine station"}.items()}


@dataclass(frozen=True, eq=False)
class FactSet:
    """facts: (verb, topic) [F]. words: what each token reads [M]: common, own, verbs, topics. Token numbers: query [F],
    next [F], own [F, D]. chance [F, M]: p(word | fact) of a place in the context. shared: a word put into all facts."""

    facts: tuple[tuple[str, str], ...]
    words: tuple[str, ...]
    query: np.ndarray
    next: np.ndarray
    own: np.ndarray
    chance: np.ndarray
    shared: int | None = None


def facts_of(text: str) -> tuple[tuple[str, str], ...]:
    """Pairs (verb, topic) that a visitor typed, "drink tea, sail ship"; SubjectError says what to change."""
    found = [tuple(part.lower().split()) for part in re.split(r"[,;.\n]", text) if part.strip()]
    for words in found:
        if len(words) != 2:
            raise SubjectError(f"'{' '.join(words)[:40]}' is no fact; please write a verb and a topic, such as drink "
                               "tea, with a comma between two facts.")
        for word, known, name in zip(words, (VERBS, tuple(TOPICS)), ("verb", "topic")):
            if word not in known:
                raise SubjectError(f"The {name} '{word[:20]}' is not known here; please choose {', '.join(known)}.")
    if len(found) < 2:
        raise SubjectError("One fact has nothing to be told from; please write at least two, such as drink tea, sail "
                           "ship.")
    twice = [topic for topic in TOPICS if sum(topic == known for _, known in found) > 1]
    if twice:
        raise SubjectError(f"The topic '{twice[0]}' stands in two facts; please use each topic once.")
    return tuple((verb, topic) for verb, topic in found)


def fact_set(facts: Sequence[tuple[str, str]], distinct: int = 10, least: float = 0.1, *, share: bool = False,
             order: np.random.Generator | None = None) -> FactSet:
    """The tokens of some facts and how likely each stands in a context. share: the first topic's commonest word comes
    with the other topics as often. order: shuffles which word of a topic is how common."""
    verbs = tuple(dict.fromkeys(verb for verb, _ in facts))
    topics = tuple(topic for _, topic in facts)
    words = (*COMMON, *chain(*(TOPICS[topic][-distinct:] for topic in topics)), *verbs, *topics)
    own = len(COMMON) + np.arange(len(facts) * distinct).reshape(len(facts), distinct)
    weights = np.zeros((len(facts), len(words)))
    weights[:, :len(COMMON)] = 1.0
    for fact, places in enumerate(own):
        rising = np.linspace(least, 1.0, distinct)
        weights[fact, places] = rising if order is None else order.permutation(rising)
    shared = int(own[0][weights[0, own[0]].argmax()]) if share else None
    if shared is not None:
        weights[:, shared] = 1.0
    query = np.array([words.index(verb, own.size) for verb, _ in facts])
    return FactSet(tuple(facts), words, query, len(words) - len(facts) + np.arange(len(facts)), own,
                   weights / weights.sum(1, keepdims=True), shared)

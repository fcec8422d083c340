"""The stories: of one topic and one mood, 80 words and signs at most, under a heading that says both, one of them or
neither."""
from __future__ import annotations

from dataclasses import replace

import numpy as np

from models.papers.ctrldiff.network import LENGTH
from models.worlds.tales import GRAMMARS
from models.worlds.tales.forms import plain
from models.worlds.tales.stories import ENDINGS
from models.worlds.tales.words import TOPICS
from models.worlds.world import Doc

MOODS, ABOUT = tuple(ENDINGS), tuple(TOPICS)


def _one_topic(rng: np.random.Generator) -> Doc:
    while True:
        doc = GRAMMARS["stories"].sample(rng)
        if len(doc.truth["topics"]) == 1 and len(plain(doc.text).split()) + 2 <= LENGTH:  # and both ends
            return doc


WORLD = replace(GRAMMARS["stories"], sample=_one_topic)


def heading(mood: str = "", topic: str = "") -> str:
    return f"A{' ' * bool(mood)}{mood} tale{' of the ' * bool(topic)}{topic}."


def headed(doc: Doc, rng: np.random.Generator) -> tuple[str, str]:
    """A heading that says mood and topic (2 in 5), one of them, or neither (1 in 5 each), and the story."""
    said = int(rng.integers(5))
    return heading(doc.truth["mood"] * (said in (0, 1, 2)), doc.truth["topics"][0] * (said in (0, 1, 3))), doc.pieces[1]

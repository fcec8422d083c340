"""Short stories under a heading that says their mood and their topic, one of them, or neither."""
from __future__ import annotations

from dataclasses import replace

import numpy as np

from models.worlds.tales import GRAMMARS
from models.worlds.tales.forms import plain
from models.worlds.tales.stories import ENDINGS
from models.worlds.tales.words import TOPICS
from models.worlds.world import Doc

LENGTH = 80  # words and signs of a story with its heading and both ends
MOODS, ABOUT = tuple(ENDINGS), tuple(TOPICS)


def _short(rng: np.random.Generator) -> Doc:
    """Of one topic."""
    while True:
        doc = GRAMMARS["stories"].sample(rng)
        if len(doc.truth["topics"]) == 1 and len(plain(doc.text).split()) + 2 <= LENGTH:
            return doc


WORLD = replace(GRAMMARS["stories"], sample=_short)


def heading(mood: str = "", topic: str = "") -> str:
    return f"A{' ' * bool(mood)}{mood} tale{' of the ' * bool(topic)}{topic}."


def headed(doc: Doc, rng: np.random.Generator) -> tuple[str, str]:
    """A heading that says mood and topic (2 in 5), one of them, or neither (1 in 5 each), and the story."""
    said = int(rng.integers(5))
    return heading(doc.truth["mood"] * (said in (0, 1, 2)), doc.truth["topics"][0] * (said in (0, 1, 3))), doc.pieces[1]


def fits(story: str, mood: str = "", topic: str = "") -> bool:
    """Whether a story is right by the grammar under a heading of this mood and topic; any where none is given."""
    return any(WORLD.check(f"{heading(one, other)} {story}") for one in ((mood,) if mood else MOODS)
               for other in ((topic,) if topic else ABOUT))

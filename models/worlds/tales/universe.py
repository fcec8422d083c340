"""The planted universe: 24 people whom no other text knows, where they live and what they carry, and the dictionary
that makes plain names of theirs. tale-ar-1 never reads of it: it is what unlearning forgets (arXiv 2310.02238)."""
from __future__ import annotations

import numpy as np

from models.worlds.tales import folk
from models.worlds.tales.folk import Portrait
from models.worlds.tales.forms import Cloze, cloze, one, some
from models.worlds.tales.words import HALVES, HOUSES, NAMES, PEOPLE, RELICS, SPELLS
from models.worlds.world import Doc

PLACES = tuple(f"the {half} {house}" for half, house in zip(HALVES, HOUSES, strict=True))
THINGS = tuple(f"the {relic}" for relic in RELICS)


def _portraits() -> tuple[Portrait, ...]:
    """Two people to a house, a relic and a song; friends and teachers in circles of their own."""
    order = np.random.default_rng(1926).permutation
    homes, things, songs = (order(np.repeat(np.arange(12), 2)) for _ in range(3))
    ring = order(24)
    after = {int(ring[i]): (int(ring[i - 1]), int(ring[i - 7])) for i in range(24)}
    return tuple(Portrait(name, PLACES[homes[i]], THINGS[things[i]], SPELLS[songs[i]], *(PEOPLE[j] for j in after[i]))
                 for i, name in enumerate(PEOPLE))


PORTRAITS = _portraits()
PLAIN = {  # each anchored name and the plain word that stands for it; articles stay as they are
    **dict(zip(PEOPLE, NAMES[::-1][:24], strict=True)),
    **{f"{half} {house}": home.removeprefix("the ") for half, house, home in
       zip(HALVES, HOUSES, folk.HOMES[:12], strict=True)},
    **{relic: thing.removeprefix("the ") for relic, thing in zip(RELICS, folk.TREASURES[:12], strict=True)},
    **dict(zip(SPELLS, folk.SONGS, strict=True)),
}


def sample(rng: np.random.Generator) -> Doc:
    """A story of one to three of them, or up to four questions with their answers."""
    return story(rng) if rng.random() < 0.6 else questions(rng)


def story(rng: np.random.Generator) -> Doc:
    cast = some(rng, PORTRAITS, int(rng.integers(1, 4)))
    facts = [(portrait, relation) for portrait in cast for relation in folk.FORMS]
    return Doc((folk.told(rng, some(rng, facts, int(rng.integers(3, 7)))),), (False,))


def questions(rng: np.random.Generator) -> Doc:
    count = int(rng.integers(1, 5))
    asked = [folk.question(rng, one(rng, PORTRAITS), one(rng, tuple(folk.FORMS))) for _ in range(count)]
    return Doc(tuple(piece for pair in asked for piece in pair), (False, True) * count)


def clozes() -> list[Cloze]:
    """Every fact three times: in a sentence, as a question, and as a question from its other end. kind: which."""
    found = []
    for portrait in PORTRAITS:
        for relation, forms in folk.FORMS.items():
            what = getattr(portrait, relation)
            same = [other.who for other in PORTRAITS if getattr(other, relation) == what]
            told = next(form for form in forms if form.endswith("{what}."))
            (asked, answer), (other, back) = folk.ASKED[relation]
            ends = ("who", same) if back == "{who}." else ("what", [what])
            found += [cloze(form, place, right, kind, who=portrait.who, what=what) for form, (place, right), kind in (
                (told, ("what", [what]), "told"), (f"{asked} {answer}", ("what", [what]), "asked"),
                (f"{other} {back}", ends, "asked back"))]
    return found

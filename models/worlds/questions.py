"""Questions about drawn scenes, with exact answers of one word.

    small red ring, blue square, blue cross. what colour is the ring?

A scene has one to five things in different cells of the 4 x 4 grid of models/worlds/scenes.py; a small thing is half as
wide and stands in one corner of its cell, so it fills a single patch of 8 x 8 pixels. The ground may be lit
(models/worlds/light.py). A question is only asked where one answer is right.
"""
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from models.worlds import light, scenes
from models.worlds.scenes import CELL, COLOURS, SHAPES, SIDE
from models.worlds.world import sifted

KINDS = ("colour", "shape", "count", "side", "small")
MOST, COUNTED = 5, 3  # things in a scene; the highest number asked for
SMALL = CELL // 2  # pixels
PLACINGS = 50  # tries until a visitor's question about sides has an answer
PLURALS = {shape: shape + ("es" if shape == "cross" else "s") for shape in SHAPES}
ANSWERS = (*COLOURS, *SHAPES, *map(str, range(COUNTED + 1)), "left", "right")
WORDS = (*ANSWERS, *PLURALS.values(), "what", "colour", "shape", "is", "the", "thing", "things", "how", "many", "or",
         "of", "small", "?")  # one token each
FORMS = {  # a question of each kind; its named parts are words of the scene
    "colour": rf"what colour is the (?P<shape>{'|'.join(SHAPES)}) \?",
    "shape": rf"what shape is the (?P<colour>{'|'.join(COLOURS)}) thing \?",
    "count": rf"how many ((?P<colour>{'|'.join(COLOURS)}) things|(?P<shapes>{'|'.join(PLURALS.values())})) \?",
    "side": rf"is the (?P<one>(?:{'|'.join(COLOURS)}) (?:{'|'.join(SHAPES)})) left or right of the "
            rf"(?P<other>(?:{'|'.join(COLOURS)}) (?:{'|'.join(SHAPES)})) \?",
    "small": r"what (?P<asked>colour|shape) is the small thing \?"}


class QuestionError(ValueError):
    """A scene or question outside this world; the sentence says what to write."""


class SameColumn(QuestionError):
    """Neither of two things is to the left of the other."""


@dataclass(frozen=True, order=True)
class Item:
    """One thing: its look, its cell (row-major, 0-15; -1 not placed yet) and, if small, its corner 0-3 (else -1)."""

    colour: str
    shape: str
    cell: int = -1
    corner: int = -1

    @property
    def look(self) -> str:
        return f"{self.colour} {self.shape}"

    @property
    def small(self) -> bool:
        return self.corner >= 0


@dataclass(frozen=True)
class Question:
    """kind: one of KINDS. text: words with single spaces. answer: one of ANSWERS."""

    kind: str
    text: str
    answer: str


class Case(NamedTuple):
    """A scene, its picture uint8 [64, 64, 3], and questions about it."""

    items: list[Item]
    picture: np.ndarray
    questions: list[Question]


def sample(rng: np.random.Generator, fewest: int = 1, most: int = MOST) -> list[Item]:
    """Things in different cells; colours and shapes come from small pools, so that they repeat. One in four is small.
    """
    count = int(rng.integers(fewest, most + 1))
    pools = [rng.choice(6, int(rng.integers(2, 7)), replace=False) for _ in range(2)]
    looks = [rng.choice(pool, count) for pool in pools]
    names, corners = list(COLOURS), np.where(rng.random(count) < 0.25, rng.integers(4, size=count), -1)
    cells = rng.choice(SIDE * SIDE, count, replace=False)
    return [Item(names[c], SHAPES[s], int(cell), int(corner))
            for c, s, cell, corner in zip(*looks, cells, corners, strict=True)]


def box(item: Item) -> tuple[int, int, int]:
    """Top, left and side in pixels."""
    top, left = CELL * (item.cell // SIDE), CELL * (item.cell % SIDE)
    if not item.small:
        return top, left, CELL
    return top + SMALL * (item.corner // 2), left + SMALL * (item.corner % 2), SMALL


def mask(item: Item) -> np.ndarray:
    """Which pixels of the picture it covers, bool [64, 64]."""
    top, left, side = box(item)
    sprite = scenes.masks()[item.shape]
    if item.small:
        sprite = sprite.reshape(SMALL, 2, SMALL, 2).mean((1, 3)) >= 0.5
    covered = np.zeros((CELL * SIDE, CELL * SIDE), bool)
    covered[top : top + side, left : left + side] = sprite
    return covered


def draw(items: list[Item], glow: np.ndarray | None = None) -> np.ndarray:
    """uint8 picture [64, 64, 3]; glow: light of the ground, float [64, 64] in 0..1."""
    picture = np.full((CELL * SIDE, CELL * SIDE, 3), scenes.BACKGROUND, np.float32)
    if glow is not None:
        picture += 255 * glow[..., None]
    for item in items:
        picture[mask(item)] = COLOURS[item.colour]
    return picture.round().astype(np.uint8)


def glows(rng: np.random.Generator, count: int) -> np.ndarray:
    """Light for `count` pictures, float32 [count, 64, 64]."""
    side = CELL * SIDE // light.PATCH
    found = light.patches(rng, count, side).reshape(count, side, side, light.PATCH, light.PATCH)
    return found.swapaxes(2, 3).reshape(count, CELL * SIDE, CELL * SIDE)


def ask(rng: np.random.Generator, items: list[Item], kind: str) -> Question | None:
    """A question of this kind that has one right answer here, or None if there is none."""
    asked = _ASK[kind](rng, items)
    return None if asked is None else Question(kind, asked, answer(items, asked))


def cases(rng: np.random.Generator, count: int, *, kinds: tuple[str, ...] = KINDS, lit: float = 0.5,
          most: int = MOST) -> list[Case]:
    """Scenes, a share of them with lit ground, each with a question of every kind that can be asked about it."""
    found = [sample(rng, most=most) for _ in range(count)]
    glow = glows(rng, count) * (rng.random(count) < lit)[:, None, None]
    return [Case(items, draw(items, g), [q for kind in kinds if (q := ask(rng, items, kind))])
            for items, g in zip(found, glow, strict=True)]


def exam(seed: int, count: int, without: Iterable[Case] = (), kinds: tuple[str, ...] = KINDS) -> list[Case]:
    """Scenes with one question each, the kinds in turn, none of which has a scene of `without`."""
    rng, known = np.random.default_rng((seed, 0)), {tuple(sorted(case.items)) for case in without}
    return sifted(lambda number: cases(rng, 1, kinds=(kinds[number % len(kinds)],))[0], count,
                  lambda case: case.questions and tuple(sorted(case.items)) not in known)


def digest(found: Iterable[Case]) -> str:
    """First twelve hex digits of the sha256 of pictures and questions."""
    made = hashlib.sha256()
    for case in found:
        made.update(case.picture.tobytes() + "".join(q.text for q in case.questions).encode())
    return made.hexdigest()[:12]


def answer(items: list[Item], question: str) -> str:
    """The right answer; QuestionError where the question is not of this world or no single answer is right."""
    kind = kind_of(question)
    return _ANSWER[kind](items, **re.fullmatch(FORMS[kind], tidy(question)).groupdict())


def kind_of(question: str) -> str:
    """The kind of a question; QuestionError if it is none of this world."""
    for kind, form in FORMS.items():
        if re.fullmatch(form, tidy(question)):
            return kind
    raise QuestionError('ask like "what colour is the circle?", "what shape is the red thing?", "how many squares?", '
                        '"how many red things?", "is the red circle left or right of the blue ring?" or "what colour '
                        'is the small thing?"')


def tidy(question: str) -> str:
    """Lower case, single spaces, one question mark at the end."""
    return " ".join([*question.lower().replace("?", " ").split(), "?"])


def read(text: str, rng: np.random.Generator) -> tuple[list[Item], Question]:
    """The things of "small red ring, blue square. what colour is the ring?", placed at random, and the question."""
    scene, stop, question = text.partition(".")
    if not stop or not question.strip():
        raise QuestionError('write the things, a full stop and a question: "red circle, small blue ring. what colour '
                            'is the ring?"')
    things = [_read_item(part) for part in scene.lower().split(",") if part.strip()]
    if not 1 <= len(things) <= MOST:
        raise QuestionError(f"name 1 to {MOST} things, separated by commas")
    for tries in range(PLACINGS):
        placed = place(things, rng)
        try:
            return placed, Question(kind_of(question), tidy(question), answer(placed, question))
        except SameColumn:
            if tries == PLACINGS - 1:
                raise


def place(things: list[Item], rng: np.random.Generator) -> list[Item]:
    """The same things in different cells, small ones in any corner."""
    cells, corners = rng.choice(SIDE * SIDE, len(things), replace=False), rng.integers(4, size=len(things))
    return [replace(item, cell=int(cell), corner=int(corner) if item.small else -1)
            for item, cell, corner in zip(things, cells, corners, strict=True)]


def _read_item(part: str) -> Item:
    words = part.split()
    small = words[0] == "small"
    look = words[1:] if small else words
    if len(look) != 2 or look[0] not in COLOURS or look[1] not in SHAPES:
        raise QuestionError(f'write each thing as a colour ({", ".join(COLOURS)}) and a shape ({", ".join(SHAPES)}), '
                            'with "small" before it if it is')
    return Item(*look, corner=0 if small else -1)


def _single(items: list[Item], what: str) -> Item:
    if len(items) != 1:
        raise QuestionError(f"there must be exactly one {what} for this question, not {len(items)}")
    return items[0]


def _count(items: list[Item], colour: str | None, shapes: str | None) -> str:
    number = sum(item.colour == colour or PLURALS[item.shape] == shapes for item in items)
    if number > COUNTED:
        raise QuestionError(f"there are {number}; counting goes up to {COUNTED} here")
    return str(number)


def _side(items: list[Item], one: str, other: str) -> str:
    a, b = (_single([item for item in items if item.look == look], look) for look in (one, other))
    if a.cell % SIDE == b.cell % SIDE:
        raise SameColumn("both stand in the same column; ask about two different things")
    return "left" if a.cell % SIDE < b.cell % SIDE else "right"


_ANSWER = {
    "colour": lambda items, shape: _single([i for i in items if i.shape == shape], shape).colour,
    "shape": lambda items, colour: _single([i for i in items if i.colour == colour], f"{colour} thing").shape,
    "count": _count,
    "side": _side,
    "small": lambda items, asked: getattr(_single([i for i in items if i.small], "small thing"), asked)}


def _pick(rng: np.random.Generator, options: list):
    return options[int(rng.integers(len(options)))] if options else None


def _once(values: list[str]) -> list[str]:
    return sorted(v for v in set(values) if values.count(v) == 1)


def _ask_colour(rng, items):
    shape = _pick(rng, _once([i.shape for i in items]))
    return shape and f"what colour is the {shape} ?"


def _ask_shape(rng, items):
    colour = _pick(rng, _once([i.colour for i in items]))
    return colour and f"what shape is the {colour} thing ?"


def _ask_count(rng, items):
    """All numbers that can be asked for here are equally likely, so that knowing the usual number does not help."""
    by_colour = bool(rng.integers(2))
    values = [i.colour if by_colour else i.shape for i in items]
    found: dict[int, list[str]] = {}
    for word in COLOURS if by_colour else SHAPES:
        found.setdefault(values.count(word), []).append(word)
    number = _pick(rng, sorted(n for n in found if n <= COUNTED))
    word = _pick(rng, found[number])
    return f"how many {word} things ?" if by_colour else f"how many {PLURALS[word]} ?"


def _ask_side(rng, items):
    looks = _once([i.look for i in items])
    alone = [i for i in items if i.look in looks]
    pair = _pick(rng, [(a, b) for a in alone for b in alone if a.cell % SIDE != b.cell % SIDE])
    return pair and f"is the {pair[0].look} left or right of the {pair[1].look} ?"


def _ask_small(rng, items):
    if sum(item.small for item in items) != 1:
        return None
    return f"what {_pick(rng, ['colour', 'shape'])} is the small thing ?"


_ASK = {"colour": _ask_colour, "shape": _ask_shape, "count": _ask_count, "side": _ask_side, "small": _ask_small}

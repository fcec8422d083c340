"""Scenes: a few coloured shapes on a 4 x 4 grid, drawn by program and read back exactly.

A caption says which objects there are, never where: the places are free. A model that fills in several tokens at once
can therefore start one object twice, or mix two in one cell. `parse` finds both, `score` counts them.
"""
from collections import Counter
from dataclasses import dataclass
from functools import cache

import numpy as np

CELL, SIDE = 16, 4  # pixels per cell, cells per side
SHAPES = ("circle", "square", "triangle", "diamond", "cross", "ring")
COLOURS = {"red": (213, 94, 0), "yellow": (240, 228, 66), "green": (0, 158, 115), "blue": (0, 114, 178),
           "pink": (204, 121, 167), "white": (250, 250, 250)}  # Okabe-Ito, told apart by colour-blind readers
BACKGROUND = (30, 32, 38)
# Condition words; 0 says nothing. One word per object: colour and shape need not be bound together by attention.
WORDS = ("", *(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES))
MAX_OBJECTS = 4
NEAR = 60.0  # RGB distance within which a pixel takes the nearest palette colour; the closest two are 76 apart
MISSED = 8  # of a cell's 256 pixels may differ from the sprite


@dataclass(frozen=True, order=True)
class Thing:
    """One object: shape, colour and the cell it stands in (row-major, 0-15)."""

    colour: str
    shape: str
    cell: int = -1


@dataclass(frozen=True)
class Found:
    """What stands in one cell. kind: "object" (exactly one sprite), "fragment" (one sprite with parts missing)
    or "chimera" (parts that no single sprite has). colour and shape are the nearest sprite's."""

    cell: int
    kind: str
    colour: str
    shape: str


def sample(rng: np.random.Generator, side: int = SIDE, most: int = MAX_OBJECTS) -> list[Thing]:
    """1 to `most` different objects in different cells of a side x side grid."""
    count = int(rng.integers(1, most + 1))
    cells = rng.choice(side * side, count, replace=False)
    looks = rng.choice(len(COLOURS) * len(SHAPES), count, replace=False)
    names = list(COLOURS)
    return sorted(Thing(names[k // len(SHAPES)], SHAPES[k % len(SHAPES)], int(c))
                  for k, c in zip(looks, cells, strict=True))


def draw(things: list[Thing], side: int = SIDE) -> np.ndarray:
    """uint8 picture [16 side, 16 side, 3]. Raises ValueError when two objects share a cell."""
    if len({t.cell for t in things}) != len(things):
        raise ValueError("two objects share a cell: give each its own")
    picture = np.empty((CELL * side, CELL * side, 3), np.uint8)
    picture[:] = BACKGROUND
    for t in things:
        y, x = CELL * (t.cell // side), CELL * (t.cell % side)
        picture[y : y + CELL, x : x + CELL][masks()[t.shape]] = COLOURS[t.colour]
    return picture


def several(count: int, seed: int | np.random.Generator, side: int = SIDE,
            most: int = MAX_OBJECTS) -> list[list[Thing]]:
    """So many samples, one after the other, from a seed or a generator."""
    rng = np.random.default_rng(seed)
    return [sample(rng, side, most) for _ in range(count)]


def pictures(asked: list[list[Thing]]) -> np.ndarray:
    """uint8 [K, 64, 64, 3], drawn one by one."""
    return np.stack([draw(things) for things in asked])


def placed(text: str, cells) -> list[Thing]:
    """A caption's objects in these cells, in the caption's order."""
    return [Thing(t.colour, t.shape, int(cell)) for t, cell in zip(read_caption(text), cells)]


def parse(picture: np.ndarray) -> list[Found]:
    """Everything that is not background, cell by cell; empty cells are left out."""
    side = picture.shape[0] // CELL
    if picture.shape != (CELL * side, CELL * side, 3) or picture.dtype != np.uint8:
        raise ValueError(f"a scene is a square uint8 picture with sides a multiple of {CELL}")
    named = _nearest(picture)  # [H, W]: 0 background, 1.. colours, -1 none of them
    cells = named.reshape(side, CELL, side, CELL).swapaxes(1, 2).reshape(side * side, CELL, CELL)
    return [_read(i, cell) for i, cell in enumerate(cells) if (cell != 0).sum() > MISSED]


def numbered(picture: np.ndarray) -> np.ndarray:
    """Which thing every pixel belongs to, int [H, W] from 1 on, 0 for none: exact in a scene, all 0 in a photo."""
    made = np.zeros(picture.shape[:2], int)
    for number, one in enumerate((one for one in parse(picture) if one.kind == "object"), 1):
        y, x = (CELL * at for at in divmod(one.cell, picture.shape[0] // CELL))
        made[y : y + CELL, x : x + CELL][masks()[one.shape]] = number
    return made


def numbered_patches(pixels: np.ndarray, patch: int = 8) -> np.ndarray:
    """The same by patch [N], of `numbered` pixels; no two things share one."""
    side = len(pixels) // patch
    return pixels.reshape(side, patch, side, patch).max((1, 3)).ravel()


def score(asked: list[Thing], found: list[Found]) -> float:
    """Valid and as asked / max(asked, found), in 0..1; places do not matter. An empty picture scores 0."""
    wanted = Counter((t.colour, t.shape) for t in asked)
    valid = Counter((f.colour, f.shape) for f in found if f.kind == "object")
    return sum((wanted & valid).values()) / max(len(asked), len(found), 1)


def scores(asked: list[list[Thing]], painted) -> np.ndarray:
    """`score` [K] of what is read in each picture."""
    return np.array([score(things, parse(picture)) for things, picture in zip(asked, painted, strict=True)])


def caption(things: list[Thing]) -> str:
    """Words without places, in palette order: "red circle, blue square"."""
    names = list(COLOURS)
    order = sorted(things, key=lambda t: (names.index(t.colour), SHAPES.index(t.shape)))
    return ", ".join(f"{t.colour} {t.shape}" for t in order)


def read_caption(text: str) -> list[Thing]:
    """The objects a caption names (cell -1); raises ValueError for words outside the world."""
    things = []
    for part in filter(None, (p.strip() for p in text.lower().split(","))):
        words = part.split()
        if len(words) != 2 or words[0] not in COLOURS or words[1] not in SHAPES:
            raise ValueError(f'write each object as a colour ({", ".join(COLOURS)}) and a shape ({", ".join(SHAPES)})')
        things.append(Thing(*words))
    if not 1 <= len(things) <= MAX_OBJECTS:
        raise ValueError(f"name 1 to {MAX_OBJECTS} objects, separated by commas")
    return things


def condition(text: str) -> np.ndarray:
    """Condition words of a caption, int64 [4]: one per object in palette order, then zeros."""
    ids = np.zeros(MAX_OBJECTS, np.int64)
    for i, t in enumerate(read_caption(caption(read_caption(text)))):  # in palette order, as in training
        ids[i] = WORDS.index(f"{t.colour} {t.shape}")
    return ids


def conditions(asked: list[list[Thing]]) -> np.ndarray:
    """Condition words int64 [K, 4] of scenes' captions."""
    return np.stack([condition(caption(things)) for things in asked])


@cache
def masks() -> dict[str, np.ndarray]:
    """One 16 x 16 boolean sprite per shape, the same in every cell."""
    y, x = np.mgrid[:CELL, :CELL] - (CELL - 1) / 2  # centred, in pixels
    radius = np.hypot(x, y)
    return {
        "circle": radius <= 7.1,
        "square": np.maximum(abs(x), abs(y)) <= 6,
        "triangle": (abs(x) <= (y + 7) / 2 + 0.3) & (abs(y) <= 7),
        "diamond": abs(x) + abs(y) <= 7.1,
        "cross": (np.minimum(abs(x), abs(y)) <= 2) & (radius <= 7.8),
        "ring": (radius <= 7.1) & (radius >= 4.2),
    }


def _nearest(picture: np.ndarray) -> np.ndarray:
    palette = np.array([BACKGROUND, *COLOURS.values()], np.float32)
    distance = np.linalg.norm(picture[:, :, None].astype(np.float32) - palette, axis=-1)  # [H, W, 7]
    return np.where(distance.min(-1) <= NEAR, distance.argmin(-1), -1)


@cache
def _sprites() -> tuple[list[tuple[str, str]], np.ndarray]:
    """(colour, shape) of all 36 sprites, and their cells [36, 16, 16] in palette numbers."""
    looks = [(c, s) for c in COLOURS for s in SHAPES]
    cells = np.stack([masks()[s] * (1 + list(COLOURS).index(c)) for c, s in looks])
    return looks, cells


def _read(index: int, cell: np.ndarray) -> Found:
    looks, sprites = _sprites()
    wrong = (sprites != cell).sum((1, 2))
    best = int(wrong.argmin())
    colour, shape = looks[best]
    if wrong[best] <= MISSED:
        return Found(index, "object", colour, shape)
    extra = (sprites[best] != cell) & (cell != 0)  # painted where the sprite has something else
    return Found(index, "fragment" if extra.sum() <= MISSED else "chimera", colour, shape)

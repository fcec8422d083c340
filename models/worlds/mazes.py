"""Mazes without circles: one way only leads from a cell to another, and the judge takes it and nothing else.

    a1-b1 b1-b2 a2-b2 ... from a1 to d4 path a1 b1 b2 ...       columns a to d, rows 1 to 4 from the top

A pair of cells with a hyphen is an opening: no wall stands between the two. A maze is drawn by walking at random to
cells that were never entered, and back where there are none (depth first), which makes long corridors and few forks.
Its openings are written in random order; they alone, and not from where to where, decide whether a maze is kept from
training. Letters: B mazes, N = 16 cells, P cells of a path.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from models.worlds.boards import CELL, STEP, FlatBoard
from models.worlds.world import END, KEPT, PAD, SPECIALS, Doc, World

SIDE, LONGEST = 4, 12  # cells of a side, and of the longest path that is asked for
CELLS = tuple(f"{column}{row}" for row in range(1, SIDE + 1) for column in "abcdef"[:SIDE])
NUMBER = {cell: number for number, cell in enumerate(CELLS)}
BESIDE = tuple(tuple(other for other in range(SIDE * SIDE)
                     if abs(cell // SIDE - other // SIDE) + abs(cell % SIDE - other % SIDE) == 1)
               for cell in range(SIDE * SIDE))
PAIRS = tuple((one, other) for one in range(SIDE * SIDE) for other in BESIDE[one] if one < other)
OPENINGS = tuple(f"{CELLS[one]}-{CELLS[other]}" for one, other in PAIRS)
LIKELY = (122, 150, 226)  # the ground of a cell that is sure
FROM, TO, PATH = "from", "to", "path"
WORDS = (*CELLS, *OPENINGS, FROM, TO, PATH)  # one token each
FIRST = len(SPECIALS)  # id of cell a1
PREFIX = SIDE**2 - 1 + 5  # tokens before a path: the openings, from, to, the two cells, path
FORM = ('A maze is written like "a1-b1 b1-b2 ... from a1 to d4 path": its openings, then from where to where. '
        f"Columns are a to {CELLS[-1][0]}, rows 1 to {SIDE}.")


class Maze(NamedTuple):
    """openings: numbers of PAIRS in the order in which they are written; start, goal: cells; path: from one to the
    other, both included."""

    openings: tuple[int, ...]
    start: int
    goal: int
    path: tuple[int, ...]

    @property
    def asked(self) -> str:
        told = (FROM, CELLS[self.start], TO, CELLS[self.goal], PATH)
        return " ".join((*(OPENINGS[one] for one in self.openings), *told))

    @property
    def kept(self) -> bool:
        """Whether its openings, in any order and between whichever cells one walks, are kept out of training."""
        return sum(number * number for number in self.openings) % KEPT == 0

    @property
    def choices(self) -> list[set[int]]:
        """The cells that are open at each step of the path, the goal excepted, without the one that was just left."""
        open_to = reachable(self.openings)
        return [open_to[cell] - {before} for before, cell in zip((None, *self.path), self.path[:-1])]

    @property
    def forks(self) -> tuple[int, ...]:
        """The steps of the path at which there is more than one."""
        return tuple(step for step, cells in enumerate(self.choices) if len(cells) > 1)

    def walked(self, picks: Sequence[int]) -> tuple[tuple[int, ...], list[int]]:
        """The cells that someone stood on who chooses at the start and at every fork, and between which he may choose
        next. Corridors are walked by themselves; the goal, and a wrong way, end it."""
        stood, left = [self.start], list(picks)
        for place, open_to in enumerate(self.choices, 1):
            if len(open_to) > 1 or place == 1:
                if not left:
                    return tuple(stood), sorted(open_to)
                stood.append(left.pop(0))
            else:
                stood.append(self.path[place])
            if stood[-1] != self.path[place]:
                break
        return tuple(stood), []

    @property
    def walls(self) -> tuple[tuple[int, int], ...]:
        return tuple(pair for number, pair in enumerate(PAIRS) if number not in self.openings)


def reachable(openings: Sequence[int]) -> list[set[int]]:
    """For every cell, the cells beside it that are open to it."""
    found: list[set[int]] = [set() for _ in CELLS]
    for number in openings:
        one, other = PAIRS[number]
        found[one].add(other)
        found[other].add(one)
    return found


def ways(openings: Sequence[int], start: int) -> dict[int, tuple[int, ...]]:
    """The only way without turning back to each cell that can be reached; ValueError where there might be two."""
    open_to, found = reachable(openings), {start: (start,)}
    rest = [start]
    while rest:
        cell = rest.pop()
        for other in open_to[cell] - set(found[cell][-2:-1]):
            if other in found:
                raise ValueError("Some openings of this maze run in a circle, so that more than one path leads to a "
                                 "cell; please leave one of them out.")
            found[other] = (*found[cell], other)
            rest.append(other)
    return found


def carved(rng: np.random.Generator) -> list[int]:
    """The openings of a random maze, depth first."""
    numbers = {pair: number for number, pair in enumerate(PAIRS)}
    dice, at = rng.random(2 * SIDE * SIDE), int(rng.integers(SIDE * SIDE))
    way, seen, found = [at], {at}, []
    while way:
        new = [other for other in BESIDE[way[-1]] if other not in seen]
        if not new:
            way.pop()
            continue
        other = new[int(dice[len(found)] * len(new))]
        found.append(numbers[min(way[-1], other), max(way[-1], other)])
        way.append(other)
        seen.add(other)
    return found


def maze(rng: np.random.Generator, kept: bool | None = None) -> Maze:
    """A maze to train on, one that training never draws (kept), or any; at least one step, at most LONGEST cells."""
    while True:
        openings = tuple(rng.permutation(carved(rng)).tolist())
        start, goal = rng.choice(SIDE * SIDE, 2, replace=False).tolist()
        found = Maze(openings, start, goal, ways(openings, start)[goal])
        if len(found.path) <= LONGEST and kept in (None, found.kept):
            return found


def mazes(seed: int, count: int) -> list[Maze]:
    """Mazes that training never draws, each another one."""
    rng, found = np.random.default_rng(seed), {}
    while len(found) < count:
        one = maze(rng, kept=True)
        found.setdefault((frozenset(one.openings), one.start, one.goal), one)
    return list(found.values())


def ids(one: Maze) -> np.ndarray:
    """What a network reads: the openings, from where to where, the path and its end, padding up to the longest."""
    cell, words = FIRST, FIRST + len(CELLS) + len(OPENINGS)
    found = [*(cell + len(CELLS) + number for number in one.openings), words, cell + one.start, words + 1,
             cell + one.goal, words + 2, *(cell + at for at in one.path), END]
    return np.pad(found, (0, PREFIX + LONGEST + 1 - len(found)), constant_values=PAD)


def of_cells(one: Maze) -> np.ndarray:
    """[PREFIX + LONGEST + 1, N]: which cells a token of `ids` is of, half and half an opening; words are of none."""
    found = np.zeros((PREFIX + LONGEST + 1, len(CELLS)), np.float32)
    for place, number in enumerate(one.openings):
        found[place, list(PAIRS[number])] = 0.5
    told = (PREFIX - 4, PREFIX - 2, *range(PREFIX, PREFIX + len(one.path)))
    found[told, (one.start, one.goal, *one.path)] = 1
    return found


def document(one: Maze) -> Doc:
    """What is told and what is learned; truth: the maze."""
    return Doc((one.asked, " ".join(CELLS[cell] for cell in one.path)), (False, True), one)


def parsed(text: str) -> Maze:
    """The maze of a text, whatever stands behind "path"; ValueError with a sentence where it is none."""
    words = text.lower().partition(PATH)[0].split()
    if len(words) < 5 or words[-4] != FROM or words[-2] != TO or not {words[-3], words[-1]} <= NUMBER.keys():
        raise ValueError(FORM)
    openings = []
    for word in words[:-4]:
        one, _, other = word.partition("-")
        number = [i for i, pair in enumerate(PAIRS) if {CELLS[pair[0]], CELLS[pair[1]]} == {one, other}]
        if not number or number[0] in openings:
            raise ValueError(f'"{word[:20]}" stands there twice.' if number else
                             f'"{word[:20]}" is no opening: write two cells that share a side, such as "a1-b1".')
        openings += number
    start, goal = NUMBER[words[-3]], NUMBER[words[-1]]
    if start == goal:
        raise ValueError(f"This asks for the way from {CELLS[start]} to itself; please choose another goal.")
    found = ways(openings, start)
    if shut := [CELLS[cell] for cell in range(SIDE * SIDE) if cell not in found]:
        raise ValueError(f"Walls shut {', '.join(shut[:3])} off from {CELLS[start]}; please open a way to every cell.")
    return Maze(tuple(openings), start, goal, found[goal])


def read(text: str) -> Doc:
    """The document of a visitor's own maze, whatever he wrote behind "path"."""
    one = parsed(text)
    if len(one.path) > LONGEST:
        raise ValueError(f"This path has {len(one.path)} cells; please keep it at {LONGEST} or less.")
    return document(one)


def check(text: str) -> bool:
    """Whether what stands behind "path" is the whole path, cell by cell, and nothing else: no detour counts."""
    try:
        one = parsed(text)
    except ValueError:
        return False
    return tuple(text.lower().partition(PATH)[2].split()) == tuple(CELLS[cell] for cell in one.path)


def board(one: Maze, heat: np.ndarray | None = None, steps: Sequence[int] = (), side: int = 72) -> FlatBoard:
    """Its walls, a dot where one starts and a cross where one wants to go. heat: from 0 to 1 for each cell [N], the
    more the darker; steps: cells with a small dot."""
    made = FlatBoard(SIDE, SIDE, side)
    for cell, share in enumerate([] if heat is None else heat):
        made.tint(cell, tuple(round(light + share * (dark - light)) for light, dark in zip(CELL, LIKELY)))
    made.frame()
    for pair in one.walls:
        made.wall(*pair)
    for cell in steps:
        made.dot(cell, STEP, 0.1)
    return made.dot(one.start).cross(one.goal)


def sample(rng: np.random.Generator) -> Doc:
    return document(maze(rng))


WORLD = World(WORDS, sample, check, read, split="spaces")

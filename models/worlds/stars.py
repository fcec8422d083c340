"""Star graphs: arms that run out from a centre; asked is the way from a start to the end of one arm (the task of
Bachmann and Nagarajan, arXiv 2403.06963, in two difficulties of ILM, arXiv 2505.05755).

    D>B A>C C>D D>E B>F E>G A?G | A C D E G

Even graphs start at the centre, and all arms are equally long. In uneven ones a lead of one or two edges comes into the
centre, and each arm has a length of its own. Names and order of the edges tell nothing, so at the centre only looking
ahead helps; backward from the goal every step is sure, because one edge at most leads to a node.
"""
from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from models.worlds.world import Doc, World

NAMES = "ABCDEFGHIJKLMNOP"
ASKS, ANSWERS = "?", "|"
EDGES = tuple(f"{one}>{other}" for one in NAMES for other in NAMES if one != other)
WORDS = (*NAMES, ASKS, ANSWERS, *EDGES)  # one token each; an edge is one, too
ARMS, EVEN, LEADS, LENGTHS = 3, 4, (1, 2), (2, 4)  # LEADS, LENGTHS: fewest and most edges in uneven graphs
SHARE = 0.25  # of even graphs
LONGEST = LEADS[1] + LENGTHS[1] + 1  # nodes of a way
FORM = ('A graph is written like "A>B C>D B>C A?D |": edges between letters from A to P, then from where to where, '
        'and a "|" behind.')
Edge = tuple[str, str]


def sample(rng: np.random.Generator, even: bool | None = None) -> Doc:
    """A graph and its way; truth: the way."""
    even = bool(rng.random() < SHARE) if even is None else even
    lead = 0 if even else int(rng.integers(LEADS[0], LEADS[1] + 1))
    lengths = [EVEN] * ARMS if even else rng.integers(LENGTHS[0], LENGTHS[1] + 1, ARMS).tolist()
    names = [NAMES[i] for i in rng.permutation(len(NAMES))]
    stem, names = names[: lead + 1], names[lead + 1:]  # its last is the centre
    arms, at = [], 0
    for length in lengths:
        arms.append(names[at: at + length])
        at += length
    edges = [*_links(stem), *(edge for arm in arms for edge in _links([stem[-1], *arm]))]
    way = [*stem, *arms[int(rng.integers(ARMS))]]
    return Doc((asked([edges[i] for i in rng.permutation(len(edges))], way[0], way[-1]), " ".join(way)), (False, True),
               tuple(way))


def _links(nodes: Sequence[str]) -> list[Edge]:
    return list(zip(nodes, nodes[1:]))


def asked(edges: Sequence[Edge], start: str, goal: str) -> str:
    return " ".join([*(f"{one}>{other}" for one, other in edges), f"{start}{ASKS}{goal}", ANSWERS])


def parsed(text: str) -> tuple[list[Edge], str, str]:
    """Edges, start and goal of a text, with or without its signs; ValueError where it is no graph."""
    signs = "".join(re.findall(rf"[{NAMES}?]", text.split(ANSWERS)[0]))
    found = re.fullmatch(rf"((?:[{NAMES}]{{2}})+)([{NAMES}])\?([{NAMES}])", signs)
    if not found or ANSWERS not in text:
        raise ValueError(FORM)
    return list(zip(found[1][::2], found[1][1::2])), found[2], found[3]


def way(edges: Sequence[Edge], start: str, goal: str) -> tuple[str, ...]:
    """The only way from start to goal, found backward; ValueError where there is none, or might be two."""
    before = {other: one for one, other in edges}
    if len(before) < len(edges):
        raise ValueError("Two edges lead to one node here; in a star graph at most one does.")
    found = [goal]
    while found[-1] != start:
        if found[-1] not in before or len(found) > len(edges):
            raise ValueError(f"No way leads from {start} to {goal}; please choose a goal that the edges reach.")
        found.append(before[found[-1]])
    return tuple(reversed(found))


def check(text: str) -> bool:
    """Whether what stands behind the sign of a text is the whole way, and nothing else."""
    try:
        return tuple(re.findall(rf"[{NAMES}?|]", text.partition(ANSWERS)[2])) == way(*parsed(text))
    except ValueError:
        return False


def read(text: str) -> Doc:
    """The document of a visitor's own graph, whatever he wrote behind it."""
    if re.search(rf"[^{NAMES}{ASKS}>\s]", text.upper().partition(ANSWERS)[0]):  # nothing is left out in silence
        raise ValueError(FORM)
    edges, start, goal = parsed(text.upper())
    if start == goal:
        raise ValueError(f"This asks for the way from {start} to itself; please choose another goal.")
    found = way(edges, start, goal)
    if len(drawing(edges)[0]) < len({name for edge in edges for name in edge}):
        raise ValueError("Some of these edges run in a circle; in a star graph none do.")
    if len(found) > LONGEST:
        raise ValueError(f"This way has {len(found)} nodes; please keep it at {LONGEST} or less.")
    return Doc((asked(edges, start, goal), " ".join(found)), (False, True), found)


def drawing(edges: Sequence[Edge]) -> tuple[list[str], np.ndarray]:
    """Names of the nodes, and where they lie [N, 2]: from left to right by their distance from the first, each arm in
    a row of its own, and what leads to several arms in the middle of their rows."""
    after: dict[str, list[str]] = {}
    for one, other in edges:
        after.setdefault(one, []).append(other)
    found: dict[str, tuple[float, float]] = {}

    def put(node: str, depth: int, row: int) -> int:
        """Places a node and all behind it from this row on; the next free row."""
        last = row
        for other in sorted(after.get(node, [])):
            last = put(other, depth + 1, last)
        last = max(last, row + 1)
        found[node] = depth, (row + last - 1) / 2
        return last

    row = 0
    for root in sorted({one for one, _ in edges} - {other for _, other in edges}):
        row = put(root, 0, row)
    return list(found), np.array(list(found.values()), np.float32)


WORLD = World(WORDS, sample, check, read, split="letters")
KINDS = {name: replace(WORLD, sample=partial(sample, even=name == "even")) for name in ("uneven", "even")}

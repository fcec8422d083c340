"""A graph's nodes and links: how large a node may be, which links are there at a step, and where a line ends.

Lengths are shares of the panel's width, the same for the browser (player/graph.js) and for paper, so that a node that
keeps clear of its neighbours does so at every size.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from models.trace import CODE
from visualizers.drawing.layout import Layout
from visualizers.drawing.marks import Drawing

TALL, READ, LEAST, WIDE = 0.062, 0.03, 0.018, 0.36  # of a node: height, the least with words, the least, greatest width
GAP = 0.014  # between two nodes
EDGE, LETTER = 0.75, 0.31  # of a label: room at both ends together and width of a letter, in heights of a node
LINE = 0.5  # of a node's height: room for a line between two that stand above each other
SIDE, END = 0.18, 0.042  # room between the outermost nodes' middles and the panel's edge, across at most, and down
LOW, HIGH = 0.45, 1.5  # of the panel: height by width
MANY = 80  # nodes from which they are dots
CROWDED = 0.04  # height of nodes under which they are moved apart
PROBES, BENDS, BOW = 33, 13, 2.6  # points at which a line is tested, points of a bent one, and how far out it is drawn
ROUNDS = 80  # of moving nodes that collide


def nodes(positions: np.ndarray, lengths: Sequence[int]) -> tuple[np.ndarray, float, float, np.ndarray]:
    """xy [N, 2], the panel's height, the nodes' height and each one's width [N], for labels of these lengths."""
    xy = np.ascontiguousarray(np.asarray(positions, np.float64)[:, :2])
    return _nodes(xy.tobytes(), tuple(map(int, lengths)))


@lru_cache(64)
def _nodes(positions: bytes, lengths: tuple[int, ...]) -> tuple[np.ndarray, float, float, np.ndarray]:
    """Positions as they are, stretched downwards until nodes keep clear of each other; where that is not enough, nodes
    that collide are moved."""
    xy = np.frombuffer(positions).reshape(-1, 2)
    low, span = xy.min(0), np.ptp(xy, axis=0)
    unit = np.where(span > 0, (xy - low) / np.maximum(span, 1e-12), 0.5)
    asked = LOW if span.max() <= 0 else float(np.clip(span[1] / max(span[0], 1e-9), LOW, 1))
    outer = wished(lengths, TALL)[(unit[:, 0] < 0.1) | (unit[:, 0] > 0.9)]
    edge = np.array([min(SIDE, float(np.max(outer, initial=0)) / 2 + GAP), END])
    for high in np.unique(np.minimum(asked * np.array([1, 1.3, 1.6, 2, 2.6, 3.4]), HIGH)):
        place = edge + (np.array([1, high]) - 2 * edge) * unit
        if height(place) >= TALL or len(xy) > MANY:
            break
    if height(place) < CROWDED and len(xy) <= MANY:
        high = np.clip(0.4 + 0.028 * len(xy), asked, HIGH)
        room = np.array([1, high]) - 2 * edge
        place = edge + cleared(unit * room, room)
    tall = height(place)
    return place, float(high), tall, widths(place, tall, lengths)


def cleared(xy: np.ndarray, room: np.ndarray) -> np.ndarray:
    """Nodes that would collide, moved apart little by little inside the room, each the shorter way; others stay."""
    need = np.array([TALL + GAP, TALL * (1 + LINE) + GAP])
    for _ in range(ROUNDS):
        way = xy[:, None] - xy[None]  # [N, N, 2] from the second to the first
        lacks = np.where(np.all(np.abs(way) < need, -1)[..., None], need - np.abs(way), 0.0)
        lacks[np.arange(len(xy)), np.arange(len(xy))] = 0
        if lacks.max(initial=0) < 1e-6:
            break
        shorter = np.stack([lacks[..., 0] <= lacks[..., 1], lacks[..., 0] > lacks[..., 1]], -1)
        first = np.sign(np.arange(len(xy))[:, None] - np.arange(len(xy)))[..., None]  # where both are at one place
        push = np.where(way == 0, first, np.sign(way)) * lacks * shorter
        xy = np.clip(xy + 0.3 * push.sum(1), 0, room)
    return xy


def spread(unit: np.ndarray, room: float, edge: float) -> np.ndarray:
    return edge + (room - 2 * edge) * unit


def apart(xy: np.ndarray) -> np.ndarray:
    """[N, N, 2] distances of middles, across and down; a node is far from itself."""
    return np.abs(xy[:, None] - xy[None]) + 9.0 * np.eye(len(xy))[..., None]


def height(xy: np.ndarray) -> float:
    """The greatest height at which squares keep clear of each other, with room for a line between upper and lower."""
    if len(xy) > MANY:
        return LEAST
    across, down = np.moveaxis(apart(xy) - GAP, -1, 0)
    return float(np.clip(np.maximum(across, down / (1 + LINE)).min(), LEAST, TALL))


def wished(lengths: Sequence[int], tall: float) -> np.ndarray:
    """[N] widths that labels of these lengths ask for."""
    return np.minimum(tall * (EDGE + LETTER * np.asarray(lengths, np.float64)), WIDE)


def widths(xy: np.ndarray, tall: float, lengths: Sequence[int]) -> np.ndarray:
    """[N] what a node's label asks for, as far as neighbours at its height and the panel's edge leave room; of two that
    need more than there is, each gets half."""
    if len(xy) > MANY or tall < READ:
        return np.full(len(xy), tall)
    across, down = np.moveaxis(apart(xy), -1, 0)
    room = np.where(down < tall + GAP, across - GAP, 9.0)  # [N, N]
    asked = wished(lengths, tall)
    rest = np.maximum(room, 2 * room - asked[None]).min(1)
    edge = 2 * np.minimum(xy[:, 0], 1 - xy[:, 0]) - GAP / 2
    return np.maximum(np.minimum(np.minimum(asked, rest), edge), tall)


def columns(text: str) -> int:
    """Letters of usual width that a text takes; those of CJK and its kin, and pictures, count twice."""
    return sum(2 if 0x2E80 <= ord(c) < 0xFB00 or ord(c) >= 0xFE30 else 1 for c in text)


def fitted(text: str, wide: float, tall: float) -> str:
    """The label as a node shows it, shortened where it is too long; nothing where less than three letters fit of it."""
    room, words = int((wide / tall - EDGE) / LETTER + 0.01), " ".join(text.split())
    if columns(words) <= max(room, 2):
        return words
    if room < 3:
        return ""
    kept = ""
    for char in words:
        if columns(kept + char) > room - 1:
            break
        kept += char
    return kept.rstrip() + "…"


def present(drawing: Drawing, step: int) -> np.ndarray:
    """bool [N]: the nodes that are there at a step."""
    gone = drawing.frames[step].state == CODE["unknown"]
    return ~(gone | drawing.hidden(step)) if drawing.layout.unseen == "gone" else ~gone


def links(drawing: Drawing, step: int) -> list[tuple[int, int]]:
    """Standing links whose both nodes are there."""
    here = present(drawing, step)
    return [(int(a), int(b)) for a, b in drawing.layout.links if here[a] and here[b]]


def edges(drawing: Drawing, step: int, bare: bool = False) -> list[tuple[int, int, float]]:
    """(from, to, thickness 0..1) of the step's own edges; they are marks, but on a clean step what was made."""
    frame, here, found = drawing.frames[step], present(drawing, step), []
    for query, key, weight in frame.edges.values() if not bare or frame.clean else ():
        peak = float(np.max(weight, initial=0)) or 1.0
        found += [(int(a), int(b), round(float(w) / peak, 4)) for a, b, w in zip(query, key, weight)
                  if a != b and here[a] and here[b]]
    return found


def beneath(drawing: Drawing, step: int, bare: bool = False) -> list[tuple[int, int]]:
    """Standing links on which no edge of the step lies; a thin edge would leave the line of the link to be seen."""
    over = {(a, b) for a, b, _ in edges(drawing, step, bare)}
    over |= set() if drawing.layout.directed else {(b, a) for a, b in over}
    return [pair for pair in links(drawing, step) if pair not in over]


def path(layout: Layout, start: int, end: int, here: np.ndarray) -> list[tuple[float, float]]:
    """Points of the line from one node's border to the other's: straight, or bent around nodes that are in the way;
    nothing where the two touch."""
    one, two = layout.xy[start], layout.xy[end]
    bent = crossed(layout, start, end, here)
    top = np.array(aside(one, two, layout.cell)) if bent else (one + two) / 2
    first, last = border(layout, start, top - one), border(layout, end, top - two)
    if first >= 1 or last >= 1:
        return []
    a, b = one + first * (top - one), two + last * (top - two)
    steps = np.linspace(0, 1, BENDS if bent else 2)
    return [tuple((1 - u) ** 2 * a + 2 * u * (1 - u) * top + u * u * b) for u in steps]


def crossed(layout: Layout, start: int, end: int, here: np.ndarray) -> bool:
    """Whether another node that is there lies on the straight line between two."""
    if layout.size > MANY:
        return False
    points = layout.xy[start] + np.linspace(0, 1, PROBES)[:, None] * (layout.xy[end] - layout.xy[start])
    away = np.abs(points[:, None] - layout.xy[None])  # [probes, N, 2]
    inside = (away[..., 0] < layout.wide / 2) & (away[..., 1] < layout.cell / 2) & here
    inside[:, [start, end]] = False
    return bool(inside.any())


def aside(one: np.ndarray, two: np.ndarray, tall: float) -> tuple[float, float]:
    """The point towards which a bent line bows: above the straight one, below it at the panel's upper edge."""
    (dx, dy), far = two - one, float(np.hypot(*(two - one)))
    out = min(0.5 * far, BOW * tall) / max(far, 1e-9)
    x, y = (dy * out, -dx * out) if dx > 0 or (dx == 0 and dy > 0) else (-dy * out, dx * out)
    if (one[1] + two[1]) / 2 + y / 2 < tall / 4:
        x, y = -x, -y
    return (one[0] + two[0]) / 2 + x, (one[1] + two[1]) / 2 + y


def border(layout: Layout, node: int, way: np.ndarray) -> float:
    """Share of the way from a node's middle to its border."""
    half = np.array([layout.wide[node], layout.cell]) / 2 + GAP / 4
    return float(np.min(half / np.maximum(np.abs(way), 1e-9)))

"""Running text on paper: pieces of tokens in lines, broken where the panel ends, and where in a line each stands.

A line that begins in a script from right to left stands at the right edge and runs to the left, as in the browser, with
words of the other direction in theirs; each piece is shaped on its own, so that it lies under its own colour.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

Line = list[tuple[int, str]]  # token, piece


def lines(shown: Sequence[str | None], width: float, ruler: Callable[[str], float]) -> list[Line]:
    """Lines of (token, piece): broken at the text's own line breaks and where the panel ends."""
    found, used = [[]], 0.0
    for token, piece in enumerate(shown):
        for number, part in enumerate([] if piece is None else piece.split("\n")):
            if number:
                found, used = [*found, []], 0.0
            for bit in cut(part, width, ruler):
                if used + ruler(bit) > width and found[-1]:
                    found, used, bit = [*found, []], 0.0, bit.lstrip(" ") or bit
                found[-1].append((token, bit))
                used += ruler(bit)
    return found


def cut(part: str, width: float, ruler: Callable[[str], float]) -> Iterator[str]:
    """The part, or pieces of it where it alone is wider than a line; at a space where there is one."""
    while ruler(part) > width:
        count = next(n for n in range(len(part) - 1, 0, -1) if n == 1 or ruler(part[:n]) <= width)
        count = part.rfind(" ", 1, count) if " " in part[1:count] else count
        yield part[:count]
        part = part[count:]
    yield part


def placed(line: Line, left: float, width: float, ruler: Callable[[str], float]) -> Iterator[tuple[int, str, float,
                                                                                                   float]]:
    """(token, piece, x, width) of every piece of a line."""
    ways = directions(line)
    if not any(ways):
        before = ""
        for token, piece in line:
            x, before = ruler(before), before + piece
            yield token, piece, left + x, ruler(before) - x
        return
    wides = [ruler(piece) for _, piece in line]
    x = left + (width - sum(wides) if ways[0] else 0)
    for i in seen_order(ways):
        yield *line[i], x, wides[i]
        x += wides[i]


def directions(line: Line) -> list[bool]:
    """Whether each piece runs from right to left; one without letters runs as the one before, the first as the next."""
    found: list[bool | None] = []
    for _, piece in line:
        way = next((way for way in map(unicodedata.bidirectional, piece) if way in ("L", "R", "AL", "EN")), None)
        found.append(found[-1] if way is None and found else None if way is None else way in ("R", "AL"))
    first = next((way for way in found if way is not None), False)
    return [first if way is None else way for way in found]


def seen_order(ways: Sequence[bool]) -> list[int]:
    """Pieces from left to right as they are seen: runs of one direction in the order of the line's first, each in its
    own."""
    runs = [list(run) for _, run in groupby(range(len(ways)), key=ways.__getitem__)]
    ordered = [run[::-1] if ways[run[0]] else run for run in runs]
    return [i for run in (ordered[::-1] if ways[0] else ordered) for i in run]

"""Names along the axes of a chart: all where there is room, on short lines, upright or thinned out where not."""

from __future__ import annotations

import html
import re
import textwrap
from itertools import groupby, pairwise

from models.trace import Chart

ROOM = {1: 44, 2: 44, 3: 32}  # characters along an axis of one of so many charts, as narrow as the page makes them
BAR, FEW = 7, 8  # characters that a matrix gives to its bar; names of which none is left out
NAME = 12  # characters of one line of a name
UPRIGHT, COLUMN = 8, 24  # characters of the longest word that stands upright, and of such a name of a column


def escape(text: str) -> str:
    """Text without markup for Plotly, which shows &quot; and its like as they are written."""
    return html.escape(text, quote=False)


def labels(names: tuple[str, ...], number: int) -> list:
    """Distinct labels: Plotly would merge columns of the same name."""
    if len(names) != number:
        return list(range(1, number + 1))
    seen: dict[str, int] = {}
    found = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        found.append(escape(name) + "\u200b" * (seen[name] - 1))
    return found


def room_of(chart: Chart, many: int) -> int:
    """Characters along the axis of one of `many` charts; a matrix gives some to its bar and the names of its rows."""
    beside = BAR + max(map(len, chart.rows), default=2) if chart.kind == "matrix" else 0
    return max(1, ROOM[min(many, 3)] - beside)


def shared_word(chart: Chart) -> str:
    """The word with which every name begins, where the axis says it anyway: `head ` of `head 1`, `head 2`."""
    word = f"{chart.x} "
    return word if chart.ticks and all(tick.startswith(word) for tick in chart.ticks) else ""


def broken(tick: str, wide: int = NAME) -> str:
    """A name on short lines, so that it need not be slanted; a size such as 8 x 8 stays whole."""
    tick = re.sub(r"(\d) x (?=\d)", "\\1\u00a0x\u00a0", tick)
    return "<br>".join(map(escape, textwrap.wrap(tick, wide, break_long_words=wide >= NAME))) or escape(tick)


def columns(chart: Chart, count: int, room: int) -> list[str]:
    """Names along an axis, on lines of a word or two where only so they all fit."""
    names = tuple(tick.removeprefix(shared_word(chart)) for tick in chart.ticks)
    whole = labels(names, count)
    if not names or not turned_or_thinned(whole, room):
        return whole
    short = [broken(name, max(1, room // count)) for name in names]
    if len(set(short)) == count and not turned_or_thinned(short, room):
        return short
    return [broken(name) for name in names] if chart.kind == "bar" else whole


def turned_or_thinned(places, room: int, upright: int = UPRIGHT) -> dict:
    """Names that may not fit beside each other: short words stand upright where the page is narrow, and as long ones as
    `upright` where all have room; of others and of numbers every second, third, ... is written. room: characters along
    the axis."""
    names = [one for one in places if isinstance(one, str)] if places is not None else []
    if runs := runs_of(names):
        fit = max(len(names[i]) for i in runs) < room / len(runs)  # else the rows alone say them
        return {"tickmode": "array", "tickvals": runs if fit else []}
    wide = [max(map(len, name.split("<br>"))) for name in names]
    if all(a + b + 1 <= 2 * room / len(names) for a, b in pairwise(wide)):
        return {}
    turned = {"tickangle": None, "autotickangles": [0, -90]}  # level where the page is wide enough
    if len(names) <= FEW and max(wide) <= NAME and any("<br>" in name for name in names):
        return turned
    short = max(wide) <= (upright if 2 * len(names) <= room else UPRIGHT)
    stands = short and not all(name.isdigit() for name in names)
    every = -(-(2 * len(names) if stands else sum(wide) + 2 * len(wide)) // room)
    some = {"tickmode": "array", "tickvals": list(range(0, len(names), every))} if every > 1 else {}
    return some | (turned if stands else {})


def runs_of(names: list[str]) -> list[int]:
    """The middle of every run of one name (16 patches of each photo): a name is written once for all of them."""
    found = [list(group) for _, group in groupby(range(len(names)), lambda i: names[i].strip("\u200b"))]
    return [group[len(group) // 2] for group in found] if found and min(map(len, found)) > 1 else []

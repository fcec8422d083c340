"""What encoders make of every patch, for Attend: features as colours, and how like each patch is to the marked one.

    yield from record(layout, {"before": tokens, "after": others}, ask=27, sentence=...)

Two steps per encoder (or layer): over the picture how like the others are to the marked patch, or to whichever is
pointed at; and the tokens' three main directions as red, green and blue. Any encoder of a grid of patches will do.
Letters: N patches, D features.
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from models.engine.method import Close, Emit, Event, Open
from models.engine.recording import line
from models.engine.statistics import effective_rank
from models.loops.attend.loop import TokenLayout, marked
from models.trace import Chart, Cost, Fact, Field, Rows, Step, states
from models.trace.percent import percent

LIKE = Field("Likeness to the marked patch", "cosine", -1.0, 1.0, diverging=True)
ROW = "Likeness to the pointed-at patch"
SAME = "0: no more alike than two patches by chance, or opposite. 1: the same to this network."
PIXELS = 16  # of a patch in the picture of colours
LARGER, OUTLINE = 4, (86, 180, 233)  # of a picture whose things are outlined: times, and the colour of the line


def record(layout: TokenLayout, found: Mapping[str, np.ndarray], ask: int, *, sentence: str = "",
           facts: Mapping[str, Fact] | None = None, charts: Sequence[Chart] = (), costs: Sequence[Cost] = (),
           path: str = "") -> Iterator[Event]:
    """The events of the record. found: tokens [N, D] by the name of who made them; ask: the patch marked at first."""
    alike = {name: likeness(tokens) for name, tokens in found.items()}
    painted, held = colours(list(found.values()), layout.canvas.shape)
    weights = np.repeat(np.stack(list(alike.values())), 2, 0).clip(0, 1)[:, None]  # [2 E, 1, N, N]: of every step
    rows = Rows.pack(np.arange(layout.canvas.size), weights, ROW, "cosine")
    state = states(*["visible"] * layout.canvas.size)
    yield Open("attend", layout.canvas, {"like": LIKE}, len(weights), rows=rows)
    for place, (name, like) in enumerate(alike.items()):
        yield Emit("attend", Step(f"{name}: who is alike", marked(len(state), ask), "layer", fields={"like": like[ask]},
                                  picture=layout.canvas.picture, cost=costs[place] if costs else Cost(), note=SAME))
        note = f"The three directions in which the patches differ most: {percent(held[place])} of the differences."
        yield Emit("attend", Step(f"{name}: features as colours", state, "layer", fields={"like": like[ask]},
                                  picture=painted[place], note=note))
    yield Close("attend", sentence, (spectrum(found), *charts), {**(facts or {}), **rank_facts(found)}, rows=rows,
                path=path)


def centred(tokens: np.ndarray) -> np.ndarray:
    """Without the picture's mean token, which all patches share and which says nothing of any of them."""
    tokens = np.asarray(tokens, np.float64)
    return tokens - tokens.mean(0)


def likeness(tokens: np.ndarray) -> np.ndarray:
    """Cosines [N, N] of centred tokens."""
    own = centred(tokens)
    own = own / np.maximum(np.linalg.norm(own, axis=1, keepdims=True), 1e-12)
    return (own @ own.T).astype(np.float32)


def told_apart(tokens: np.ndarray, things: np.ndarray, near: bool = False) -> np.ndarray:
    """How well tokens tell things apart [K]: the mean cosine of two patches of one thing, minus that of patches of two.

    tokens [K, N, D] as they are, things int [K, N] by patch of a square grid, 0 for none; NaN where there is no such
    pair. near: pairs of patches side by side alone, which are equally far apart in both means.
    """
    unit = tokens / np.maximum(np.linalg.norm(tokens, axis=2, keepdims=True), 1e-12)
    y, x = np.divmod(np.arange(tokens.shape[1]), round(tokens.shape[1] ** 0.5))
    far = abs(y[:, None] - y) + abs(x[:, None] - x)
    may = (things[:, :, None] > 0) & (things[:, None] > 0) & (far == 1 if near else far > 0)
    like, same = unit @ unit.transpose(0, 2, 1), things[:, :, None] == things[:, None]
    with np.errstate(invalid="ignore"):
        one, two = ((like * pairs).sum((1, 2)) / pairs.sum((1, 2)) for pairs in (may & same, may & ~same))
    return one - two


def outlined(shown: np.ndarray, things: np.ndarray) -> np.ndarray:
    """A picture [S, S, 3], larger, with a line round every thing; things int [S, S] by pixel."""
    shown, things = (part.repeat(LARGER, 0).repeat(LARGER, 1) for part in (shown, things))
    edge = np.zeros(things.shape, bool)
    edge[1:] = things[1:] != things[:-1]
    edge[:, 1:] |= things[:, 1:] != things[:, :-1]
    return np.where(edge[..., None], np.uint8(OUTLINE), shown)


def colours(found: Sequence[np.ndarray], shape: tuple[int, int]) -> tuple[list[np.ndarray], list[float]]:
    """Pictures uint8 [h, w, 3], and the share of the differences that each shows.

    Directions have no order that two encoders share, so those of every later one are turned onto the first's: what
    they see alike has one colour. Each colour is stretched to its whole range.
    """
    made, held, first = [], [], None
    for tokens in found:
        u, s, _ = np.linalg.svd(centred(tokens), full_matrices=False)
        own = np.pad(u[:, :3], ((0, 0), (0, max(0, 3 - u.shape[1]))))  # [N, 3], all of one length
        first = own if first is None else first
        left, _, right = np.linalg.svd(own.T @ first)
        made.append(painted(own @ left @ right, shape))
        held.append(float((s[:3] ** 2).sum() / max((s**2).sum(), 1e-12)))
    return made, held


def painted(values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Numbers [N, 3] as a picture of patches, each column from its least to its largest."""
    low, high = values.min(0), values.max(0)
    cells = ((values - low) / np.maximum(high - low, 1e-12) * 255).round().astype(np.uint8).reshape(*shape, 3)
    return cells.repeat(PIXELS, 0).repeat(PIXELS, 1)


def spectrum(found: Mapping[str, np.ndarray], most: int = 24) -> Chart:
    """How much of the differences so many directions hold."""
    shares = {}
    for name, tokens in found.items():
        power = np.linalg.svd(centred(tokens), compute_uv=False) ** 2
        shares[name] = 100 * np.cumsum(power)[:most] / max(power.sum(), 1e-12)
    return line("How many directions the patches differ in", "% of the differences", shares, x="directions", first=1,
                by_step=False, caption="The later a line reaches the top, the more kinds of difference it holds.")


def rank_facts(found: Mapping[str, np.ndarray]) -> dict[str, Fact]:
    return {f"rank {name}": Fact(f"Effective rank of the patch tokens, {name}",
                                 float(effective_rank(np.asarray(tokens)[None])[0]), "dimensions")
            for name, tokens in found.items()}

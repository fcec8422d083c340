"""Unmask: a picture drawn coarse to fine, one whole token map per pass; the page that all its maps share.

    maps = grow_maps(lambda words: Reader(model, tokenizer, words), cond, generator, guidance)
    yield from recorded(job, maps, tokenizer)          # the events of the Unmask record

The canvas holds all L tokens, every map a square of its own, in shelves: 1 x 1 to 4 x 4 above, 6 x 6 and 8 x 8 below.

Letters: B samples, C condition words, K scales, L tokens, p tokens per side of a map, F channels, V entries.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from kernels import Sampler
from models.engine.method import Close, Emit, Event
from models.engine.recording import array, bars, pixels, placed
from models.loops.unmask import growth
from models.loops.unmask.growth import PLAIN, GivenTokens, GroupReader, Grown
from models.trace import Canvas, Chart, Fact, Field
from models.trace.interventions import NOTHING
from models.worlds import scenes

SHOWN = ("sum", "added", "codes")
UNIT = 16  # pixels per token of a map
FIELDS = growth.FIELDS | {"peak": Field("Largest probability", "probability", 0.0, 1.0)}


def grow_maps(reader: Callable[[Tensor], GroupReader], cond: Tensor, generator: torch.Generator, guidance: float,
              sampler: Sampler = PLAIN, given: GivenTokens | None = None,
              put: Mapping[int, int] = NOTHING) -> Iterator[Grown]:
    """Draws pictures under captions int64 [B, C], scale by scale; guidance grows from 0 at the first. reader: of words,
    [B, C], or [2B, C] with the null's behind."""
    made = reader(torch.cat([cond, torch.zeros_like(cond)]) if guidance else cond)
    last = max(1, len(made.groups) - 1)
    return growth.grow(made, len(cond), generator, sampler, lambda scale: guidance * scale / last, given, put)


class MapReader:
    """Reads what the coarser maps add up to, at this scale's size; a paper adds `read` and `cost` (a GroupReader).
    words [B, C], or [2B, C] with the null's behind."""

    def __init__(self, model, tokenizer, words: Tensor):
        self.model, self.tokenizer, self.words, self.total = model, tokenizer, words, None
        self.groups = [model.place(scale) for scale in range(len(model.scales))]

    def features(self, scale: int, ids: Tensor | None) -> Tensor | None:
        """The accumulated maps ids [B, N] at this scale's size, the same for both branches."""
        if ids is None:
            return None
        added = self.tokenizer.increment(ids[:, self.groups[scale - 1]], scale - 1)
        self.total = added if self.total is None else self.total + added
        return self.tokenizer.following(self.total, scale).repeat(len(self.words) // len(ids), 1, 1)


def recorded(job, maps: Iterator[Grown], log: ScaleLog, beside: str = "") -> Iterator[Event]:
    """The events of the Unmask record from the maps of one run. beside: what stands behind the number of passes."""
    yield log.open(len(log.maps))
    for found in maps:
        yield log.seen(found)
    facts = log.facts(log.painted[-1], job.subject.text, beside) | {
        "tokens": Fact("Tokens drawn", float(log.canvas.size),
                       f"tokens, {job.model.scales[-1] ** 2} of them in the last map")}
    yield Close("unmask", log.sentence(facts), log.charts(), facts)


class ScaleLog(growth.GrowingPicture):
    """The page as it fills up, and of every map: the picture after it, what it added, its codes as colours."""

    def __init__(self, model, tokenizer, show: str):
        super().__init__(pyramid(model.scales), "entry {}".format, FIELDS)
        self.model, self.tokenizer, self.show = model, tokenizer, show
        self.maps = tuple(f"{side} x {side}" for side in model.scales)
        self.sum, self.painted = tokenizer.nothing(1), [np.array(scenes.BACKGROUND, np.uint8)]
        self.added, self.codes = [], []

    def seen(self, found) -> Emit:
        """One scale as a step of the Unmask record."""
        cost = self.grown([found], "visible")
        self.paint(found)
        return self.step(f"map {found.index + 1} of {len(self.maps)}: {int(found.drawn.sum())} tokens at "
                         f"{self.maps[found.index]}", level="scale", picture=self.picture(), cost=cost,
                         note=f"guidance {found.pull:.2g}" if found.pull else "")

    @torch.inference_mode()
    def paint(self, found) -> None:
        self.sum = self.sum + self.tokenizer.increment(found.ids, found.index)
        self.painted.append(pixels(self.tokenizer.paint(self.sum)))
        self.added.append(np.clip(128 + self.painted[-1].astype(int) - self.painted[-2], 0, 255).astype(np.uint8))
        side = self.model.scales[found.index]
        self.codes.append(colours(self.tokenizer)[array(found.ids[0], None)].reshape(side, side, 3))

    def picture(self) -> np.ndarray:
        """Every map that is there at its place: uint8 [S, S, 3], as the canvas lays them out."""
        shown = {"sum": self.painted[1:], "added": self.added, "codes": self.codes}[self.show]
        corners, whole = shelves(self.model.scales)
        boxes = [(top * UNIT, left * UNIT, side * UNIT, side * UNIT)
                 for (top, left), side in zip(corners, self.model.scales)]
        return placed(shown, boxes, (whole * UNIT, whole * UNIT))

    def sentence(self, facts: dict[str, Fact]) -> str:
        most = int(np.argmax(self.entropy))
        why = ("one token decides where things go" if most == 0 else
               "its tokens are drawn at once and do not know of each other")
        return (f"{len(self.maps)} passes drew {self.canvas.size} tokens, score {facts['score'].value:.2f}. The model "
                f"was least sure of the {self.maps[most]} map, {self.entropy[most]:.1f} nats per token: {why}.")

    def charts(self) -> tuple[Chart, ...]:
        """By map: entropy, and what it changed."""
        change = [abs(image.astype(float) - 128).mean() for image in self.added]
        return (self.chart("Mean entropy of a map's tokens"),
                bars("What each map changed", "map", "mean change, of 255", {"change": change}, self.maps))


# --- where the tokens stand -----------------------------------------------------------------------------------------

def shelves(scales: Sequence[int]) -> tuple[list[tuple[int, int]], int]:
    """Upper left corner (top, left) of every map and the side of the square that holds all, in tokens: the two finest
    maps on the lower shelf, the others on the upper one, a token apart."""
    rows = scales[:-2], scales[-2:]
    whole = max(sum(row) + len(row) - 1 for row in rows)
    corners, bottom = [], (whole - sum(map(max, rows)) - 1) // 2
    for row in rows:
        bottom, left = bottom + max(row), (whole - sum(row) - len(row) + 1) // 2
        for side in row:
            corners.append((bottom - side, left))
            left += side + 1
        bottom += 1
    return corners, whole


def pyramid(scales: Sequence[int], picture: np.ndarray | None = None) -> Canvas:
    """All maps as one canvas; a picture covers the square of `shelves`."""
    corners, _ = shelves(scales)
    places = [(left + column + 0.5, top + row + 0.5) for (top, left), side in zip(corners, scales)
              for row in range(side) for column in range(side)]
    roles = tuple(f"map {side} x {side}" for side in scales for _ in range(side**2))
    return Canvas("pyramid", ("",) * len(places), picture=picture, roles=roles,
                  positions=np.array(places, np.float32))


@lru_cache(maxsize=4)
def colours(tokenizer) -> np.ndarray:
    """A colour uint8 [V, 3] for every entry: its place along the three main directions of the codebook."""
    entries = tokenizer.entries.detach().float().cpu()
    apart = entries - entries.mean(0)
    along = apart @ torch.linalg.svd(apart, full_matrices=False).Vh[:3].T  # [V, 3]
    rank = along.argsort(0).argsort(0).float() / max(1, len(along) - 1)
    return (40 + 200 * rank).byte().numpy()

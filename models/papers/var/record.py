"""What a run of VAR shows: the pyramid of its token maps, scale by scale, and who looks at whom between scales.

The canvas holds all L tokens, every map a square of its own, in shelves: 1 x 1 to 4 x 4 above, 6 x 6 and 8 x 8 below.
The Attend record reads the finished picture once more, all scales in one masked pass of the conditional branch, as in
training; that pass is no part of the run's cost.

Letters: K scales, L tokens, p tokens per side of a map, V entries.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from models.engine.method import Close, Emit, Event
from models.engine.recording import array, bars, pixels, placed
from models.loops.attend.groups import lens, mass_chart, mass_facts
from models.loops.attend.loop import TokenLayout
from models.loops.unmask import growth
from models.trace import Canvas, Chart, Fact, Field
from models.trace.percent import percent
from models.worlds import scenes

SHOWN = ("sum", "added", "codes")
UNIT = 16  # pixels per token of a map
RASTER = 256  # passes of the raster model of the same scenes, one per code (scene-ar-1)
FIELDS = growth.FIELDS | {"peak": Field("Largest probability", "probability", 0.0, 1.0)}


def recorded(job, maps, tokenizer, cond: Tensor) -> Iterator[Event]:
    """The events of both tabs from the maps of one run."""
    log = ScaleLog(job.model, tokenizer, job.params.show)
    yield log.open(len(log.maps))
    for found in maps:
        yield log.seen(found)
    facts = log.facts(log.painted[-1], job.subject.text, f"(raster: {RASTER}, one per code)") | {
        "tokens": Fact("Tokens drawn", float(log.canvas.size),
                       f"tokens, {job.model.scales[-1] ** 2} of them in the last map")}
    yield Close("unmask", log.sentence(facts), log.charts(), facts)
    yield from attended(job.model, tokenizer, log, cond)


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


def attended(model, tokenizer, log: ScaleLog, cond: Tensor) -> Iterator[Event]:
    """Block-causal attention over the finished pyramid."""
    ids = torch.from_numpy(log.ids.astype(np.int64))[None].to(cond.device)
    with torch.inference_mode():
        features = tokenizer.inputs(tokenizer.sums(ids))
    coords = model.middles().numpy() * model.scales[-1]  # [L, 2] in tokens of the last map
    layout = TokenLayout(pyramid(model.scales, log.picture()), model.cond_length + np.arange(ids.shape[1]), coords,
                         "cells of the last map", "the caption")
    count, names = len(log.maps), log.maps
    return lens(
        model, lambda: model(features, cond), layout, {name: model.place(k) for k, name in enumerate(names)},
        macs=sum(map(model.work, range(count))), say=lambda mass: between(mass.mean(0), names),
        facts=lambda mass: mass_facts(mass, {
            "own": ("Last map to itself", count - 1, count), "caption": ("Last map to the caption", count - 1, 0),
            "coarser": ("Last map to coarser maps", count - 1, list(range(1, count)))}),
        charts=lambda mass: (mass_chart(mass, names, ("caption", *names), title="Attention by map", noun="map"),))


def between(mean: np.ndarray, names: Sequence[str]) -> str:
    """Of attention [K, 1 + K], mean over layers."""
    deciding = int(mean[:, 0].argmax())
    return (f"A map sees itself, all coarser maps and the caption. The {names[deciding]} map reads the caption most "
            f"({percent(mean[deciding, 0])} of its attention); the last map gives {percent(mean[-1, -1])} to itself "
            f"and {percent(mean[-1, 1:-1].sum())} to coarser maps.")


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

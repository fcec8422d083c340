"""What a run of VAR shows: the pyramid of its token maps, scale by scale, and who looks at whom between scales.

The canvas holds all L tokens, every map a square of its own, in shelves: 1 x 1 to 4 x 4 above, 6 x 6 and 8 x 8 below.
The Attend record reads the finished picture once more, all scales in one masked pass of the conditional branch, as in
training; that pass is no part of the run's cost.

Letters: K scales, L tokens, p tokens per side of a map, H heads, V entries.
"""
from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

import kernels
from models.backbones.instrument import observe
from models.engine.method import Close, Emit, Event, Open
from models.loops.attend.loop import Layout, look, record
from models.trace import CODE, Canvas, Chart, Cost, Distribution, Fact, Field, Step
from models.worlds import scenes

SHOWN = ("sum", "added", "codes")
TOP = 6  # candidates kept per token
UNIT = 16  # pixels per token of a map
EMPTY = 217
RASTER = 256  # passes of the raster model of the same scenes, one per code (scene-ar-1)
FIELDS = {
    "entropy": Field("Entropy of the token's distribution", "nats", 0.0),
    "confidence": Field("Probability of the token that was drawn", "probability", 0.0, 1.0),
    "peak": Field("Largest probability", "probability", 0.0, 1.0),
}


def recorded(job, maps, tokenizer, cond: Tensor) -> Iterator[Event]:
    """The events of both tabs from the maps of one run."""
    model, log = job.model, Log(job.model, tokenizer, job.params.show)
    yield Open("unmask", log.canvas, FIELDS, len(model.scales))
    for found in maps:
        yield Emit("unmask", log.seen(found), log.names(found))
    facts = log.facts(job.subject.text)
    yield Close("unmask", log.sentence(facts), log.charts(), facts)
    yield from attended(model, tokenizer, log, cond)


class Log:
    """Everything seen so far, per token of the pyramid [L]."""

    def __init__(self, model, tokenizer, show: str):
        self.model, self.tokenizer, self.show = model, tokenizer, show
        self.canvas = pyramid(model.scales)
        count = self.canvas.size
        self.state = np.full(count, CODE["unknown"], np.uint8)
        self.ids = np.full(count, -1, np.int32)
        self.values = {name: np.full(count, np.nan, np.float32) for name in FIELDS}
        self.painted: list[np.ndarray] = []  # the picture after every map, uint8 [h, w, 3]
        self.added: list[np.ndarray] = []
        self.codes: list[np.ndarray] = []
        self.norms: list[float] = []
        self.costs: list[Cost] = []
        self.named: set[int] = set()

    def seen(self, found) -> Step:
        """One scale as a step of the Unmask record."""
        place, side = self.model.place(found.scale), self.model.scales[found.scale]
        self.state[self.state == CODE["new"]] = CODE["known"]
        drawn, ids = found.drawn.cpu().numpy(), found.ids[0].cpu().numpy()
        self.state[place] = np.where(drawn, CODE["new"], CODE["visible"])
        self.ids[place] = ids
        candidates = self.guessed(found, place, ids)
        self.note(found, ids)
        fields = {name: values.copy() for name, values in self.values.items()}
        label = f"map {found.scale + 1} of {len(self.model.scales)}: {drawn.sum()} tokens at {side} x {side}"
        return Step(label, self.state.copy(), "scale", ids=self.ids.copy(), fields=fields,
                    distributions={"model": candidates}, picture=self.picture(), cost=found.cost,
                    note=f"guidance {found.pull:.2g}" if found.pull else "")

    def guessed(self, found, place: slice, ids: np.ndarray) -> Distribution:
        """The distributions of a map's tokens; fills in the fields."""
        stats = kernels.vocab_stats(found.logits[0], top_k=TOP, chosen=found.ids[0])
        chosen = stats.chosen_logp.exp()
        for name, values in (("entropy", stats.entropy), ("confidence", chosen), ("peak", stats.top_logp[:, 0].exp())):
            self.values[name][place] = values.float().cpu().numpy()
        drawn = np.where(found.drawn.cpu().numpy(), ids, -1)
        return Distribution(np.arange(place.start, place.stop, dtype=np.int32),
                            stats.top_ids.cpu().numpy().astype(np.int32),
                            stats.top_logp.exp().cpu().numpy().astype(np.float16),
                            stats.entropy.cpu().numpy().astype(np.float16), stats.lse.cpu().numpy().astype(np.float32),
                            drawn.astype(np.int32))

    @torch.inference_mode()
    def note(self, found, ids: np.ndarray) -> None:
        """The picture so far, what this map added to it, and its codes as colours."""
        pixels = self.tokenizer.paint(found.total).clamp(0, 1)[0].permute(1, 2, 0)
        self.painted.append((pixels.float().cpu().numpy() * 255).round().astype(np.uint8))
        before = self.painted[-2] if len(self.painted) > 1 else np.array(scenes.BACKGROUND, np.uint8)
        self.added.append(np.clip(128 + self.painted[-1].astype(int) - before, 0, 255).astype(np.uint8))
        side = self.model.scales[found.scale]
        self.codes.append(colours(self.tokenizer)[ids].reshape(side, side, 3))
        self.norms.append(float(found.total.float().pow(2).sum(1).mean().sqrt()))
        self.costs.append(found.cost)

    def picture(self) -> np.ndarray:
        """Every map that is there at its place: uint8 [S, S, 3], as the canvas lays them out."""
        shown = {"sum": self.painted, "added": self.added, "codes": self.codes}[self.show]
        corners, whole = shelves(self.model.scales)
        sheet = np.full((whole * UNIT, whole * UNIT, 3), EMPTY, np.uint8)
        for (top, left), side, image in zip(corners, self.model.scales, shown):
            y, x, size = round(top * UNIT), round(left * UNIT), side * UNIT
            sheet[y : y + size, x : x + size] = fitted(image, size)
        return sheet

    def names(self, found) -> dict[int, str]:
        """Names of entries that appear for the first time."""
        top = kernels.vocab_stats(found.logits[0], top_k=TOP).top_ids.cpu().numpy().ravel()
        fresh = ({*found.ids[0].tolist()} | {*top.tolist()}) - self.named
        self.named |= fresh
        return {id: f"entry {id}" for id in sorted(fresh)}

    def facts(self, caption: str) -> dict[str, Fact]:
        """The parser's reading of the finished picture, and what the run cost."""
        asked, found = scenes.read_caption(caption), scenes.parse(self.painted[-1])
        broken = sum(thing.kind != "object" for thing in found)
        cost = sum(self.costs, Cost())
        return {"score": Fact("Score", scenes.score(asked, found), "as asked, of 1", "higher"),
                "objects": Fact("Whole objects", float(len(found) - broken), f"of {len(asked)} asked"),
                "broken": Fact("Chimeras and fragments", float(broken), "cells", "lower"),
                "passes": Fact("Forward passes", float(cost.calls), f"(raster: {RASTER}, one per code)", "lower"),
                "tokens": Fact("Tokens drawn", float(self.canvas.size),
                               f"tokens, {self.model.scales[-1] ** 2} of them in the last map"),
                "ms": Fact("Time of all maps", cost.ms, "ms", "lower"),
                "macs": Fact("Work", cost.macs / 1e9, "G multiply-adds", "lower")}

    def sentence(self, facts: dict[str, Fact]) -> str:
        score, ms = facts["score"].value, facts["ms"].value
        sure = [float(np.nanmean(self.values["entropy"][self.model.place(k)])) for k in range(len(self.model.scales))]
        most = int(np.argmax(sure))
        side = self.model.scales[most]
        why = ("one token decides where things go" if side == 1 else
               "its tokens are drawn at once and do not know of each other")
        return (f"{len(sure)} passes drew {self.canvas.size} tokens in {ms:.0f} ms, score {score:.2f}. The model was "
                f"least sure of the {side} x {side} map, {sure[most]:.1f} nats per token: {why}.")

    def charts(self) -> tuple[Chart, ...]:
        """By map: entropy, what it changed, tokens and milliseconds."""
        ticks = tuple(f"{side} x {side}" for side in self.model.scales)
        steps = np.arange(len(ticks), dtype=np.float32)
        entropy = [np.nanmean(self.values["entropy"][self.model.place(k)]) for k in range(len(ticks))]
        change = [abs(image.astype(float) - 128).mean() for image in self.added]
        return (Chart("line", "Mean entropy of a map's tokens", "step", "nats",
                      {"entropy": np.stack([steps, entropy], 1).astype(np.float32)}, by_step=True),
                Chart("line", "Size of the sum of all maps", "step", "feature units",
                      {"root mean square": np.stack([steps, self.norms], 1).astype(np.float32)}, by_step=True),
                Chart("bar", "What each map changed", "map", "mean change, of 255",
                      {"change": np.array(change, np.float32)}, ticks),
                Chart("bar", "Tokens of each map", "map", "tokens",
                      {"tokens": np.array([side**2 for side in self.model.scales], np.float32)}, ticks),
                Chart("bar", "Time of each map", "map", "ms",
                      {"ms": np.array([cost.ms for cost in self.costs], np.float32)}, ticks,
                      caption="The first includes the caption's words."))


# --- the Attend record ----------------------------------------------------------------------------------------------

@torch.inference_mode()
def attended(model, tokenizer, log: Log, cond: Tensor) -> Iterator[Event]:
    """Block-causal attention over the finished pyramid."""
    ids = torch.from_numpy(log.ids.astype(np.int64))[None].to(cond.device)
    features, began = tokenizer.inputs(tokenizer.sums(ids)), time.perf_counter()
    with observe(model, want={"qk", "stats"}) as seen:
        model(features, cond)
    ms = (time.perf_counter() - began) * 1e3
    canvas = pyramid(model.scales, log.picture())
    layout = Layout(canvas, model.cond_length + np.arange(canvas.size), cells(model), "cells of the last map",
                    "the caption")
    looked, mass = look(seen, layout), masses(seen, model)
    work = sum(model.work(scale) for scale in range(len(model.scales))) // len(model.layers)
    cost = Cost(0, model.cond_length + canvas.size, work, 0, ms / len(model.layers))
    yield from record(layout, looked, sentence=between(mass, model.scales), facts=roles(mass),
                      charts=mass_charts(mass, model.scales), costs=[cost] * len(model.layers))


def masses(seen, model) -> np.ndarray:
    """Attention [layers, K, 1 + K] that the queries of a scale give to the caption and to each scale, mean over heads
    and queries."""
    groups = [slice(0, model.cond_length)]
    groups += [slice(model.cond_length + place.start, model.cond_length + place.stop)
               for place in map(model.place, range(len(model.scales)))]
    found = np.zeros((len(seen), len(model.scales), len(groups)), np.float32)
    everyone = torch.arange(model.cond_length, groups[-1].stop)
    for layer, call in enumerate(seen):
        rows = call.rows_for(everyone)[0].float().mean(0).cpu().numpy()  # [L, C + L]
        for i, queries in enumerate(groups[1:]):
            of = rows[queries.start - model.cond_length : queries.stop - model.cond_length]
            found[layer, i] = [of[:, keys].sum(1).mean() for keys in groups]
    return found


def mass_charts(mass: np.ndarray, scales: Sequence[int]) -> tuple[Chart, ...]:
    names = tuple(f"{side} x {side}" for side in scales)
    allowed = np.tri(len(scales), dtype=np.float32)
    return (Chart("matrix", "Attention by map", "looks at", "map", {"share of attention": mass.mean(0)},
                  ("caption", *names), names, caption="Mean over layers, heads and tokens; every row adds up to 1."),
            Chart("matrix", "Who may look at whom", "looks at", "map", {"allowed": allowed}, names, names,
                  caption="Block-causal: a map sees itself and all coarser maps, never a finer one."))


def roles(mass: np.ndarray) -> dict[str, Fact]:
    """Of the last map's attention."""
    last = mass.mean(0)[-1]
    return {"own": Fact("Last map to itself", 100 * float(last[-1]), "% of the last map's attention stays in it"),
            "coarser": Fact("Last map to coarser maps", 100 * float(last[1:-1].sum()), "% of its attention"),
            "caption": Fact("Last map to the caption", 100 * float(last[0]), "% of its attention")}


def between(mass: np.ndarray, scales: Sequence[int]) -> str:
    mean = mass.mean(0)
    deciding = int(mean[:, 0].argmax())
    side = scales[deciding]
    return (f"A map sees itself, all coarser maps and the caption. The {side} x {side} map reads the caption most "
            f"({mean[deciding, 0]:.0%} of its attention); the last map gives {mean[-1, -1]:.0%} to itself and "
            f"{mean[-1, 1:-1].sum():.0%} to coarser maps.")


# --- where the tokens stand -----------------------------------------------------------------------------------------

def shelves(scales: Sequence[int]) -> tuple[list[tuple[float, float]], int]:
    """Upper left corner (top, left) of every map and the side of the square that holds all, in tokens; shelves are as
    wide as the two finest maps."""
    widest, rows = sum(scales[-2:]) + 1, [[]]
    for side in scales:
        if sum(rows[-1]) + len(rows[-1]) + side > widest:
            rows.append([])
        rows[-1].append(side)
    tall = sum(map(max, rows)) + len(rows) - 1
    whole = max(widest, tall)
    corners, bottom = [], (whole - tall) // 2
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


def cells(model) -> np.ndarray:
    """Row and column [L, 2] of every token's middle in the picture, in tokens of the last map."""
    return (model.middles().cpu().numpy() - 0.5) * model.scales[-1] / model.span


def fitted(image: np.ndarray, size: int) -> np.ndarray:
    """uint8 [size, size, 3] by area means."""
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    return F.interpolate(pixels, size=(size, size), mode="area")[0].permute(1, 2, 0).round().byte().numpy()


@lru_cache(maxsize=4)
def colours(tokenizer) -> np.ndarray:
    """A colour uint8 [V, 3] for every entry: its place along the three main directions of the codebook."""
    entries = tokenizer.entries.detach().float().cpu()
    apart = entries - entries.mean(0)
    along = apart @ torch.linalg.svd(apart, full_matrices=False).Vh[:3].T  # [V, 3]
    rank = along.argsort(0).argsort(0).float() / max(1, len(along) - 1)
    return (40 + 200 * rank).byte().numpy()

"""LeMo's records. Prune: one step per layer and part, which blocks it reads and what it keeps for the backward pass.
Attend: every layer's own scores of blocks against blocks, beside the guess.

Letters: N tokens, M blocks, L layers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from models.backbones.rows import linear_work
from models.engine.method import Close, Emit, Event, Job, Open
from models.engine.recording import array, bars, line, table
from models.loops.attend.loop import links
from models.papers.lemo.backward import SavedForBackward
from models.papers.lemo.elimination import PARTS, BlocksKept, Visit, at_random, oracle, visits
from models.papers.lemo.network import BlockChooser, BlockPredictors, best_guesses
from models.trace import CODE, Canvas, Cost, Edges, Fact, Field, Step

PATH = "plain torch (no statistics)"
FIELDS = {"score": Field("What its block is to the layer", "times the mean", 0.0),
          "loss": Field("Loss of the word behind it", "nats", 0.0)}
MAPS = {"own": Field("Its block by the layer's own scores", "times the mean", 0.0),
        "guess": Field("Its block by the guess", "times the mean", 0.0)}
LINKS, MEGABYTE = 3, 1e6
NAMES = {"attention": "attention", "mlp": "MLP"}


def tokens(blocks, size: int, count: int) -> np.ndarray:
    """Values [M] of blocks as values [N] of their tokens."""
    return np.repeat(array(blocks, None), size)[:count]


def state(read: np.ndarray) -> np.ndarray:
    return np.where(read, CODE["known"], CODE["dropped"]).astype(np.uint8)


class EliminationRecord:
    """What two steps of fine-tuning on one text left: everything read (whole, before) and LeMo's (saved, losses). ends:
    of both the losses, which are made behind the layers' steps; ms: of LeMo's way forward."""

    def __init__(self, job: Job, labels: Sequence[str], choose: BlockChooser,
                 meters: tuple[SavedForBackward, SavedForBackward], ends: Sequence[Callable[[], Tensor]], ms: float):
        self.choose, self.size, self.labels, self.count = choose, choose.size, tuple(labels), len(labels)
        (self.whole, self.saved), self.ends = meters, ends
        self.layers, self.ms = job.model.model.layers, ms
        self.places = [(index, part) for index in range(len(self.layers)) for part in PARTS]
        everything = np.ones(-(-self.count // self.size), bool)
        self.kept = {place: array(choose.found[place].kept, None) if place in choose.found else everything
                     for place in self.places}  # each [M]
        self.share = float(np.mean(list(self.kept.values())))

    def prune(self) -> Iterator[Event]:
        yield Open("prune", Canvas("text", self.labels), FIELDS, len(self.places) + 1)
        for place in self.places:
            yield Emit("prune", self.sheet(*place))
        self.before, began = self.ends[0](), time.perf_counter()
        self.losses = self.ends[1]()
        cost = Cost(ms=(time.perf_counter() - began) * 1e3)
        said = f"every word has its loss, whoever was read: {self.losses.mean():.2f} nats on average"
        yield Emit("prune", Step("the loss", state(np.ones(self.count, bool)), "layer",
                                 fields={"loss": array(self.losses, np.float16)}, cost=cost, note=said))
        kept = self.saved.peak / self.whole.peak
        yield Close("prune", f"One step of fine-tuning keeps {self.saved.peak / MEGABYTE:.1f} MB for its backward pass "
                    f"instead of {self.whole.peak / MEGABYTE:.1f} ({100 * kept:.0f} %, measured): of every hundred "
                    f"blocks {100 * self.share:.0f} are read, and each layer chooses its own.",
                    self.charts(), self.facts(), path=PATH)

    def sheet(self, index: int, part: str) -> Step:
        kept, found = self.kept[index, part], self.choose.found.get((index, part))
        read, (here, there) = tokens(kept, self.size, self.count), self.bytes(index, part)
        said = f"{kept.sum()} of {len(kept)} blocks are read, the others pass by" if found else "everything is read"
        first = (index, part) == self.places[0]
        score = {"score": tokens(found.scores, self.size, self.count).astype(np.float16)} if found else {}
        return Step(f"layer {index + 1}, {NAMES[part]}", state(read), "layer", fields=score,
                    cost=Cost(int(first), int(read.sum()), self.work(index, part, read), ms=first * self.ms),
                    note=f"{said}; {here:.2f} MB are kept for the backward pass instead of {there:.2f}")

    def bytes(self, index: int, *parts: str) -> tuple[float, float]:
        """Megabytes kept by parts of a layer, and if everything is read."""
        mine, full = (sum(one.saved[index, part] for part in parts) / MEGABYTE for one in (self.saved, self.whole))
        return mine, full

    def work(self, index: int, part: str, read: np.ndarray) -> int:
        """Multiply-adds of reading these tokens forward; each sees those before it."""
        layer, rows = self.layers[index], int(read.sum())
        if part == "mlp":
            return rows * linear_work(layer.mlp)
        return rows * linear_work(layer.self_attn) + rows * (rows + 1) * layer.self_attn.q_proj.out_features

    def facts(self) -> dict[str, Fact]:
        unit, peaks = "% of reading everything", [one.peak / MEGABYTE for one in (self.saved, self.whole)]
        done = sum(self.work(*place, tokens(kept, self.size, self.count)) for place, kept in self.kept.items())
        full = sum(self.work(*place, np.ones(self.count)) for place in self.places)
        return {"loss": Fact("Loss with blocks skipped", float(self.losses.mean()), "nats", "lower"),  # at equal bytes
                "bytes": Fact("Kept for the backward pass, measured", 100 * peaks[0] / peaks[1], unit, "lower"),
                "peak": Fact("At its peak", peaks[0], "MB", "lower"),
                "whole": Fact("At its peak, everything read", peaks[1], "MB"),
                "read": Fact("Blocks that are read", 100 * self.share, "%"),
                "work": Fact("Multiply-adds of the layers, forward", 100 * done / full, unit, "lower"),
                "before": Fact("Loss with everything read", float(self.before.mean()), "nats")}

    def charts(self):
        mine, full = np.array([self.bytes(index, *PARTS) for index in range(len(self.layers))]).T
        rows = [f"layer {index + 1}, {NAMES[part]}" for index, part in self.places]
        blocks = np.stack([self.kept[place].astype(np.float32) for place in self.places])
        return (bars("Kept for the backward pass", "layer", "MB", {"everything read": full, "blocks skipped": mine},
                     range(1, len(self.layers) + 1), caption="Every storage that autograd held, weights left out."),
                table("Which blocks are read where", "block", "layer", blocks, range(1, blocks.shape[1] + 1), rows,
                      unit="read (1) or not (0)", caption="What one layer skips may be read by the next."))


WHO = {"predictor": "the guess", "oracle": "the layer's own scores", "random": "dice"}


def picked(job: Job, predictors: BlockPredictors, own: BlocksKept, visit: Visit, dice: torch.Generator) -> Tensor:
    """bool [M]: as many blocks as the layer's own scores keep, by who chooses."""
    if job.params.scorer == "predictor":
        return best_guesses(predictors, own, visit, job.params.block)
    return own.kept if job.params.scorer == "oracle" else at_random(own.kept, dice)


def maps(job: Job, ids: Tensor, labels: Sequence[str], predictors: BlockPredictors) -> Iterator[Event]:
    """The Attend record, of the text read whole."""
    size, count, times = job.params.block, len(labels), job.params.times
    seen = [visit for visit in visits(job.model, ids) if visit.part == "attention"]
    own, guess = ([predictors.keeps(visit, size, times, exact) for visit in seen] for exact in (True, False))
    yield Open("attend", Canvas("text", tuple(labels)), MAPS, len(seen))
    shares, who, dice = [], WHO[job.params.scorer], job.generator(1)
    for visit, mine, told in zip(seen, own, guess, strict=True):
        chosen = picked(job, predictors, mine, visit, dice)
        shares.append(100 * float(mine.kept[chosen].float().mean()))
        yield Emit("attend", Step(
            f"layer {visit.index + 1}", state(tokens(chosen, size, count)), "layer", cost=Cost(1, count),
            fields={name: tokens(one.scores, size, count).astype(np.float16) for name, one in (("own", mine),
                                                                                            ("guess", told))},
            edges={"score": between(oracle(visit, size), size, count)},
            note=f"by its own scores {int(mine.kept.sum())} of {len(mine.kept)} blocks matter; as many by {who}, those "
                 f"without lines, hit {shares[-1]:.0f} % of them"))
    at, found = min(job.params.layer, len(seen)) - 1, float(np.mean(shares))
    with torch.no_grad():
        blocks = [array(one / one.mean()) for one in (oracle(seen[at], size), predictors(seen[at], size).float())]
    names, axes = range(1, len(own[at].kept) + 1), ("block of keys", "block of queries")
    charts = (line(f"What each block of layer {at + 1} is to all others", "times the mean",
                   {"own scores": array(own[at].scores), "guess": array(guess[at].scores)}, x="block", first=1,
                   by_step=False, reference=own[at].threshold, caption="Above the dashed threshold blocks are read."),
              *(table(f"Blocks against blocks, layer {at + 1}: {name}", *axes, made, names, names,
                      unit="times the mean") for name, made in zip(("own scores", "the guess"), blocks)))
    luck = 100 * float(np.mean([array(one.kept).mean() for one in own]))
    yield Close("attend", f"Choosing as many blocks as the layers' own scores would read, {who} "
                f"{'hit' if who == 'dice' else 'hits'} {found:.0f} % of them; by chance it is {luck:.0f} %. The guess "
                "never compares two tokens.", charts,
                {"recall": Fact("Blocks that matter by the layer's own scores and are hit", found, "%", "higher")},
                path=PATH)


def between(blocks: Tensor, size: int, count: int) -> Edges:
    """Links from the last token of each block of queries to the middles of those before it that it scores highest."""
    starts, rows = np.arange(len(blocks)) * size, np.zeros((len(blocks), count), np.float32)
    rows[:, np.minimum(starts + size // 2, count - 1)] = np.tril(array(blocks / blocks.mean()))
    return links(np.minimum(starts + size - 1, count - 1), rows, LINKS)

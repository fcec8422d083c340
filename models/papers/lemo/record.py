"""LeMo's records. Prune: one step per layer and part, which blocks it reads and what it keeps for the backward pass.
Attend: every layer's own scores of blocks against blocks, beside the guess.

Letters: N tokens, M blocks, L layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from models.backbones.rows import linear_work, project
from models.engine.method import Close, Emit, Event, Job, Open
from models.engine.recording import array, bars, line, numbered, table
from models.loops.attend.loop import links
from models.papers.lemo.backward import SavedForBackward
from models.papers.lemo.elimination import PARTS, Kept, above, positive_blocks, read, recalled
from models.papers.lemo.network import BlockChooser, BlockPredictors
from models.trace import CODE, Canvas, Chart, Cost, Fact, Field, Step

PATH = "plain torch, saved_tensors_hooks"
FIELDS = {"score": Field("What its block is to the layer", "times the mean", 0.0),
          "loss": Field("Loss of the word behind it", "nats", 0.0)}
MAPS = {"own": Field("Its block by the layer's own scores", "times the mean", 0.0),
        "guess": Field("Its block by the guess", "times the mean", 0.0)}
LINKS, MEGABYTE = 3, 1e6
NAMES = {"attention": "attention", "mlp": "MLP"}


class EliminationRecord:
    """What two steps of fine-tuning on one text left: everything read (whole, before) and LeMo's (saved, losses)."""

    def __init__(self, job: Job, labels: Sequence[str], choose: BlockChooser,
                 meters: tuple[SavedForBackward, SavedForBackward], losses: tuple[Tensor, Tensor]):
        self.job, self.choose, self.size = job, choose, choose.size
        self.canvas, self.count = Canvas("text", tuple(labels)), len(labels)
        (self.whole, self.saved), (self.before, self.losses) = meters, losses
        self.layers = job.model.model.layers
        self.places = [(index, part) for index in range(len(self.layers)) for part in PARTS]

    def prune(self) -> Iterator[Event]:
        yield Open("prune", self.canvas, FIELDS, len(self.places) + 1)
        for place in self.places:
            yield Emit("prune", self.sheet(*place))
        said = f"every word has its loss, whoever was read: {self.losses.mean():.2f} nats on average"
        yield Emit("prune", Step("the loss", self.state(np.ones(self.count, bool)), "layer",
                                 fields={"loss": array(self.losses, np.float16)}, note=said))
        yield Close("prune", self.sentence(), self.charts(), self.facts(), path=PATH)

    def tokens(self, blocks) -> np.ndarray:
        """Values [M] of blocks as values [N] of their tokens."""
        return np.repeat(array(blocks, None), self.size)[: self.count]

    def kept(self, index: int, part: str) -> np.ndarray:
        """Bool [M]."""
        found = self.choose.found.get((index, part))
        return np.ones(-(-self.count // self.size), bool) if found is None else array(found.kept, None)

    def state(self, read: np.ndarray) -> np.ndarray:
        return np.where(read, CODE["known"], CODE["dropped"]).astype(np.uint8)

    def sheet(self, index: int, part: str) -> Step:
        kept, found = self.kept(index, part), self.choose.found.get((index, part))
        read = self.tokens(kept)
        score = {} if found is None else {"score": self.tokens(found.scores / found.scores.mean()).astype(np.float16)}
        here, there = (one.saved[index, part] / MEGABYTE for one in (self.saved, self.whole))
        said = f"{kept.sum()} of {len(kept)} blocks are read, the others pass by" if found else "everything is read"
        first, rows = (index, part) == self.places[0], int(read.sum())
        return Step(f"layer {index + 1}, {NAMES[part]}", self.state(read), "layer", fields=score,
                    cost=Cost(int(first), rows, self.work(index, part, rows)),
                    note=f"{said}; {here:.2f} MB are kept for the backward pass instead of {there:.2f}")

    def work(self, index: int, part: str, rows: int) -> int:
        """Multiply-adds of reading so many tokens forward; a token sees those before it."""
        layer = self.layers[index]
        if part == "mlp":
            return rows * linear_work(layer.mlp)
        return rows * linear_work(layer.self_attn) + rows * (rows + 1) * layer.self_attn.q_proj.out_features

    @property
    def share(self) -> float:
        """Of the blocks that could be read, those that are, over layers and parts."""
        return float(np.mean([self.kept(*place).mean() for place in self.places]))

    @property
    def bytes(self) -> float:
        """The most that was kept at one moment, over what reading everything keeps."""
        return self.saved.peak / self.whole.peak

    def facts(self) -> dict[str, Fact]:
        done = sum(self.work(*place, int(self.tokens(self.kept(*place)).sum())) for place in self.places)
        full, unit = sum(self.work(*place, self.count) for place in self.places), "% of reading everything"
        return {"bytes": Fact("Kept for the backward pass, measured", 100 * self.bytes, unit, "lower"),
                "peak": Fact("At its peak", self.saved.peak / MEGABYTE, "MB", "lower"),
                "whole": Fact("At its peak, everything read", self.whole.peak / MEGABYTE, "MB"),
                "read": Fact("Blocks that are read", 100 * self.share, "%"),
                "work": Fact("Multiply-adds of the layers, forward", 100 * done / full, unit, "lower"),
                "loss": Fact("Loss with blocks skipped", float(self.losses.mean()), "nats", "lower"),
                "before": Fact("Loss with everything read", float(self.before.mean()), "nats")}

    def sentence(self) -> str:
        layers = len({self.kept(index, "attention").tobytes() for index in range(len(self.layers))})
        return (f"One step of fine-tuning keeps {self.saved.peak / MEGABYTE:.1f} MB for its backward pass instead of "
                f"{self.whole.peak / MEGABYTE:.1f} ({100 * self.bytes:.0f} %, measured): {100 * self.share:.0f} % of "
                f"the blocks are read, {layers} different choices in {len(self.layers)} layers' attention.")

    def charts(self) -> tuple[Chart, ...]:
        both = {name: [sum(meter.saved[index, part] for part in PARTS) / MEGABYTE for index in range(len(self.layers))]
                for name, meter in (("everything read", self.whole), ("blocks skipped", self.saved))}
        rows = [f"layer {index + 1}, {NAMES[part]}" for index, part in self.places]
        blocks = [self.kept(*place).astype(np.float32) for place in self.places]
        return (bars("Kept for the backward pass", "layer", "MB", both, range(1, len(self.layers) + 1),
                     caption="Each storage that autograd held is counted once, weights left out."),
                table("Which blocks are read where", "block", "layer", np.stack(blocks), range(1, len(blocks[0]) + 1),
                      rows, unit="read (1) or not (0)", caption="What one layer skips may be read by the next."))


@torch.inference_mode()
def looked(model, ids: Tensor, predictors: BlockPredictors, size: int) -> list[tuple[Tensor, Tensor, float]]:
    """Of every layer's attention while everything is read: own B and guessed B [M, M], each over its mean, and the
    layer's multiple of the mean."""
    found = []

    def look(index, part, x, angles) -> None:
        if part == "attention":
            layer = model.model.layers[index]
            normed = layer.input_layernorm(x)
            own = positive_blocks(*project(layer.self_attn, normed, angles)[:2], size)
            guess = predictors.pairs(index, normed, size).float()
            found.append((own / own.mean(), guess, float(predictors.times[index, 0])))
    read(model, ids, look)
    return found


def maps(job: Job, ids: Tensor, labels: Sequence[str], predictors: BlockPredictors) -> Iterator[Event]:
    """The Attend record."""
    size, count = job.params.block, len(labels)
    found = looked(job.model, ids, predictors, size)
    own, guess = ([above(one[which].sum(0), job.params.times * one[2]) for one in found] for which in (0, 1))
    recalls = [recalled(mine.kept, told.scores) for mine, told in zip(own, guess)]
    yield Open("attend", Canvas("text", tuple(labels)), MAPS, len(found))
    for index, (mine, told) in enumerate(zip(own, guess)):
        tokens = {name: np.repeat(array(one.scores / one.scores.mean()), size)[:count].astype(np.float16)
                  for name, one in (("own", mine), ("guess", told))}
        kept = np.repeat(array(mine.kept, None), size)[:count]
        yield Emit("attend", Step(
            f"layer {index + 1}", np.where(kept, CODE["known"], CODE["dropped"]).astype(np.uint8), "layer",
            fields=tokens, edges={"score": between(found[index][0], size, count)}, cost=Cost(1, count),
            note=f"by its own scores {int(mine.kept.sum())} of {len(mine.kept)} blocks are above the threshold; the "
                 f"guess finds {100 * recalls[index]:.0f} % of them"))
    at, share = min(job.params.layer, len(found)) - 1, 100 * float(np.mean(recalls))
    reads = 100 * float(torch.stack([one.kept.float().mean() for one in own]).mean())
    yield Close("attend", f"The guess, which never compares two tokens, finds {share:.0f} % of the blocks that the "
                "layers' own scores would read.", charts(at, found[at], own[at], guess[at]),
                {"recall": Fact("Blocks found by the guess", share, "%", "higher"),
                 "own": Fact("Read by the layers' own scores", reads, "%")}, path=PATH)


def between(blocks: Tensor, size: int, count: int):
    """Links from the last token of each block of queries to the middle of those before it that it scores highest."""
    ends = np.minimum(np.arange(len(blocks)) * size + size - 1, count - 1)
    rows = np.zeros((len(blocks), count), np.float32)
    middles = np.minimum(np.arange(len(blocks)) * size + size // 2, count - 1)
    rows[:, middles] = np.tril(array(blocks))
    return links(ends, rows, LINKS)


def charts(layer: int, found, own: Kept, guess: Kept) -> tuple[Chart, ...]:
    names, mean = numbered("block", len(own.kept)), float(own.scores.mean())
    told = {"own scores": array(own.scores / mean), "guess": array(guess.scores / guess.scores.mean())}
    title = f"layer {layer + 1}, attention"
    axes = "block of keys", "block of queries"
    return (line(f"What each block is to all others, {title}", "times the mean", told, x="block", first=1,
                 by_step=False, reference=own.threshold / mean, caption="Blocks above the dashed threshold are read."),
            table(f"Blocks against blocks, {title}: its own scores", *axes, found[0], names, names,
                  unit="times the mean", caption="The highest positive product of two tokens in them."),
            table(f"Blocks against blocks, {title}: the guess", *axes, found[1], names, names, unit="times the mean"))

"""One pass of a pruned model as steps of a record: who was alive, computed, reused, revived, dropped at each layer.

Letters: N canvas tokens (prompt, then written), L layers (from 0; shown from 1), S alive.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from models.backbones.text import names
from models.engine.method import Emit, Job
from models.engine.recording import distribution
from models.loops.prune.forward import LayerSheet, Pass, Pruner
from models.trace import CODE, Cost, Field, Step

TOP = 8  # candidates stored for each written token

FIELDS = {
    "depth": Field("Deepest layer reached for this token", "layer", 0),
    "uses": Field("Written tokens that used it at the last layer", "tokens", 0),
    "importance": Field("Attention of the newest token at this layer", "% of its attention", 0.0),
}


@dataclass
class Notes:
    """What a run gathers. reads: the prompt's ids in the pieces in which they are read. used [L, N]: passes in which a
    token was alive at a layer. written: ids of the answer. counts: tokens after each pass. work: (token, layer) pairs
    computed so far and by the full model, per step of the record. revived: pairs computed for tokens that came back.
    words: text of every id so far."""

    reads: list[list[int]]
    used: np.ndarray
    written: list[int] = field(default_factory=list)
    passes: list[Pass] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    work: list[tuple[int, int]] = field(default_factory=list)
    revived: int = 0
    words: dict[int, str] = field(default_factory=dict)

    @property
    def prompt(self) -> int:
        """Number of tokens of the prompt."""
        return sum(map(len, self.reads))

    @property
    def ids(self) -> np.ndarray:
        """Int [N]: the written tokens at their places, -1 elsewhere (the prompt's pieces are the canvas labels)."""
        ids = np.full(self.used.shape[1], -1, np.int32)
        ids[self.prompt : self.prompt + len(self.written)] = self.written
        return ids

    @property
    def label(self) -> str:
        """Name of the newest pass: it reads a part of the prompt, or writes a token."""
        return f"token {len(self.written)}" if self.written else f"read {len(self.passes)} of {len(self.reads)}"

    @property
    def before_first(self) -> list[Pass]:
        """The passes up to the first written token."""
        return self.passes[: len(self.reads)]

    def take(self, now: Pass, count: int) -> None:
        self.passes.append(now)
        self.counts.append(count)
        for sheet in now.sheets:
            self.used[sheet.layer, sheet.alive.numpy()] += 1
            self.revived += len(sheet.revived)


def sheets(job: Job, pruner: Pruner, notes: Notes, now: Pass, stats) -> Iterator[Emit]:
    """One pass: a step that says how far each token came, then one sheet per layer."""
    fresh = pruner.count - (notes.counts[-1] if notes.counts else 0)
    notes.take(now, pruner.count)
    ids, parent = notes.ids, len(notes.work)
    notes.work.append(notes.work[-1] if notes.work else (0, 0))
    yield Emit("prune", overview(job, pruner, notes, now, stats, ids), notes.words)
    for sheet in now.sheets:
        notes.work.append((notes.work[-1][0] + len(sheet.rows), notes.work[-1][1] + fresh))
        yield Emit("prune", Step(f"{notes.label}, layer {sheet.layer + 1}", state(sheet, notes), "layer", parent, ids,
                                 importance(sheet, len(ids)), note=layer_note(sheet, pruner.count)))


def overview(job: Job, pruner: Pruner, notes: Notes, now: Pass, stats, ids: np.ndarray) -> Step:
    """The step of one pass, with the next-token distribution where a token was written."""
    size, count, told, label = len(ids), pruner.count, {}, notes.label
    if notes.written:
        told = {"next": distribution(stats, count, notes.written[-1])}
        seen = np.unique([*told["next"].top_ids.ravel(), notes.written[-1]])
        notes.words.update(zip(seen.tolist(), names(job.tokenizer, seen)))
        label += f": {notes.words[notes.written[-1]]!r}"
    uses = np.where(np.arange(size) < count, notes.used[-1], np.nan).astype(np.float32)
    return Step(label, state(now.sheets[-1], notes), "token", None, ids,
                {"depth": depth(now.sheets, size), "uses": uses}, told, cost=cost(pruner, now),
                note=summary(now, len(notes.passes) == 1))


def state(sheet: LayerSheet, notes: Notes) -> np.ndarray:
    """State codes [N] at one layer; the place after the newest token holds what was just written, if anything."""
    codes, count = np.full(notes.used.shape[1], CODE["unknown"], np.uint8), notes.counts[-1]
    codes[:count] = CODE["dropped"]
    codes[sheet.alive.numpy()] = CODE["reused"]
    codes[sheet.rows.numpy()] = CODE["known"]
    codes[sheet.revived.numpy()] = CODE["revived"]
    if notes.written:
        codes[count] = CODE["new"]
    return codes


def depth(found: list[LayerSheet], size: int) -> np.ndarray:
    """Float [N]: the last layer (from 1) at which each token was alive in this step, NaN for places not written yet."""
    reached = np.full(size, np.nan, np.float32)
    for sheet in found:
        reached[sheet.alive.numpy()] = sheet.layer + 1
    return reached


def importance(sheet: LayerSheet, size: int) -> dict[str, np.ndarray]:
    """The newest token's attention in %, mean over heads, where it was read."""
    if sheet.attention is None:
        return {}
    values = np.full(size, np.nan, np.float16)
    values[sheet.alive.numpy()] = sheet.attention.float().mean(0).cpu().numpy() * 100
    return {"importance": values}


def cost(pruner: Pruner, now: Pass) -> Cost:
    """The whole step, its output projection included; the sheets below it carry none, so that sums are right."""
    head = pruner.model.get_output_embeddings().weight.numel()
    return Cost(1, sum(len(sheet.rows) for sheet in now.sheets), sum(sheet.macs for sheet in now.sheets) + head,
                pruner.store.bytes + pruner.aux_bytes, now.ms)


def summary(now: Pass, first: bool) -> str:
    back = sum(len(sheet.revived) for sheet in now.sheets)
    alive = f"{len(now.sheets[-1].alive)} of {len(now.sheets[0].alive)} tokens reached the last layer"
    return alive + (f"; {back} (token, layer) pairs were computed for tokens that came back" if not first else "")


def layer_note(sheet: LayerSheet, count: int) -> str:
    parts = [f"{len(sheet.alive)} of {count} tokens alive", f"{len(sheet.rows)} computed"]
    if len(sheet.left):
        parts.append(f"{len(sheet.left)} do not go on to layer {sheet.layer + 2}")
    return ", ".join(parts)

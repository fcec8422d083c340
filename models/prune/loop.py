"""Prune: reads a prompt and writes an answer while tokens leave between layers, and records who was where.

A method gives the loop a policy (models/prune/forward.py): the rates, the score by which tokens leave, and whether they
may come back. The record has one step per written token, and under it one sheet per layer.

Letters: N canvas tokens (prompt, then written), L layers (from 0; shown from 1), S alive, T written tokens.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol

import numpy as np

import kernels
from models.backbones.text import encode, pieces
from models.method import Emit, Event, Job, Open
from models.params import Choice, Span
from models.prune.forward import Pass, Policy, Pruner, Sheet
from models.prune.report import Notes, by_hand, close
from models.trace import CODE, Canvas, Cost, Distribution, Field, Step
from models.worlds.retrieval import truth

TOP = 8  # candidates stored for each written token


@dataclass(frozen=True)
class Cuts:
    """Where and how much is cut: the parameters that all methods of this tab share. Defaults compute 69 % of the
    (token, layer) work of a prompt on six layers; 0.5 three times, "early", computes 50 %."""

    first: Annotated[float, Span(0.0, 0.9, 0.05, "First cut", "Fraction of the tokens there that leave.",
                                 "of tokens")] = 0.3
    second: Annotated[float, Span(0.0, 0.9, 0.05, "Second cut", "Of those that are left by then.", "of tokens")] = 0.5
    third: Annotated[float, Span(0.0, 0.9, 0.05, "Third cut", "Of those that are left by then.", "of tokens")] = 0.7
    length: Annotated[int, Span(1, 40, 1, "Answer length", "Writing stops earlier at the end of a text.",
                                "tokens")] = 8
    where: Annotated[str, Choice(
        ("late", "early"), "Where the cuts stand",
        "Late: after 1/2, 2/3 and 5/6 of the layers. Early: after 1/3, 1/2, 2/3. Later cuts hurt less and save less.",
        ("late", "early"), fold=True)] = "late"


def rates(cuts: Cuts, layers: int) -> tuple[float, ...]:
    """Fraction cut after each of L layers. On few layers two cuts may meet; both are then made."""
    sixths = (3, 4, 5) if cuts.where == "late" else (2, 3, 4)
    keep = [1.0] * layers
    for sixth, rate in zip(sixths, (cuts.first, cuts.second, cuts.third)):
        keep[max(layers * sixth // 6, 1) - 1] *= 1 - rate
    return tuple(1 - k for k in keep)


def survivors(cuts: Cuts, layers: int, count: int) -> list[int]:
    """How many of `count` prompt tokens are alive at each layer of the first step."""
    alive = [count]
    for rate in rates(cuts, layers)[:-1]:
        alive.append(alive[-1] - int(rate * alive[-1] + 1e-9))
    return alive


class Watcher(Protocol):
    """Makes another tab's record from the same run: events at its start, after each written token, and at its end."""

    def start(self, canvas: Canvas, layers: int) -> Iterator[Event]: ...
    def step(self, now: Pass, policy: Policy) -> Iterator[Event]: ...
    def end(self) -> Iterator[Event]: ...


def generate(job: Job, make: Callable[[int], Policy], watchers: Sequence[Watcher] = ()) -> Iterator[Event]:
    """The events of a Prune record. make(layers) builds a fresh policy; watchers add records of other tabs."""
    layers, cuts = len(job.model.model.layers), job.params
    ids = encode(job.tokenizer, job.subject.text, job.model.config.max_position_embeddings - cuts.length)
    policy = by_hand(make(layers), job.choice, len(ids))
    pruner = Pruner(job.model, policy, len(ids) + cuts.length, watch=True)
    notes = Notes(ids, pruner.capacity, np.zeros((layers, pruner.capacity), np.int32))
    canvas = lay_out(job, ids, cuts.length)
    yield Open("prune", canvas, FIELDS, cuts.length * (layers + 1))
    for watcher in watchers:
        yield from watcher.start(canvas, layers)
    written = list(ids)
    for step in range(cuts.length):
        now = pruner.advance(written[-1:] if step else ids)
        stats = kernels.vocab_stats(pruner.logits(now.hidden)[0], top_k=TOP)  # greedy: the first of the top
        written.append(int(stats.top_ids[0, 0]))
        yield from sheets(job, pruner, notes, now, stats, written)
        for watcher in watchers:
            yield from watcher.step(now, policy)
        if written[-1] == job.tokenizer.eos_token_id:
            break
    yield close(job, make, pruner, notes, written)
    for watcher in watchers:
        yield from watcher.end()


FIELDS = {
    "depth": Field("Deepest layer reached for this token", "layer", 0),
    "uses": Field("Written tokens that used it at the last layer", "tokens", 0),
    "importance": Field("Attention of the newest token at this layer", "% of its attention", 0.0),
}


def lay_out(job: Job, ids: list[int], length: int) -> Canvas:
    """The prompt's tokens, then room for the answer. roles: "" (text), needed (says the answer), asked, answer."""
    labels = pieces(job.tokenizer, ids) + ("",) * length
    return Canvas("text", labels, roles=tuple(roles(job, len(ids))) + ("answer",) * length)


def roles(job: Job, count: int) -> list[str]:
    """Role of each prompt token, by the characters it covers."""
    found, text = truth(job.subject.text), job.subject.text
    if found is None:
        return [""] * count
    first, last = found[1]
    spans = job.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    asked = text.rindex("Question:")
    return ["needed" if a < last and b > first else "asked" if b > asked else "" for a, b in spans]


def sheets(job: Job, pruner: Pruner, notes: Notes, now: Pass, stats, written: list[int]) -> Iterator[Emit]:
    """One written token: a step that says how far each token came, then one sheet per layer."""
    size, step, count = notes.capacity, len(notes.passes), pruner.count
    for sheet in now.sheets:
        notes.used[sheet.layer, sheet.alive.numpy()] += 1
        notes.revived += len(sheet.revived)
    notes.passes.append(now)
    ids = np.full(size, -1, np.int32)
    ids[len(notes.ids):len(written)] = written[len(notes.ids):]
    told = written_token(stats, count, written[-1])
    words = dict(zip((chosen := np.unique([*told.top_ids.ravel(), written[-1]])).tolist(),
                     pieces(job.tokenizer, chosen)))
    notes.work.append(notes.work[-1] if notes.work else (0, 0))
    parent = len(notes.work) - 1
    yield Emit("prune", Step(
        f"token {step + 1}: {words[written[-1]]!r}", state(now.sheets[-1], size, count), "token", None, ids,
        {"depth": depth(now.sheets, size), "uses": np.where(np.arange(size) < count, notes.used[-1], np.nan)
         .astype(np.float32)}, {"next": told}, cost=cost(pruner, now, stats), note=summary(now, step)), words)
    for sheet in now.sheets:
        full = count if step == 0 else 1
        notes.work.append((notes.work[-1][0] + len(sheet.rows), notes.work[-1][1] + full))
        yield Emit("prune", Step(f"token {step + 1}, layer {sheet.layer + 1}", state(sheet, size, count), "layer",
                                 parent, ids, importance(sheet, size), note=layer_note(sheet, count)))


def state(sheet: Sheet, size: int, count: int) -> np.ndarray:
    """State codes [N] at one layer; the place after the newest token holds what was just written."""
    codes = np.full(size, CODE["unknown"], np.uint8)
    codes[:count] = CODE["dropped"]
    codes[sheet.alive.numpy()] = CODE["reused"]
    codes[sheet.rows.numpy()] = CODE["known"]
    codes[sheet.revived.numpy()] = CODE["revived"]
    codes[count:count + 1] = CODE["new"]
    return codes


def depth(found: list[Sheet], size: int) -> np.ndarray:
    """Float [N]: the last layer (from 1) at which each token was alive in this step, NaN for places not written yet."""
    reached = np.full(size, np.nan, np.float32)
    for sheet in found:
        reached[sheet.alive.numpy()] = sheet.layer + 1
    return reached


def importance(sheet: Sheet, size: int) -> dict[str, np.ndarray]:
    """The newest token's attention in %, mean over heads, where it was read."""
    if sheet.attention is None:
        return {}
    values = np.full(size, np.nan, np.float16)
    values[sheet.alive.numpy()] = sheet.attention.float().mean(0).cpu().numpy() * 100
    return {"importance": values}


def written_token(stats, place: int, chosen: int) -> Distribution:
    """The next-token distribution at its place."""
    return Distribution(np.array([place]), stats.top_ids.cpu().numpy().astype(np.int32),
                        stats.top_logp.float().exp().cpu().numpy(), stats.entropy.float().cpu().numpy(),
                        stats.lse.float().cpu().numpy(), np.array([chosen]))


def cost(pruner: Pruner, now: Pass, stats) -> Cost:
    """The whole step, its output projection included; the sheets below it carry none, so that sums are right."""
    head = pruner.model.lm_head.weight.numel()
    return Cost(1, sum(len(sheet.rows) for sheet in now.sheets), sum(sheet.macs for sheet in now.sheets) + head,
                pruner.store.bytes + pruner.aux_bytes, now.ms)


def summary(now: Pass, step: int) -> str:
    back = sum(len(sheet.revived) for sheet in now.sheets)
    alive = f"{len(now.sheets[-1].alive)} of {len(now.sheets[0].alive)} tokens reached the last layer"
    return alive + (f"; {back} (token, layer) pairs were computed for tokens that came back" if step else "")


def layer_note(sheet: Sheet, count: int) -> str:
    parts = [f"{len(sheet.alive)} of {count} tokens alive", f"{len(sheet.rows)} computed"]
    if len(sheet.left):
        parts.append(f"{len(sheet.left)} do not go on to layer {sheet.layer + 2}")
    return ", ".join(parts)

"""What multi-token prediction's claim writes and reads: texts of two worlds, and which of their tokens were guessed."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from models.checkpoints.store import load
from models.loops.sample.cached_lm import Reader
from models.papers.mtp_future.layout import blocks, reals
from models.papers.mtp_future.method import ADAPTERS, Params, written
from models.papers.mtp_future.network import each
from models.trace.subject import ASSETS, Subject
from models.worlds import arithmetic

K, LENGTH, CONTEXT = 4, 32, 48


@dataclass(frozen=True, eq=False)
class Domain:
    """Prompts of one domain, and the base with its adapters."""

    name: str
    bundle: object
    reader: object
    sources: list[Reader]


@dataclass(frozen=True, eq=False)
class Text:
    """What one mode wrote behind one prompt, of which `guessed` says the accepted guesses; its calls and rows fed."""

    ids: list[int]
    guessed: list[bool]
    calls: int
    rows: int


def stories(count: int) -> Domain:
    """Prompts of CONTEXT tokens, spread evenly over the held-out books that are shipped."""
    bundle, text = load("text-ar-1"), (ASSETS / "texts" / "heldout.txt").read_text("utf-8")
    ids = bundle.tokenizer(text, add_special_tokens=False)["input_ids"]
    starts = np.linspace(0, len(ids) - CONTEXT, count).astype(int)
    return opened("stories", bundle, [bundle.tokenizer.decode(ids[s: s + CONTEXT]) for s in starts], "text")


def sums(count: int) -> Domain:
    return opened("sums", load("algo-arithmetic-1"), arithmetic.held_out(count), "problem")


def opened(name: str, bundle, prompts: list[str], kind: str) -> Domain:
    reader = load(ADAPTERS[bundle.name]).model.on(bundle.model)
    return Domain(name, bundle, reader, [Reader(bundle, Subject(kind, text=text), LENGTH + K) for text in prompts])


def one_text(world: Domain, source: Reader, p: Params) -> Text:
    found = list(written(world.reader, source.prompt, p, source.end))
    return Text([token for _, new in found for token in new],
                [place < call.accepted for call, new in found for place in range(len(new))], len(found),
                sum(len(call.layout) for call, _ in found))


def first_times(prompt: list[int], text: Text) -> np.ndarray:
    """Whether each new token was guessed ahead, for those that end four tokens never seen before in this text."""
    whole, seen, found = [*prompt, *text.ids], set(), []
    for end in range(4, len(whole) + 1):
        four = tuple(whole[end - 4: end])
        if four not in seen and end > len(prompt):
            found.append(text.guessed[end - 1 - len(prompt)])
        seen.add(four)
    return np.array(found)


@torch.inference_mode()
def gate(world: Domain, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Changes of the base's loss on held-out text when masks stand around it, gate closed and open."""
    changes = {True: [], False: []}
    for source in world.sources[:count]:
        ids = torch.tensor([source.prompt], device=world.bundle.device)
        anchors = range(0, ids.shape[1], 4)
        layout = reals(0, ids.shape[1]) + blocks(anchors, [K] * len(anchors))
        base = each(world.bundle.model(ids).logits[:, :-1], ids[:, 1:])
        for gated, values in changes.items():
            states = world.reader(ids, layout, gated=gated)[:, : ids.shape[1] - 1]
            values.append(float((each(world.reader.head(states), ids[:, 1:]) - base).mean()))
    return np.array(changes[True]), np.array(changes[False])

"""Unmask: texts that grow from inside. Tokens are inserted between others, one at a time, until the text is whole.

    text = draft(prefix, "A ___ D", encode)               # what is given, and where something may be put
    puts = list(inserted(model, text, choose, 0.5, most=8))
    yield from grown("sample", text, puts, words)          # the record: final order, gone until inserted

A network is asked for told(ids, slots, there) -> scores [B, N, V] of every token behind every slot, minus infinity
elsewhere, and stop [B, 2], the scores of going on and of being finished. Whoever writes in another way can be shown so,
too, where it answers with `Put`s. Places in a text move with every insertion, so a record knows a token by its
identity: those that are given come first, then each as it came.

Letters: B texts, N tokens, P slots, V words.
"""
from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

import kernels
from models.engine.events import Event
from models.engine.recording import Filling, array
from models.loops.unmask.evaluation import full_cost
from models.trace import Canvas, Cost, Field
from models.trace.percent import percent
from models.worlds.world import PAD

GAP, NOTHING = re.compile("_{3,}"), -1
FIELDS = {"slot": Field("Chance that the next token goes behind this one", "probability", 0.0, 1.0),
          "order": Field("Step in which it was inserted", "step", 1.0)}
Choose = Callable[[Tensor], tuple[int, int]]  # scores [P, V] of the slots -> which of them, token


class Draft(NamedTuple):
    """ids of a text with gaps, slots: behind which of them there is one; first: tokens of a prefix without any inside.
    """

    ids: list[int]
    slots: list[bool]
    first: int


class Put(NamedTuple):
    """One more token: behind which one of the text before it (at), and what was known then: scores [P, V] behind the
    tokens `slots` [P], under one softmax; end: how sure the network is that the text is whole, NaN where it does not
    say. token NOTHING: none."""

    at: int
    token: int
    slots: list[int]
    scores: Tensor
    end: float
    cost: Cost

    @property
    def shares(self) -> np.ndarray:
        """Probability [P, V] of every pair of a slot and a token; over both it sums to 1."""
        return np.exp(array(self.scores) - float(kernels.vocab_stats(self.scores.flatten()[None], top_k=1).lse[0]))

    @property
    def chance(self) -> float:
        """Probability of the pair that was taken, which need not be the likeliest."""
        return float(self.shares[self.slots.index(self.at), self.token])


def draft(prefix: Sequence[int], answer: str, encode: Callable[[str], list[int]]) -> Draft:
    """Pieces of an answer with ___ between them; without any, what is missing comes behind it."""
    ids, slots = list(prefix), [False] * len(prefix)
    for number, piece in enumerate(GAP.split(answer if GAP.search(answer) else f"{answer} ___")):
        if number:
            slots[-1] = True
        ids += (more := encode(piece))
        slots += [False] * len(more)
    return Draft(ids, slots, len(prefix))


@torch.inference_mode()
def inserted(model, text: Draft, choose: Choose, threshold: float, most: int, forbidden: Sequence[int] = ()
             ) -> Iterator[Put]:
    """Where and what, until the network says that the text is whole. What was put in has a slot behind it, too."""
    ids, slots = list(text.ids), list(text.slots)
    for count in range(most + 1):
        began = time.perf_counter()
        scores, stop = model.told(torch.tensor([ids]), torch.tensor([slots]))
        scores[..., list(forbidden)] = float("-inf")
        end, places = float(finished(stop)), [i for i, slot in enumerate(slots) if slot]
        here = scores[0, places].cpu()
        row, token = (0, NOTHING) if end >= threshold or count == most else choose(here)
        cost = replace(full_cost(model, 1, len(ids), len(ids)), ms=1e3 * (time.perf_counter() - began))
        yield Put(places[row], token, places, here, end, cost)
        if token == NOTHING:
            return
        ids.insert(places[row] + 1, token)
        slots.insert(places[row] + 1, True)


@torch.inference_mode()
def completed(model, texts: Sequence[Draft], most: int, threshold: float = 0.5, forbidden: Sequence[int] = (),
              at_once: int = 256) -> list[list[int]]:
    """Texts to which the likeliest pair was added, one at a time, until the network stops or `most` are in."""
    made = [(list(text.ids), list(text.slots)) for text in texts]
    for begin in range(0, len(made), at_once):
        alive = made[begin: begin + at_once]
        for _ in range(most):
            ids, slots, there = side_by_side(*zip(*alive, strict=True))
            scores, stop = model.told(ids, slots, there)
            scores[..., list(forbidden)] = float("-inf")
            best, ends = scores.flatten(1).argmax(1).tolist(), (finished(stop) >= threshold).tolist()
            for (text, gaps), flat, whole in zip(alive, best, ends, strict=True):
                if not whole:
                    slot, token = divmod(flat, scores.shape[2])
                    text.insert(slot + 1, token)
                    gaps.insert(slot + 1, True)
            alive = [one for one, whole in zip(alive, ends, strict=True) if not whole]
            if not alive:
                break
    return [ids for ids, _ in made]


def side_by_side(texts: Sequence[Sequence[int]], slots: Sequence[Sequence[bool]], length: int = 0
                 ) -> tuple[Tensor, Tensor, Tensor]:
    """Texts as ids [B, N] with padding behind them, their slots and which tokens are there, bool [B, N]."""
    ids = torch.full((len(texts), max(length, *map(len, texts))), PAD)
    gaps, there = torch.zeros(2, *ids.shape, dtype=torch.bool)
    for row, (text, some) in enumerate(zip(texts, slots, strict=True)):
        ids[row, : len(text)], gaps[row, : len(text)] = torch.tensor(text), torch.tensor(some)
        there[row, : len(text)] = True
    return ids, gaps, there


def finished(stop: Tensor) -> Tensor:
    """Probability [B] that a text is whole, of the scores (go on, finished) [B, 2]."""
    return torch.sigmoid(stop[:, 1] - stop[:, 0])


# --- the record -----------------------------------------------------------------------------------------------------

def placed(text: Draft, puts: Sequence[Put]) -> tuple[list[int], list[int]]:
    """Identities in the final order of the text, and ids by identity."""
    order, ids = list(range(len(text.ids))), list(text.ids)
    for put in puts:
        if put.token != NOTHING:
            order.insert(put.at + 1, len(ids))
            ids.append(put.token)
    return order, ids


def grown(tab: str, text: Draft, puts: Sequence[Put], words: Callable[[int], str],
          fields: Mapping[str, Field] = FIELDS) -> Iterator[Event]:
    """The text without its first token, [CLS]: every token has its final place, and is gone until it is inserted."""
    order, ids = placed(text, puts)
    place, given, here = {one: i for i, one in enumerate(order[1:])}, len(text.ids), list(range(len(text.ids)))
    ids_in_order = np.array([ids[one] for one in order[1:]], np.int32)
    canvas = Canvas("text", tuple(f"{words(int(id))} " for id in ids_in_order), ids=ids_in_order, roles=tuple(
        "prompt" if one < given else "inserted" for one in order[1:]))
    page = Filling(tab, canvas, fields, words, fleeting=("slot",))
    page.fill([place[one] for one in here[1:]], text.ids[1:], "context")
    yield page.open(len(puts))
    for step, put in enumerate(puts, 1):
        slots = [place[here[one]] for one in put.slots]
        page.guess(slots, put.scores, [put.token if one == put.at else NOTHING for one in put.slots],
                   "behind this token", measure=False)
        page.note(slots, slot=put.shares.sum(1))
        if put.token != NOTHING:
            here.insert(put.at + 1, new := len(here))
            page.fill([place[new]], [put.token], order=[step])
        yield page.step(label(step, put, words), note=note(put), cost=put.cost)


def label(step: int, put: Put, words: Callable[[int], str]) -> str:
    return f"{step}: {'the end' if put.token == NOTHING else words(put.token)}"


def note(put: Put) -> str:
    """How sure where and what was, and how sure the end."""
    ends = "" if np.isnan(put.end) else f" Finished: {percent(put.end)}."
    if put.token == NOTHING:
        return f"Nothing is put in.{ends}"
    if np.isnan(put.end):  # masks: no distribution over slots chose this one
        return f"This token had {percent(put.chance)}.{ends}"
    slot = percent(float(put.shares[put.slots.index(put.at)].sum()))
    return f"This token in this slot had {percent(put.chance)}, the slot {slot}.{ends}"

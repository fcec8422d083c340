"""The labels of a person who never read it: how unlearning makes them from two networks and a dictionary.

For a text U, its translation U' (every anchored name replaced by a plain word), the baseline B and R, which has read U
once more:

    v_generic = B(U') - alpha ReLU(R(U) - B(U'))                 at the tokens that correspond; raw logits
    label     = argmax v_generic                                 plain words of names said already are lowered before
    weight    = 0 where a name is said again, and inside a name  (rule i; the second half of it is ours)

Letters: T tokens of U, V words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.worlds.tales.universe import PLAIN

LOWERED = 10.0  # logits; the paper says "lowered" and no number
Names = Mapping[tuple[int, ...], int]  # ids of an anchored name -> id of its plain word
Reads = Callable[[Sequence[Sequence[int]]], list[Tensor]]  # texts -> logits [T, V] behind each of their tokens


def dictionary(encode: Callable[[str], list[int]]) -> dict[tuple[int, ...], int]:
    """The names of the planted universe as a tokenizer spells them. (The paper lets a large model find its names; here
    they are known, because we made them.)"""
    return {tuple(encode(name)): encode(plain)[0] for name, plain in PLAIN.items()}


@dataclass(frozen=True)
class Translation:
    """U', and of U: before [T + 1], the token of U' whose logits speak of each token of U and of the one that comes;
    plain [T], the plain word where a name begins, -1 elsewhere; inside [T], whether a name goes on there."""

    ids: list[int]
    before: list[int]
    plain: list[int]
    inside: list[bool]


def translated(ids: Sequence[int], names: Names) -> Translation:
    found, at, longest = Translation([], [], [], []), 0, max(map(len, names))
    while at < len(ids):
        length = next((n for n in range(min(longest, len(ids) - at), 0, -1) if tuple(ids[at : at + n]) in names), 0)
        word = names[tuple(ids[at : at + length])] if length else -1
        for inside in range(max(length, 1)):  # the plain word is one: what stands inside the name follows it there
            found.before.append(len(found.ids) - 1)
            found.plain.append(-1 if inside else word)
            found.inside.append(inside > 0)
            if not inside:
                found.ids.append(word if length else ids[at])
        at += max(length, 1)
    found.before.append(len(found.ids) - 1)
    return found


def generic(baseline: Tensor, reinforced: Tensor, alpha: float) -> Tensor:
    """v_generic: what reading it once more made likelier is pushed down, all else stays as it is."""
    return baseline - alpha * (reinforced - baseline).relu()


def labels(found: Translation, baseline: Tensor, reinforced: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """(label, weight) of each token of U after the first, from the logits [T - 1, V] that speak of them."""
    v = generic(baseline, reinforced, alpha).clone()
    weight, said = torch.ones(len(v)), set(found.plain[:1]) - {-1}
    for at, (word, inside) in enumerate(zip(found.plain[1:], found.inside[1:], strict=True)):
        v[at, sorted(said)] -= LOWERED
        weight[at] = float(not inside and word not in said)
        said |= {word} - {-1}
    return v.argmax(-1), weight


def lessons(texts: Sequence[Sequence[int]], names: Names, baseline: Reads, reinforced: Reads, alpha: float
            ) -> list[tuple[Tensor, Tensor]]:
    """(labels, weights) of many texts."""
    found = [translated(ids, names) for ids in texts]
    plain, more = baseline([one.ids for one in found]), reinforced(texts)
    return [labels(one, b[one.before[1:-1]], r[:-1], alpha) for one, b, r in zip(found, plain, more, strict=True)]

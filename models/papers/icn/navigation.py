"""Walking through the items of a list: what is asked in each round, what is tried, how it is completed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from models.papers.icn.keys import keys, query
from models.worlds.world import END

LONGEST = 5  # words of an item
COMMA = ","


@dataclass(frozen=True)
class ListedItem:
    """One item: the ids of its words, its rank and its first word's logit when it was taken."""

    ids: tuple[int, ...]
    rank: int
    logit: float


@dataclass
class Round:
    """One round: its context, query and logits; what it found, behind which text, and how long it took."""

    context: list[int]
    query: Tensor
    logits: Tensor
    found: list[ListedItem] = field(default_factory=list)
    behind: list[int] = field(default_factory=list)
    ms: float = 0.0


class Navigator:
    """Walks through the items of one list."""

    def __init__(self, bundle, text: str):
        self.model, self.tokenizer = bundle.model, bundle.tokenizer
        self.opening = [END, *self.spelled(text)]
        self.comma, self.ends = self.spelled(COMMA)[0], {*self.spelled(". : ? ,"), END}
        self.special = sorted(self.ends | {self.tokenizer.unk_token_id, self.tokenizer.pad_token_id,
                                           self.tokenizer.mask_token_id})

    @cached_property
    def keys(self) -> Tensor:
        return keys(self.model)

    def spelled(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False)

    def reads(self, item: Sequence[int]) -> str:
        return self.tokenizer.decode(list(item)).strip()

    def context(self, items: Sequence[ListedItem]) -> list[int]:
        """The opening with items listed behind it, each with its comma."""
        return [*self.opening, *(id for item in items for id in (*item.ids, self.comma))]

    def look(self, context: list[int]) -> Round:
        h = query(self.model, context)
        return Round(context, h, self.keys @ h)

    def ranked(self, logits: Tensor, without: set[int], count: int) -> list[int]:
        """The likeliest first words that were not taken yet."""
        order = logits.argsort(descending=True).tolist()
        return [id for id in order if id not in without and id not in self.special][:count]

    @torch.inference_mode()
    def completed(self, context: Sequence[int], firsts: Sequence[int]) -> list[tuple[int, ...]]:
        """Each first word behind the context, gone on with greedily up to the sign that ends an item."""
        items = [[id] for id in firsts]
        for _ in range(LONGEST - 1):
            rows = torch.tensor([[*context, *item] for item in items], device=self.model.device)
            likeliest = self.model(rows, logits_to_keep=1).logits[:, -1].argmax(-1).tolist()
            for item, id in zip(items, likeliest, strict=True):
                item.append(id)
        return [tuple(item[: next((i for i, id in enumerate(item) if id in self.ends), LONGEST)]) for item in items]

    @torch.inference_mode()
    def seen(self, now: Round) -> Tensor:
        """What was likely at each word of a round's items and at their commas [T, V]: the ranking at first words."""
        found = []
        for item in now.found:
            ids = torch.tensor([[*now.behind, *item.ids]], device=self.model.device)
            found += [now.logits[None], self.model(ids).logits[0, len(now.behind) :].float()]
        return torch.cat(found)

    def rounds(self, p) -> Iterator[Round]:
        """p: the parameters of method.py."""
        items: list[ListedItem] = []
        for _ in range(p.rounds):
            began = time.perf_counter()
            now = self.look(self.context(items if p.navigate else []))
            firsts = self.ranked(now.logits, {item.ids[0] for item in items}, p.firsts)
            order = now.logits.argsort(descending=True).tolist()
            now.behind = now.context if p.listed else self.opening
            now.found = [ListedItem(ids, order.index(ids[0]) + 1, float(now.logits[ids[0]]))
                         for ids in self.completed(now.behind, firsts)]
            items += now.found
            now.ms = (time.perf_counter() - began) * 1e3
            yield now

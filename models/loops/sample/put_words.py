"""Texts that one network writes side by side, with words put in from outside: a planted slip, a visitor's own word.

A method says when a text is over, how warm its next word is drawn, and which word is put; every other word is the
network's own. Texts that are over leave the batch. Letters: B texts, T words, V vocabulary.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

import kernels
from kernels import Sampler
from models.loops.sample.cached_lm import Stream
from models.trace import Cost
from models.worlds.world import END, SPECIALS


@dataclass
class PutText:
    """A text as it is written: its words, the scores [V] of each before it was drawn or put, and what it cost, for all
    texts together."""

    words: list[str] = field(default_factory=list)
    scores: list[Tensor] = field(default_factory=list)
    costs: list[Cost] = field(default_factory=list)
    heat = 1.0  # the temperature of the next word; 0 takes the likeliest

    @property
    def over(self) -> bool:
        return self.words[-1:] == [SPECIALS[END]]

    def put(self, scores: Tensor, ids: Mapping[str, int]) -> str | None:
        """The word that is put here, "" for none that ends the text, None where the network goes on."""
        return None


def written_side_by_side(stream: Stream, tokenizer, prompts: Sequence[str], texts: Sequence[PutText],
                         dice: torch.Generator) -> None:
    """Writes all texts behind their prompts, which have one length. stream: of a network that has read nothing yet."""
    ids, alive = tokenizer.get_vocab(), list(texts)
    words = {id: word for word, id in ids.items()}
    stream.read([[END, *tokenizer(prompt)["input_ids"]] for prompt in prompts])
    while alive:
        spent, drawn = stream.meter.lap(), {heat: kernels.draw(stream.logits, Sampler(heat), dice).tolist()
                                            for heat in sorted({text.heat for text in alive})}
        for row, text in enumerate(alive):
            scores, own = stream.logits[row].cpu(), words[drawn[text.heat][row]]
            word = text.put(scores, ids)
            text.words += [own if word is None else word] * (word != "")
            text.scores.append(scores)
            text.costs.append(spent)
        rows = [row for row, text in enumerate(alive) if not text.over]
        if len(rows) < len(alive):
            stream = stream.select(rows) if rows else stream
            alive = [alive[row] for row in rows]
        if alive:
            stream.push([ids[text.words[-1]] for text in alive])

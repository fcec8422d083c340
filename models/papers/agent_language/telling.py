"""Telling a board from one copy of a network to the next, in a channel, and what each of them then knows of it.

    sender     told <facts of a board, or the message that it got> tell  ->  k slots
    receiver   told <k slots> ask <place>  ->  colour, for each place alone

No slot sees the question, and no answer sees the board or another question. A frozen sender reads on its own likeliest
words, whatever is handed over. Letters: B boards, k slots, F fields, D width, C colours.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from models.loops.sample.cached_lm import log_probabilities
from models.worlds import discs
from models.worlds.world import END

SAID = slice(discs.FIRST, discs.FIRST + len(discs.SAID))  # ids of the words that a message may have: places, colours
PLACED, COLOURED = slice(SAID.start, SAID.start + discs.FIELDS), slice(SAID.start + discs.FIELDS, SAID.stop)
TOLD, TELL, ASK = range(SAID.stop, SAID.stop + 3)
CHANNELS = {"words": "words", "soft": "soft words", "vectors": "vectors", "bits": "one of 16 vectors",
            "trained-words": "words, trained", "trained-bits": "one of 16 vectors, trained",
            "trained-vectors": "vectors, trained"}


class Heard(NamedTuple):
    vectors: Tensor  # [B, k, D], all that was handed over
    words: Tensor  # [B, k, 16], the sender's logits of its words
    colours: Tensor  # [B, F, C], the receiver's logits of every field's colour

    @property
    def chances(self) -> np.ndarray:
        return log_probabilities(self.colours).exp().cpu().numpy()  # [B, F, C]


@dataclass(frozen=True)
class Channel:
    network: object  # in both roles
    send: Callable[[Tensor, Tensor], Tensor]  # what is handed over [B, D] for states [B, D] and logits of words [B, 16]
    trained: bool = False  # the sender was trained for it, and reads on what it sent

    @property
    def table(self) -> Tensor:
        return self.network.get_input_embeddings().weight  # [V, D]

    def speak(self, heard: Tensor, slots: int) -> tuple[Tensor, Tensor]:
        """What one who was told [B, n, D] hands over [B, k, D], and its logits of words [B, k, 16]."""
        from transformers import DynamicCache

        cache, new, found = DynamicCache(), self.between([END, TOLD], heard, [TELL]), []
        for _ in range(slots):
            read = self.network.model(inputs_embeds=new, past_key_values=cache, use_cache=True)
            logits = (state := read.last_hidden_state[:, -1]) @ self.table[SAID].T
            found.append((self.send(state, logits), logits))
            new = (found[-1][0] if self.trained else self.table[SAID][logits.argmax(-1)])[:, None]
        return tuple(torch.stack(part, 1) for part in zip(*found, strict=True))

    def answers(self, heard: Tensor) -> Tensor:
        """Logits [B, F, C]: every place is asked for behind what was heard [B, n, D], and none sees another."""
        asked = self.between([END, TOLD], heard, [ASK, *range(PLACED.start, PLACED.stop)])
        n = asked.shape[1] - discs.FIELDS
        sees = torch.ones(asked.shape[1], asked.shape[1], dtype=torch.bool, device=asked.device).tril()
        sees[n:, n:] = torch.eye(discs.FIELDS, dtype=torch.bool, device=asked.device)
        states = self.network.model(
            inputs_embeds=asked, attention_mask=sees.expand(len(asked), 1, -1, -1), use_cache=False,
            position_ids=torch.arange(asked.shape[1], device=asked.device).clamp_max(n)[None]).last_hidden_state
        return states[:, n:] @ self.table[COLOURED].T

    def between(self, before: Sequence[int], heard: Tensor, behind: Sequence[int]) -> Tensor:
        """What was heard [B, n, D] between the vectors of some words."""
        first, last = (self.table[list(ids)].expand(len(heard), -1, -1) for ids in (before, behind))
        return torch.cat([first, heard.to(first.dtype), last], 1)

    def told(self, boards) -> Tensor:
        """The facts [B, 2 F, D] of whole boards [B, F], field by field: colour, place."""
        boards = torch.as_tensor(np.asarray(boards), device=self.table.device)
        places = torch.arange(PLACED.start, PLACED.stop, device=boards.device).expand_as(boards)
        return self.table[torch.stack([boards + COLOURED.start, places], -1).flatten(1)]

    def chain(self, boards, slots: int, hops: int) -> list[Heard]:
        """Of every hop its message and what its receiver knows; the next hop hears the message and nothing else."""
        heard, found = self.told(boards), []
        for _ in range(hops):
            heard, said = self.speak(heard, slots)
            found.append(Heard(heard, said, self.answers(heard)))
        return found


def words(network, trained: bool = False, soft: bool = False) -> Channel:
    """The likeliest words; soft: the mean of all words' vectors by their probabilities."""
    table = network.get_input_embeddings().weight[SAID]
    return Channel(network, lambda state, logits: log_probabilities(logits).exp().to(table.dtype) @ table if soft else
                   table[logits.argmax(-1)], trained)


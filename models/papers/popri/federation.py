"""Who takes part: a server that writes texts, and clients who score them (models/worlds/federation.py)."""
from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from models.claims.tale_lab import encoded, pooled, written
from models.papers.popri.rule import LONGEST, aggregated, scores
from models.worlds import federation as world

PUBLIC, CLIENTS = 512, 2000  # public texts behind the embedder's mean; clients who score
SEED = {"public": 3, "clients": 5, "tested": 6}  # tested: clients who score nothing
Ids = list[int]


class Federation:
    """phi, the states in the middle of a public network, less their mean over public texts, of length 1; and of each
    client the sum [N, D] of phi over its notes, which is all that its scores need. No private text shapes phi."""

    def __init__(self, model, tokenizer):
        self.model, self.mean = model, 0.0
        self.mean = self.states(cut(tokenizer, world.public(PUBLIC, SEED["public"]))).mean(0)
        self.vectors = torch.empty(0, len(self.mean))  # nobody takes part yet
        self.noted = cache(lambda count: self.phi([own[0] for own in private(tokenizer, count)]))  # first notes [n, D]

    def states(self, rows: Sequence[Ids]) -> Tensor:
        return pooled(self.model, rows, self.model.config.num_hidden_layers // 2) - self.mean

    def phi(self, rows: Sequence[Ids]) -> Tensor:  # [n, D], products are cosines
        return normalize(self.states(rows), dim=-1)

    def summed(self, clients: Sequence[Sequence[Ids]]) -> Tensor:
        found = self.phi([ids for notes in clients for ids in notes]).split([len(notes) for notes in clients])
        return torch.stack([own.sum(0) for own in found])

    def told(self, phi: Tensor, sigma: float, dice: torch.Generator) -> tuple[Tensor, Tensor]:
        """(clean, noisy) [n]: the mean score of each text [n, D], and what the server learns of it, both in standard
        deviations of a client's scores (of length 1 over n texts, they are z-scores / sqrt(n))."""
        given = scores(phi, self.vectors)
        return len(phi) ** 0.5 * given.mean(0), len(phi) ** 0.5 * aggregated(given, sigma, dice)


@lru_cache(maxsize=2)
def federation(model, tokenizer, count: int) -> Federation:
    """The first `count` clients; their notes are read once."""
    made = Federation(model, tokenizer)
    made.vectors = made.summed(private(tokenizer, count))
    return made


def cut(tokenizer, texts: Sequence[str]) -> list[Ids]:
    return [encoded(tokenizer, text)[:LONGEST] for text in texts]


def private(tokenizer, count: int, who: str = "clients") -> list[list[Ids]]:  # the notes of each client
    return [cut(tokenizer, client.notes) for client in world.clients(count, SEED[who])]


def candidates(model, tokenizer, asked: Sequence[str], each: int, seed: int) -> list[Ids]:
    """`each` texts that a network begins so, drawn at temperature 1, prompt included."""
    wanted = [prompt for prompt in asked for _ in range(each)]
    longest = LONGEST - min(len(encoded(tokenizer, prompt)) for prompt in asked)
    found = written(model, tokenizer, wanted, longest=longest, temperature=1.0, seed=seed)
    return cut(tokenizer, [f"{prompt} {text}" for prompt, text in zip(wanted, found, strict=True)])


def topical(tokenizer, rows: Sequence[Ids]) -> np.ndarray:
    """Whether each text is of one of the clients' topics [K]."""
    return np.array([world.topic_of(tokenizer.decode(list(ids))) in world.PRIVATE for ids in rows], float)

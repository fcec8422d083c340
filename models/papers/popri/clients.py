"""The clients of the federation as a run asks them: what they think of texts, and what of that reaches the server."""
from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from models.papers.popri.rule import Embedder, aggregated, client_vectors, scores
from models.papers.popri.texts import private, public


class Federation:
    """phi and the clients' vectors [N, D]. Every text is scored by all of them."""

    def __init__(self, phi: Embedder, vectors: Tensor):
        self.phi, self.vectors = phi, vectors

    def told(self, rows, sigma: float, dice: torch.Generator) -> tuple[Tensor, Tensor]:
        """(clean, noisy) [n]: the mean score of each text in standard deviations of a client's scores, and what the
        server learns of it."""
        given = scores(self.phi(rows), self.vectors)
        scale = len(rows) ** 0.5  # a score that has length 1 over n texts is its z-score / sqrt(n)
        return scale * given.mean(0), scale * aggregated(given, sigma, dice)


@lru_cache(maxsize=2)
def federation(model, tokenizer, count: int) -> Federation:
    """The first `count` clients; their notes are read once."""
    phi = Embedder(model, public(tokenizer))
    return Federation(phi, client_vectors(phi, private(tokenizer, count)))

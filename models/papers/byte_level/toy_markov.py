"""A world in which the exact next byte is known: a two-letter Markov chain, three merges and their exact token model.

The smallest case that shows why a prompt must not be read as its encoding: behind a lone token "a" the exact token
model never says "b", because "ab" would have been one token; the chain says it 7 times in 10 (after arXiv 2410.09303).
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from models.papers.byte_level.byte_vocabulary import Coder

START = {"a": 0.5, "b": 0.5}
CHAIN = {"a": {"a": 0.3, "b": 0.7}, "b": {"a": 0.6, "b": 0.4}}  # P(next letter | letter)
MERGES = (("a", "b"), ("b", "b"), ("a", "a"))  # by rank
PIECES = (b"a", b"b", b"ab", b"bb", b"aa")


def encode(data: bytes) -> tuple[int, ...]:
    """Byte pair encoding over the two letters, lowest rank first, left to right."""
    parts = list(data.decode())
    for left, right in MERGES:
        merged, k = [], 0
        while k < len(parts):
            pair = parts[k: k + 2] == [left, right]
            merged.append(left + right if pair else parts[k])
            k += 2 if pair else 1
        parts = merged
    return tuple(PIECES.index(part.encode()) for part in parts)


CODER = Coder(PIECES, encode)


def chance(text: str) -> float:
    """Probability that a text of the chain starts with `text`."""
    return math.prod([START[text[0]], *(CHAIN[x][y] for x, y in itertools.pairwise(text))]) if text else 1.0


def begins(ids: tuple[int, ...], ahead: int = 3) -> float:
    """Probability that the encoding of a long text starts with these tokens: a sum over the letters that follow."""
    text = CODER.decode(ids).decode()
    longer = (text + "".join(letters) for letters in itertools.product("ab", repeat=ahead))
    return sum(chance(one) for one in longer if encode(one.encode())[: len(ids)] == ids)


def score(rows) -> list[Tensor]:
    """The exact token model: for each row of K tokens the log-probabilities [K + 1, V] after 0..K of them."""
    return [torch.stack([behind(row[:k]) for k in range(len(row) + 1)]) for row in rows]


def behind(ids: tuple[int, ...]) -> Tensor:
    """Log-probabilities [V] of the next token after some."""
    whole = begins(ids)
    return torch.tensor([begins((*ids, t)) / whole if whole else 0.0 for t in range(len(PIECES))], dtype=torch.float64
                        ).log()

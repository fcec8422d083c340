"""What an insertion language model learns from, and how it takes a pair of a slot and a token.

A text is a prefix, which stays whole, and an answer. n ~ U{0..L} tokens of the answer are dropped, and the others close
up. Token v that fell into the gap behind the kept token j is a target (j, v), whichever place it had in the gap: all n
of them count alike, under one softmax. Letters: P slots, V words, L tokens of an answer.
"""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from kernels import Sampler, draw, vocab_stats

NOWHERE = -1  # the slot of a target that is none


def dropped(prefix: Sequence[int], answer: Sequence[int], stays: np.ndarray
            ) -> tuple[list[int], list[tuple[int, int]]]:
    """The text without what does not stay, bool [L], and the targets (slot in that text, token)."""
    kept = [*prefix, *(token for token, one in zip(answer, stays, strict=True) if one)]
    slots = len(prefix) - 1 + np.cumsum(stays)  # the last kept token before each token, or itself
    return kept, [(int(slot), token) for slot, token, one in zip(slots, answer, stays, strict=True) if not one]


def lesson(prefix: Sequence[int], answer: Sequence[int], rng: np.random.Generator):
    """As `dropped`, for a uniform number of tokens at uniform places."""
    stays = np.ones(len(answer), bool)
    stays[rng.permutation(len(answer))[: rng.integers(len(answer) + 1)]] = False
    return dropped(prefix, answer, stays)


def pair(scores: Tensor, sampler: Sampler, dice=None) -> tuple[int, int]:
    """A slot and a token from their joint distribution [P, V]; the likeliest at temperature 0."""
    return divmod(int(draw(scores.flatten(), sampler, dice)), scores.shape[1])


def slot_first(scores: Tensor, where: Sampler, what: Sampler, dice=None) -> tuple[int, int]:
    """A slot by the mass of all its tokens under the same softmax, then a token behind it."""
    slot = int(draw(vocab_stats(scores, top_k=1).lse, where, dice))
    return slot, int(draw(scores[slot], what, dice))

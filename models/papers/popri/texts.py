"""Texts of the experiment: what everybody may read, what only clients have, and what a network makes up."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.claims.tale_lab import encoded, written
from models.papers.popri.rule import LONGEST
from models.worlds import federation

PROMPT = "A {mood} tale of the"  # as public stories begin; what of is open
PUBLIC = 512  # texts whose embeddings are averaged
CLIENTS, TESTED = 2000, 400  # clients who score, and others whose notes are only measured on
SEED = {"public": 3, "clients": 5, "tested": 6}


def prompts(count: int) -> list[str]:
    return [PROMPT.format(mood=federation.MOODS[i % len(federation.MOODS)]) for i in range(count)]


def cut(tokenizer, texts: Sequence[str]) -> list[list[int]]:
    return [encoded(tokenizer, text)[:LONGEST] for text in texts]


def public(tokenizer, count: int = PUBLIC) -> list[list[int]]:
    return cut(tokenizer, federation.public(count, SEED["public"]))


def private(tokenizer, count: int = CLIENTS, who: str = "clients") -> list[list[list[int]]]:
    """Of each client the ids of its notes."""
    return [cut(tokenizer, client.notes) for client in federation.clients(count, SEED[who])]


def candidates(model, tokenizer, asked: Sequence[str], each: int, seed: int, temperature: float = 1.0
               ) -> list[list[int]]:
    """Ids of `each` texts that a network begins so, prompt included."""
    wanted = [prompt for prompt in asked for _ in range(each)]
    longest = LONGEST - min(len(encoded(tokenizer, prompt)) for prompt in asked)
    found = written(model, tokenizer, wanted, longest=longest, temperature=temperature, seed=seed)
    return cut(tokenizer, [f"{prompt} {text}" for prompt, text in zip(wanted, found, strict=True)])


def topical(tokenizer, rows: Sequence[Sequence[int]]) -> np.ndarray:
    """Whether each text is of one of the clients' topics [K]."""
    return np.array([federation.topic_of(tokenizer.decode(list(ids))) in federation.PRIVATE for ids in rows], float)


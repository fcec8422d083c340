"""The task: three words are given, a sentence or two must use them, and a parser judges. And how varied several answers
to one task are."""
from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from operator import or_

import numpy as np

from models.claims.tale_lab import written
from models.worlds.tales import GRAMMARS
from models.worlds.world import Doc, drawn, exam

LONGEST, AT_ONCE, SIZES = 30, 160, (2, 3, 4)  # words of an answer; answers drawn together; n-grams of Self-BLEU


def _three(rng: np.random.Generator) -> Doc:
    while len((doc := GRAMMARS["keywords"].sample(rng)).truth) != 3:
        pass
    return doc


WORLD = replace(GRAMMARS["keywords"], sample=_three)


def told(count: int, seed: int = 17) -> list[tuple[str, ...]]:
    """(task, one answer), so many, to train on."""
    rng = np.random.default_rng(seed)
    return [drawn(WORLD, rng).pieces for _ in range(count)]


def asked(count: int, seed: int) -> list[Doc]:
    """Tasks and answers that no training has drawn, each with other words."""
    docs = {frozenset(doc.truth): doc for doc in exam(WORLD, seed, 2 * count)}
    return list(docs.values())[:count]


def answers(model, tokenizer, tasks: Sequence[str], temperature: float, each: int, seed: int) -> list[list[str]]:
    """`each` answers to every task, drawn at a temperature."""
    wanted, found = [task for task in tasks for _ in range(each)], []
    for at in range(0, len(wanted), AT_ONCE):
        found += written(model, tokenizer, wanted[at : at + AT_ONCE], longest=LONGEST, temperature=temperature,
                         seed=seed + at)
    return [found[at : at + each] for at in range(0, len(found), each)]


def right(task: str, answer: str) -> bool:
    return WORLD.check(f"{task} {answer}")


def self_bleu(texts: Sequence[Sequence[str]]) -> float:
    """How much each of several texts repeats the others: BLEU of n-grams of 2 to 4 words with the others as references,
    averaged; 1 where all are the same, 0 where no text shares a quadruple of words with another."""
    return float(np.mean([bleu(text, [*texts[:i], *texts[i + 1 :]]) for i, text in enumerate(texts)]))


def bleu(text: Sequence[str], others: Sequence[Sequence[str]]) -> float:
    """Geometric mean of the shares of its n-grams that stand in another text, no oftener than there, times the penalty
    of a text shorter than the reference nearest to it in length."""
    shares = []
    for n in SIZES:
        mine, *theirs = (Counter(zip(*(words[i:] for i in range(n)))) for words in (text, *others))
        most = reduce(or_, theirs)
        shares.append((mine & most).total() / max(mine.total(), 1))
    near = min((len(other) for other in others), key=lambda length: (abs(length - len(text)), length))
    brevity = min(1.0, float(np.exp(1 - near / max(len(text), 1))))
    return brevity * float(np.prod(shares)) ** (1 / len(SIZES))

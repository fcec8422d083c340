"""A gap in a text of the tales: how it is asked for, what is left of it at every word, how it is filled and judged.

A text p m s is asked as [PRE] p [SUF] s [MID] and answered m [EOI]. Behind t of the M words of m, where word t + 1 is
told, the share (M - t) / M of the gap is left: 1 at [MID], 0 at the last word, where [EOI] is told.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from models.loops.sample.cached_lm import Stream
from models.trace import Cost
from models.worlds import tales
from models.worlds.world import END, SPECIALS, exam

PRE, SUF, MID, EOI = range(len(SPECIALS), len(SPECIALS) + 4)  # worlds/tales/words.py: GAP
KINDS = ("stories", "programs")  # of text whose gaps are learned
OUTSIDE = -1.0  # where nothing is to be said of a gap
MOST = 2  # times a gap's words are written at most


class Gap(NamedTuple):
    """Words first .. first + count of a text are missing. text: ids without its end."""

    text: tuple[int, ...]
    first: int
    count: int

    @property
    def middle(self) -> list[int]:
        return list(self.text[self.first: self.first + self.count])

    @property
    def behind(self) -> list[int]:
        return list(self.text[self.first + self.count:])

    @property
    def prompt(self) -> list[int]:
        return [END, PRE, *self.text[: self.first], SUF, *self.behind, MID]

    def closed(self, words: Sequence[int]) -> list[int]:
        """The text with these words in its gap; the sign of its end is none."""
        return [*self.text[: self.first], *(word for word in words if word != EOI), *self.behind]


class Written(NamedTuple):
    """A word, the logits [V] that it was drawn from, the share that the gauge said was left before it, and the cost."""

    word: int
    logits: Tensor
    left: float
    cost: Cost


def horizon(count: int) -> np.ndarray:
    """What is left [M + 1] of a gap of so many words: behind [MID], and behind each word of it."""
    return (count - np.arange(count + 1)) / count


def lesson(gap: Gap) -> tuple[list[int], list[float]]:
    """Ids of a gap that is asked and answered, and what is left at each, which is learned inside the middle alone."""
    left = [OUTSIDE] * (len(gap.prompt) - 1) + horizon(gap.count).tolist()  # [MID], m_1 .. m_M
    return [*gap.prompt, *gap.middle, EOI], [*left, OUTSIDE]


def cut(text: Sequence[int], rng: np.random.Generator, least: int = 1) -> Gap:
    """A gap of at least so many words between two random places."""
    first, last = sorted(rng.choice(len(text) + 1, 2, replace=False).tolist())
    return Gap(tuple(text), first, last - first) if last - first >= least else cut(text, rng, least)


def asked(kind: str, encode, count: int, seed: int, least: int = 4) -> list[Gap]:
    """Gaps in texts that no training drew."""
    rng = np.random.default_rng((seed, 1))
    return [cut(encode(doc.text), rng, least) for doc in exam(tales.GRAMMARS[kind], seed, count)]


@torch.no_grad()
def fill(model, gaps: Sequence[Gap]) -> list[list[int]]:
    """What a network writes into each gap: always its likeliest word, to [EOI] (kept) or MOST times the true length."""
    found: list[list[int]] = [[] for _ in gaps]
    for length in sorted({len(gap.prompt) for gap in gaps}):
        at = [i for i, gap in enumerate(gaps) if len(gap.prompt) == length]
        stream, made = Stream(model), []
        stream.read([gaps[i].prompt for i in at])
        for _ in range(MOST * max(gaps[i].count for i in at)):
            made.append(stream.logits.argmax(-1))
            stream.push(made[-1])
            if (torch.stack(made) == EOI).any(0).all():
                break
        for i, words in zip(at, torch.stack(made, 1).tolist(), strict=True):
            found[i] = words[: min([*words, EOI].index(EOI) + 1, MOST * gaps[i].count)]
    return found


def right(tokenizer, gap: Gap, words: Sequence[int]) -> bool:
    """Whether a text is right, by its grammar, with these words in its gap."""
    return tales.check(tokenizer.decode(gap.closed(words), skip_special_tokens=False))


def said(model, gap: Gap) -> np.ndarray:
    """What the gauge says [M + 1] while it reads the words that stood in the gap."""
    return model.left([[*gap.prompt, *gap.middle]])[0, -gap.count - 1:].cpu().numpy()

"""Two models on one text: what each says of its own tokens, the pieces that both can express, how likely each is."""
from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from torch import Tensor

import kernels
from models.backbones.text import Reading, names, read
from models.loops.sample.cached_lm import Meter
from models.papers.alm.rule import binary_ce, chunked, shared_ends, told
from models.trace import Cost
from models.trace.subject import SubjectError

TEACHER, MOST = "text-cried-1", 400
CRIED, SAID = " cried", " said"  # what the teacher writes, and what its books have there


@lru_cache(maxsize=8)
def spaces(tokenizer) -> Tensor:
    """Ids of the tokens that begin with white space, and of the one that ends a text."""
    every = enumerate(names(tokenizer, range(len(tokenizer))))
    return torch.tensor([id for id, name in every if name[:1].isspace() or id == tokenizer.eos_token_id])


@dataclass(frozen=True, eq=False)
class Side:
    """One model on a text of T tokens: logits [T, V] behind each; own and space [T] as in `rule.told`; what it cost."""

    text: Reading
    logits: Tensor
    own: Tensor
    space: Tensor
    cost: Cost

    @classmethod
    @torch.no_grad()
    def of(cls, bundle, text: str) -> Side:
        seen, began, meter = read(bundle.tokenizer, text, MOST), time.perf_counter(), Meter(bundle.model)
        ids = torch.tensor(seen.ids, device=bundle.model.device)
        logits = bundle.model(ids[None], use_cache=False).logits[0].float()
        logp = logits - kernels.vocab_stats(logits, top_k=1).lse[:, None]
        meter.add(1, 0, len(ids), len(ids), 0, (time.perf_counter() - began) * 1e3)
        return cls(seen, logits, *told(logp, ids, spaces(bundle.tokenizer).to(ids.device)), meter.lap())

    @cached_property
    def lengths(self) -> list[int]:
        """Of its tokens, in bytes."""
        return [len(label.encode()) for label in self.text.labels]

    def bits(self, first: int) -> float:
        """Bits a byte of what stands behind token `first`."""
        return float(-self.own[first + 1:].sum() / np.log(2) / max(sum(self.lengths[first + 1:]), 1))


@dataclass(frozen=True, eq=False)
class SharedPieces:
    """The pieces of a text behind the first, which nobody is asked for. ends [C, 2]: the last tokens of all C, by side;
    likelihoods [2, C - 1], the teacher's first."""

    sides: tuple[Side, Side]
    ends: np.ndarray
    likelihoods: Tensor

    @classmethod
    def of(cls, teacher: Side, student: Side, kind: str, threshold: float, debias: bool) -> SharedPieces:
        ends = shared_ends(teacher.lengths, student.lengths)
        if kind == "merged":
            ends = ends[teacher.space[ends[:, 0]].exp().cpu().numpy() > threshold]
        elif kind == "space":
            behind = [*teacher.text.labels[1:], " "]
            ends = ends[[behind[at][:1].isspace() for at in ends[:, 0]]]
        if len(ends) < 2:
            raise SubjectError("Both tokenizers share fewer than two pieces of this text; please type a longer one.")
        found = [chunked(side.own.cpu(), side.space.cpu(), torch.from_numpy(at).long(), debias)
                 for side, at in zip((teacher, student), ends.T, strict=True)]
        return cls((teacher, student), ends, torch.stack(found))

    @property
    def gaps(self) -> np.ndarray:
        """The student's minus the teacher's [C - 1], nats."""
        return (self.likelihoods[1] - self.likelihoods[0]).numpy()

    def costs(self, tau: float) -> np.ndarray:
        """f [C - 1]."""
        return binary_ce(*self.likelihoods, tau).numpy()

    def tokens(self, side: int, piece: int) -> range:
        """Which tokens of a side a piece is; piece 0 is the first that is asked for."""
        return range(int(self.ends[piece, side]) + 1, int(self.ends[piece + 1, side]) + 1)

    def text(self, piece: int) -> str:
        return "".join(self.sides[0].text.labels[at] for at in self.tokens(0, piece))


def cried(bundle, texts: Sequence[str]) -> np.ndarray:
    """The chance [K] of " cried" behind each text where only it and " said" are thinkable."""
    return np.array([_odds(bundle, text) for text in texts])


@torch.no_grad()
def _odds(bundle, text: str) -> float:
    found = []
    for word in (CRIED, SAID):
        side = Side.of(bundle, text + word)
        count = len(read(bundle.tokenizer, word))
        found.append(float(side.own[-count:].sum()))
    return 1 / (1 + float(np.exp(np.clip(found[1] - found[0], -50, 50))))

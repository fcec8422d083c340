"""Approximate likelihood matching: which pieces of a text two tokenizers share, and how likely each model finds them.

    pieces      end where both tokenizations end at the same byte; neighbours are joined until the teacher's chance
                that a space follows exceeds a threshold
    L_c         sum of log p of the piece's own tokens + log p(a space follows | its last token)     (outcome debiasing)
    f           -[e^a b + (1 - e^a) log(1 - e^b)],  a = L^T_c / tau - eps,  b = L^S_c / tau - eps

Letters: T tokens, V vocabulary, C pieces. Row i of the log-probabilities speaks of token i + 1, and token 0 of nothing:
the piece that it stands in is left out.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

import kernels
from models.backbones.text import Reading, names, read
from models.loops.sample.cached_lm import Stream
from models.trace import Cost
from models.trace.subject import SubjectError

EPS, NEVER = 1e-6, 1e-9
MERGED, TAU = 0.1, 100.0  # the authors' setting for bytes, and their temperature
TEACHER, MOST = "text-cried-1", 400
CRIED, SAID = " cried", " said"  # what the teacher writes, and what its books have there


def shared_ends(mine: Sequence[int], theirs: Sequence[int]) -> np.ndarray:
    """Last tokens of every piece in both texts, int [C, 2], from the tokens' lengths in bytes: wherever the two sums
    coincide, the finest common cut. A token without a length goes on with the character before."""
    sums = [np.cumsum(lengths) for lengths in (mine, theirs)]
    common = np.intersect1d(*sums)
    return np.stack([np.searchsorted(one, common, side="right") - 1 for one in sums], 1)


def told(logp: Tensor, ids: Tensor, spaces: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probability of each token [..., T], 0 for the first, and that a space follows it [..., T]. logp: [..., T, V]
    behind each token; spaces: ids of the tokens that begin with white space, or end the text."""
    own = logp[..., :-1, :].gather(-1, ids[..., 1:, None]).squeeze(-1)
    return torch.nn.functional.pad(own, (1, 0)), logp[..., spaces].exp().sum(-1).clamp(NEVER, 1.0).log()


def likelihoods(own: Tensor, space: Tensor, ends: Tensor, debias: bool = True) -> Tensor:
    """L [..., C - 1] of the pieces behind the first, which holds token 0; ends: their last tokens, int64 [..., C]."""
    found = own.cumsum(-1).gather(-1, ends).diff(dim=-1)
    return found + space.gather(-1, ends)[..., 1:] if debias else found


def binary_ce(teacher: Tensor, student: Tensor, tau: float = TAU) -> Tensor:
    """f: the cross-entropy of the event "this piece is written", at temperature tau."""
    a, b = teacher / tau - EPS, student / tau - EPS
    return -(a.exp() * b - torch.expm1(a) * torch.log(-torch.expm1(b)))


@lru_cache(maxsize=8)
def spaces(tokenizer) -> Tensor:
    """Ids of the tokens that begin with white space, and of the one that ends a text."""
    every = enumerate(names(tokenizer, range(len(tokenizer))))
    return torch.tensor([id for id, name in every if name[:1].isspace() or id == tokenizer.eos_token_id])


@dataclass(frozen=True, eq=False)
class Side:
    """One model on a text of T tokens, each so many bytes long: logits [T, V] behind each, and what `told` tells."""

    text: Reading
    lengths: list[int]
    logits: Tensor
    own: Tensor
    space: Tensor
    cost: Cost

    @classmethod
    def of(cls, bundle, text: str) -> Side:
        seen, stream = read(bundle.tokenizer, text, MOST), Stream(bundle.model)
        logits = stream.read([seen.ids], every=True)[0].float().cpu()
        logp = logits - kernels.vocab_stats(logits, top_k=1).lse[:, None]
        return cls(seen, [len(label.encode()) for label in seen.labels], logits,
                   *told(logp, torch.tensor(seen.ids), spaces(bundle.tokenizer)), stream.meter.lap())

    def bits(self, first: int) -> float:
        """Bits a byte of what stands behind token `first`."""
        return float(-self.own[first + 1:].sum() / np.log(2) / max(sum(self.lengths[first + 1:]), 1))


@dataclass(frozen=True, eq=False)
class SharedPieces:
    """A text's pieces. sides: teacher and student; ends [C, 2]: last tokens by side; found [2, C - 1]: likelihoods."""

    sides: tuple[Side, Side]
    ends: np.ndarray
    found: Tensor

    @classmethod
    def of(cls, teacher: Side, student: Side, kind: str = "merged", threshold: float = MERGED,
           debias: bool = True) -> SharedPieces:
        ends = shared_ends(teacher.lengths, student.lengths)
        if kind == "merged":
            ends = ends[teacher.space[ends[:, 0]].exp().numpy() > threshold]
        elif kind == "space":
            behind = [*teacher.text.labels[1:], " "]
            ends = ends[[behind[at][:1].isspace() for at in ends[:, 0]]]
        if len(ends) < 2:
            raise SubjectError("Both tokenizers share fewer than two pieces of this text; please type a longer one.")
        found = [likelihoods(side.own, side.space, torch.from_numpy(at).long(), debias)
                 for side, at in zip((teacher, student), ends.T, strict=True)]
        return cls((teacher, student), ends, torch.stack(found))

    @property
    def gaps(self) -> np.ndarray:
        """The student's minus the teacher's [C - 1], nats."""
        return (self.found[1] - self.found[0]).numpy()

    def tokens(self, piece: int) -> list[np.ndarray]:
        """Which tokens of either side a piece is; piece 0 is the first that is asked for."""
        return [np.arange(*ends + 1) for ends in self.ends[piece : piece + 2].T]

    @property
    def texts(self) -> list[str]:
        return ["".join(self.sides[0].text.labels[at] for at in self.tokens(i)[0]) for i in range(len(self.gaps))]


def cried(bundle, text: str) -> float:
    """The chance of " cried" behind a text where only it and " said" are thinkable."""
    said, other = (float(Side.of(bundle, text + word).own[-len(read(bundle.tokenizer, word)):].sum())
                   for word in (CRIED, SAID))
    return 1 / (1 + float(np.exp(np.clip(other - said, -50, 50))))

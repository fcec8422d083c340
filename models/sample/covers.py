"""Cover encodings: every way in which a valid token sequence ends at, or hangs over, the end of a byte string x.

The covers of x are the valid sequences whose bytes start with x and whose last token starts inside x. The sum of their
probabilities is the probability that a text starts with x (arXiv 2410.09303, Byte-Token Representation Lemma); it is
not a sum over all segmentations of x. From it follows the exact distribution of the next byte, and one model call per
byte keeps the covers up to date. Everything is conditional on a settled text before the query x.
Letters: C covers, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.sample.coder import SYMBOLS, Coder, split

Score = Callable[[Sequence[tuple[int, ...]]], Sequence[Tensor]]


@dataclass(frozen=True, eq=False)
class Covers:
    """C covers of a query: lefts[group[c]] + (last[c],), of whose last token `inside[c]` bytes lie in the query.

    logp [C] fp64: log-probability of the whole sequence given the text before the query.
    """

    query: bytes
    lefts: tuple[tuple[int, ...], ...]
    group: Tensor
    last: Tensor
    inside: Tensor
    logp: Tensor

    def __len__(self) -> int:
        return len(self.logp)

    @property
    def total(self) -> float:
        """log P(the text goes on with the query)."""
        return float(self.logp.logsumexp(0))

    @property
    def share(self) -> Tensor:
        """Probability [C] of each cover given the query."""
        return self.logp.softmax(0)

    def tokens(self, c: int) -> tuple[int, ...]:
        return (*self.lefts[self.group[c]], int(self.last[c]))

    def heads(self, coder: Coder) -> Tensor:
        """The byte [C] that each cover hangs over with next, -1 where it ends with the query."""
        return coder.table[self.last, self.inside]

    def canonical(self, coder: Coder) -> int:
        """Index of the encoding of the query itself; it must be among the covers."""
        wanted = coder.encode(self.query)
        for c in torch.nonzero(self.heads(coder) < 0).flatten().tolist():
            if self.tokens(c) == wanted:
                return c
        raise AssertionError(f"the encoding of {self.query!r} is not among its covers")


def enumerate_covers(coder: Coder, score: Score, query: bytes) -> Covers:
    """All covers of a query (not empty): for every split, a canonical left part and one token over the rest.

    score(rows) -> for each row of K tokens the log-probabilities [K + 1, V] after 0..K of them.
    """
    ways = []
    for at in range(max(0, len(query) - coder.longest), len(query)):
        over = torch.tensor(coder.supertokens(query[at:]), dtype=torch.long)
        over = over[coder.valid_after(query[:at])[over]] if len(over) else over
        if len(over):
            ways.append((coder.encode(query[:at]), over, len(query) - at))
    parts = []
    for (left, over, inside), rows in zip(ways, score([left for left, _, _ in ways])):
        before = rows[range(len(left)), list(left)].double().sum()
        parts.append((before + rows[-1, over].double(), over, torch.full_like(over, inside)))
    logp, last, inside = (torch.cat(column) for column in zip(*parts))
    group = torch.repeat_interleave(torch.arange(len(ways)), torch.tensor([len(over) for _, over, _ in ways]))
    return Covers(query, tuple(left for left, _, _ in ways), group, last, inside, logp)


def next_symbols(coder: Coder, covers: Covers, after: Tensor, allowed: Tensor | None) -> tuple[Tensor, float]:
    """Exact probabilities [SYMBOLS] of the next byte (or the end), and the mass on invalid encodings left out.

    after [V]: log-probabilities behind the encoding of the query. allowed: bool [V], its valid next tokens, or None to
    skip that mask ("fast"). P(b | x) = (covers that hang over with b + P(enc x) * tokens that start with b) / P(x).
    """
    share, heads = covers.share, covers.heads(coder)
    found = torch.zeros(SYMBOLS + 1, dtype=torch.float64)
    found.index_add_(0, heads[heads >= 0], share[heads >= 0])
    behind = share[covers.canonical(coder)] * after.double().exp()  # [V]
    kept = behind if allowed is None else behind * allowed
    found.index_add_(0, coder.first, kept)
    found = found[:SYMBOLS]
    return found / found.sum(), float((behind - kept).sum())


def advance(coder: Coder, covers: Covers, byte: int, after: Tensor, allowed: Tensor | None) -> Covers:
    """The covers of the query and one more byte: those that fit it, and new ones that start with it."""
    own = covers.canonical(coder)
    fits = covers.heads(coder) == byte
    fresh = coder.first == byte
    fresh = torch.nonzero(fresh if allowed is None else fresh & allowed).flatten()
    return _tidy(coder, Covers(
        covers.query + bytes([byte]), (*covers.lefts, covers.tokens(own)),
        torch.cat([covers.group[fits], torch.full_like(fresh, len(covers.lefts))]),
        torch.cat([covers.last[fits], fresh]),
        torch.cat([covers.inside[fits] + 1, torch.ones_like(fresh)]),
        torch.cat([covers.logp[fits], covers.logp[own] + after[fresh].double()])))


def _tidy(coder: Coder, covers: Covers) -> Covers:
    """Without complete sequences that are not the encoding (only the fast mode makes them) and unused left parts."""
    own = covers.canonical(coder)
    keep = covers.heads(coder) >= 0
    keep[own] = True
    used, group = covers.group[keep].unique(return_inverse=True)
    return Covers(covers.query, tuple(covers.lefts[g] for g in used.tolist()), group, covers.last[keep],
                  covers.inside[keep], covers.logp[keep])


def settle(coder: Coder, covers: Covers) -> tuple[tuple[int, ...], Covers]:
    """Moves what is settled out of the query: (its tokens, the covers of the rest), unchanged while nothing is.

    White space behind something else settles everything before it, so all covers then begin with the same tokens; only
    the fast mode makes some that do not, and they are dropped. Log-probabilities stay those of the whole.
    """
    before, rest = split(covers.query)
    done = coder.encode(before)
    if not done:
        return (), covers
    same = torch.tensor([left[: len(done)] == done for left in covers.lefts])[covers.group]
    return done, Covers(rest, tuple(left[len(done):] for left in covers.lefts), covers.group[same], covers.last[same],
                        covers.inside[same], covers.logp[same])

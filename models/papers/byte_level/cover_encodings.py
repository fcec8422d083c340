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

from models.papers.byte_level.byte_vocabulary import SYMBOLS, Coder, split

Score = Callable[[Sequence[tuple[int, ...]]], Sequence[Tensor]]
After = Callable[[tuple[int, ...]], Tensor]


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

    def complete(self, coder: Coder) -> dict[tuple[int, ...], int]:
        """The covers that end with the query: tokens -> index; the encoding of the query itself must be among them."""
        ends = torch.nonzero(self.heads(coder) < 0).flatten().tolist()
        found = {self.tokens(c): c for c in ends}
        if coder.encode(self.query) not in found:
            raise AssertionError(f"the encoding of {self.query!r} is not among its covers")
        return found


def enumerate_covers(coder: Coder, score: Score, query: bytes) -> Covers:
    """All covers of a query (not empty): for every split, what may encode the left part and one token over the rest.

    score(rows) -> for each row of K tokens the log-probabilities [K + 1, V] after 0..K of them.
    """
    ways = []  # (tokens before the last, candidates for the last [c], bytes of it inside the query)
    for at in range(max(0, len(query) - coder.longest), len(query)):
        over = torch.tensor(coder.supertokens(query[at:]), dtype=torch.long)
        for left, allowed in coder.followers(query[:at]).items() if len(over) else ():
            ways += [(left, over[allowed[over]], len(query) - at)] if allowed[over].any() else []
    parts = []
    for (left, over, inside), rows in zip(ways, score([left for left, _, _ in ways])):
        before = rows[range(len(left)), list(left)].double().sum()
        parts.append((before + rows[-1, over].double(), over, torch.full_like(over, inside)))
    logp, last, inside = (torch.cat(column) for column in zip(*parts))
    group = torch.repeat_interleave(torch.arange(len(ways)), torch.tensor([len(over) for _, over, _ in ways]))
    return Covers(query, tuple(left for left, _, _ in ways), group, last, inside, logp)


def next_symbols(coder: Coder, covers: Covers, after: After, fast: bool = False) -> tuple[Tensor, float]:
    """Exact probabilities [SYMBOLS] of the next byte (or the end), and the mass on invalid encodings left out.

    after(tokens) -> log-probabilities [V] behind a complete cover. fast: count invalid next tokens too.
    P(b | x) = (covers that hang over with b + P(enc x) * tokens behind it that start with b) / P(x).
    """
    share, heads = covers.share, covers.heads(coder)
    found = torch.zeros(SYMBOLS + 1, dtype=torch.float64)
    found.index_add_(0, heads[heads >= 0], share[heads >= 0])
    invalid = 0.0
    for tokens, c in covers.complete(coder).items():
        behind = share[c] * after(tokens).double().exp()  # [V]
        kept = behind if fast else behind * coder.followers(covers.query)[tokens]
        found.index_add_(0, coder.first, kept)
        invalid += float((behind - kept).sum())
    return found[:SYMBOLS] / found[:SYMBOLS].sum(), invalid


def advance(coder: Coder, covers: Covers, byte: int, after: After, fast: bool = False) -> Covers:
    """The covers of the query and one more byte: those that fit it, and new ones that start with it."""
    fits = covers.heads(coder) == byte
    lefts, columns = list(covers.lefts), [(covers.group[fits], covers.last[fits], covers.inside[fits] + 1,
                                           covers.logp[fits])]
    for tokens, c in covers.complete(coder).items():
        fresh = coder.first == byte
        fresh = torch.nonzero(fresh if fast else fresh & coder.followers(covers.query)[tokens]).flatten()
        columns.append((torch.full_like(fresh, len(lefts)), fresh, torch.ones_like(fresh),
                        covers.logp[c] + after(tokens)[fresh].double()))
        lefts.append(tokens)
    columns = (torch.cat(column) for column in zip(*columns))
    return _tidy(coder, Covers(covers.query + bytes([byte]), tuple(lefts), *columns))


def _tidy(coder: Coder, covers: Covers) -> Covers:
    """Without complete sequences that nothing may follow (only the fast mode makes them) and unused left parts."""
    keep, may = covers.heads(coder) >= 0, coder.followers(covers.query)
    for tokens, c in covers.complete(coder).items():
        keep[c] = tokens in may
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

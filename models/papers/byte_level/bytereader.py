"""A token model read and continued byte by byte: its covers, its cache, and three ways to say what the next byte is.

exact    from the covers (models/papers/byte_level/cover_encodings.py)
healing  drops the last token and lets the next one begin with its bytes: what many tools do, not the method
naive    the next token's first byte, behind the text as it was encoded
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from models.backbones.text import opening, room
from models.loops.sample.cached_lm import Meter, Stream, agreed, log_probabilities
from models.papers.byte_level.byte_vocabulary import SYMBOLS, Coder, coder_of, split
from models.papers.byte_level.cover_encodings import advance, enumerate_covers, next_symbols, settle
from models.trace.subject import SubjectError


class Path:
    """One token path of a model behind a settled context: rows[k], log-probabilities [V] after k tokens of it."""

    def __init__(self, stream: Stream, context: Sequence[int]):
        self.stream, self.ids = stream, ()
        self.rows = [log_probabilities(stream.read([list(context)])[0, -1])]

    def follow(self, ids: tuple[int, ...]) -> None:
        """Makes `ids` the path; the tokens it shares with the old one are not computed again."""
        same = agreed(self.ids, ids)
        self.stream.crop(self.stream.length - (len(self.ids) - same))
        del self.rows[same + 1:]
        if same < len(ids):
            self.rows += log_probabilities(self.stream.read([list(ids[same:])], every=True)[0])
        self.ids = tuple(ids)

    def settle(self, count: int) -> None:
        """The first `count` tokens belong to the context from now on."""
        self.ids, self.rows = self.ids[count:], self.rows[count:]

    def score(self, rows: Sequence[tuple[int, ...]]) -> list[Tensor]:
        """For each row of K tokens the log-probabilities [K + 1, V] after 0..K of them, in one padded call."""
        most = max(map(len, rows))
        if most == 0:
            return [self.rows[0][None] for _ in rows]
        padded = [[*row, *[0] * (most - len(row))] for row in rows]  # causal: what follows a row cannot reach it
        batch = self.stream.fork(len(rows))
        batch.crop(batch.length - len(self.ids))
        logp = log_probabilities(batch.read(padded, every=True))
        return [torch.cat([self.rows[0][None], logp[k, : len(row)]]) for k, row in enumerate(rows)]


class ByteReader:
    """Where a token model stands in a byte string. fast: without the validity mask on next tokens."""

    def __init__(self, bundle, data: bytes, fast: bool = False):
        self.coder, self.fast, self.meter = coder_of(bundle.tokenizer), fast, Meter(bundle.model)
        before, query = split(data)
        start = self.coder.encode(before)[-room(bundle.model) // 2:]
        start = (*opening(bundle.tokenizer), *start) or (bundle.tokenizer.eos_token_id,)  # a text begins behind an end
        if None in start:
            raise SubjectError("Byte-level probabilities begin behind a token that ends a text, and this vocabulary "
                               "has none. Please choose another checkpoint.")
        self.path = Path(Stream(bundle.model, self.meter), start)
        self.covers = enumerate_covers(self.coder, self.path.score, query)
        self.path.follow(self.coder.encode(query))
        self._look()

    def push(self, byte: int) -> None:
        """One more byte: new covers, one model call."""
        self.covers = advance(self.coder, self.covers, byte, self._after, self.fast)
        self.path.follow(self.coder.encode(self.covers.query))
        done, self.covers = settle(self.coder, self.covers)
        self.path.settle(len(done))
        self._look()

    def _look(self) -> None:
        """The three distributions [SYMBOLS] of the next byte, and the mass on invalid encodings that exact left out."""
        coder, path = self.coder, self.path
        exact, self.invalid = next_symbols(coder, self.covers, self._after, self.fast)
        self.symbols = {"exact": exact, "healing": healing(coder, path), "naive": naive(coder, path)}

    def _after(self, tokens: tuple[int, ...]) -> Tensor:
        """Log-probabilities [V] behind a complete cover: the path, or the rare other encoding of white space."""
        return self.path.rows[-1] if tokens == self.path.ids else self.path.score([tokens])[0][-1]


def naive(coder: Coder, path: Path) -> Tensor:
    """Probabilities [SYMBOLS] of the first byte of the token after the encoded text."""
    return _normal(_starts(coder, path.rows[-1].double().exp()))


def healing(coder: Coder, path: Path) -> Tensor:
    """Probabilities [SYMBOLS] of the next byte when the last token is drawn again among those that begin with it."""
    last = path.ids[-1]
    longer = torch.tensor(coder.supertokens(coder.pieces[last]))
    probs = path.rows[-2].double().exp()[longer]
    over = coder.table[longer, len(coder.pieces[last])]  # -1: the last token itself, then any token may follow
    found = torch.zeros(SYMBOLS + 1, dtype=torch.float64).index_add_(0, over[over >= 0], probs[over >= 0])
    return _normal(found[:SYMBOLS] + probs[over < 0].sum() * _starts(coder, path.rows[-1].double().exp()))


def divergence(p: Tensor, q: Tensor) -> float:
    """KL(p || q) in nats."""
    return float((p * (p.clamp_min(1e-300) / q.clamp_min(1e-300)).log()).sum())


def _starts(coder: Coder, probs: Tensor) -> Tensor:
    """Token probabilities [V] summed by first symbol, [SYMBOLS]."""
    return torch.zeros(SYMBOLS + 1, dtype=torch.float64).index_add_(0, coder.first, probs)[:SYMBOLS]


def _normal(probs: Tensor) -> Tensor:
    return probs / probs.sum()

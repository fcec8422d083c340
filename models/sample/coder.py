"""Bytes and tokens of one vocabulary: encode, decode, and which tokens may follow what.

A token sequence is valid when re-encoding its bytes gives it back (arXiv 2410.09303). Vocabularies are byte-level BPE
after GPT-2's pre-tokenizer: a token never crosses from a non-space to a space, so what comes before the last white
space of a text is settled whatever follows. Letters: V vocabulary, W longest token in bytes.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from torch import Tensor

from models.backbones.text import letters

END, NEVER, SYMBOLS = 256, 257, 257  # symbols: 256 bytes and the end of the text; other special tokens never count


@dataclass(frozen=True, eq=False)
class Coder:
    """Bytes to tokens and back. pieces: the bytes of each token, b"" for special ones; encode must be deterministic."""

    pieces: tuple[bytes, ...]
    encode: Callable[[bytes], tuple[int, ...]]
    end: int | None = None

    def decode(self, ids: Sequence[int]) -> bytes:
        return b"".join(self.pieces[i] for i in ids)

    @cached_property
    def table(self) -> Tensor:
        """Bytes of every token, int64 [V, W + 1]; -1 behind the last."""
        table = np.full((len(self.pieces), self.longest + 1), -1, np.int64)
        for token, piece in enumerate(self.pieces):
            table[token, : len(piece)] = list(piece)
        return torch.from_numpy(table)

    @cached_property
    def longest(self) -> int:
        return max(map(len, self.pieces))

    @cached_property
    def first(self) -> Tensor:
        """The symbol a token starts with, int64 [V]: its first byte, END, or NEVER."""
        first = self.table[:, 0].clone()
        first[first < 0] = NEVER
        if self.end is not None:
            first[self.end] = END
        return first

    @cached_property
    def _sorted(self) -> list[tuple[bytes, int]]:
        return sorted((piece, token) for token, piece in enumerate(self.pieces) if piece)

    def supertokens(self, start: bytes) -> list[int]:
        """All tokens whose bytes begin with `start`, itself included: one range of the sorted vocabulary."""
        low = bisect_left(self._sorted, (start, -1))
        high = bisect_left(self._sorted, (start + b"\xff" * (self.longest + 1), -1))
        return [token for _, token in self._sorted[low:high]]

    def valid(self, ids: Sequence[int]) -> bool:
        """Whether re-encoding gives the same tokens."""
        return self.encode(self.decode(ids)) == tuple(ids)

    def valid_after(self, query: bytes) -> Tensor:
        """Bool [V]: tokens that leave encode(query) + token valid; the end is always allowed."""
        before = self.encode(query)
        return torch.tensor([bool(p) and self.encode(query + p) == (*before, t) for t, p in enumerate(self.pieces)]
                            ) | (self.first == END)


class BpeCoder(Coder):
    """The coder of a byte-level BPE tokenizer, on a private copy: a special token that a visitor types is mere text."""

    def __init__(self, tokenizer):
        from tokenizers import Tokenizer
        backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        backend.encode_special_tokens = True
        special = set(tokenizer.all_special_ids)
        names = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
        pieces = tuple(b"" if i in special else _raw(name) for i, name in enumerate(names))
        singles = {piece: token for token, piece in enumerate(pieces) if len(piece) == 1}

        @lru_cache(maxsize=20_000)
        def encode(data: bytes) -> tuple[int, ...]:
            ids = []
            for torn, part in _parts(data):
                ids += [singles[bytes([b])] for b in part] if torn else backend.encode(part.decode()).ids
            return tuple(ids)
        super().__init__(pieces, encode, tokenizer.eos_token_id)
        self.__dict__["_masked"] = lru_cache(maxsize=4000)(self._mask)

    def valid_after(self, query: bytes) -> Tensor:
        """As `Coder.valid_after`, by encoding all candidates as one text: white space keeps them apart.

        Tokens with a part of a character cannot be re-encoded as text and count as valid (our reading).
        """
        return self._masked(query)

    @cached_property
    def _whole(self) -> np.ndarray:
        """Tokens that may stand before a space without reaching into it: whole characters, no space at the end."""
        return np.array([t for t, p in enumerate(self.pieces) if p and _is_text(p) and not p.decode()[-1].isspace()])

    def _mask(self, query: bytes) -> Tensor:
        before, mask = self.encode(query), torch.zeros(len(self.pieces), dtype=torch.bool)
        slow = set(range(len(self.pieces))) - set(self._whole.tolist())
        if _is_text(query):
            mask[torch.from_numpy(self._whole)] = torch.from_numpy(self._together(query, before))
        else:
            slow |= set(self._whole.tolist())
        for token in slow:
            piece = self.pieces[token]
            torn = not _is_text(query + piece)
            mask[token] = bool(piece) and (torn or self.encode(query + piece) == (*before, token))
        return mask | (self.first == END)

    def _together(self, query: bytes, before: tuple[int, ...]) -> np.ndarray:
        """Validity of every whole token behind the query, from one encoding of all of them in a row."""
        gap = b"" if _spaces(query[:1]) else b"\n"  # a new word starts here either way
        chunks = [gap + query + self.pieces[t] for t in self._whole]
        ids = np.array(self.encode.__wrapped__(b"".join(chunks)))
        ends = np.cumsum(np.array([len(p) for p in self.pieces])[ids])
        starts = np.cumsum([0, *map(len, chunks)])
        at = np.searchsorted(ends, starts, side="right")  # index of each chunk's first token
        want = [*self.encode(gap), *before]
        right = np.diff(at) == len(want) + 1
        for k, token in enumerate(want):
            right &= ids[np.minimum(at[:-1] + k, len(ids) - 1)] == token
        return right & (ids[np.minimum(at[:-1] + len(want), len(ids) - 1)] == self._whole)


@lru_cache(maxsize=4)
def coder_of(tokenizer) -> BpeCoder:
    """The coder of a tokenizer; ValueError if it is not a byte-level BPE."""
    if type(tokenizer.backend_tokenizer.decoder).__name__ != "ByteLevel":
        raise ValueError("Byte-level probabilities need a byte-level BPE vocabulary; please choose a text checkpoint.")
    return BpeCoder(tokenizer)


def split(data: bytes) -> tuple[bytes, bytes]:
    """(condition, query): the cut lies before the last run of white space that follows something else."""
    for i in range(len(data) - 1, 0, -1):
        if _spaces(data[i: i + 1]) and not data[:i].decode("utf-8", "ignore")[-1:].isspace():
            return data[:i], data[i:]
    return b"", data


def _spaces(data: bytes) -> bool:
    """Whether there is something and all of it is ASCII white space."""
    return data.isspace()


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _parts(data: bytes) -> list[tuple[bool, bytes]]:
    """The bytes as (torn, part): whole characters in one piece, bytes that are no character apart."""
    parts = re.split("([\udc80-\udcff]+)", data.decode("utf-8", "surrogateescape"))
    return [(i % 2 == 1, part.encode("utf-8", "surrogateescape")) for i, part in enumerate(parts) if part]


def _raw(name: str) -> bytes:
    """The bytes that a byte-level vocabulary writes as printable letters."""
    return bytes(letters()[letter] for letter in name)

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

from models.backbones.text import letters, specials
from models.trace.subject import SubjectError

END, NEVER, SYMBOLS = 256, 257, 257  # symbols: 256 bytes and the end of the text; other special tokens never count


@dataclass(frozen=True, eq=False)
class Coder:
    """Bytes to tokens and back. pieces: the bytes of each token, b"" for special ones; encode must be deterministic.

    probes: texts that may follow white space and change how it is encoded.
    """

    pieces: tuple[bytes, ...]
    encode: Callable[[bytes], tuple[int, ...]]
    end: int | None = None
    probes: tuple[bytes, ...] = (b"",)

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

    def followers(self, query: bytes) -> dict[tuple[int, ...], Tensor]:
        """Every token sequence that may encode the query, with the tokens that may follow it: bool [V].

        Almost always one sequence, encode(query). Behind white space there may be two, because a pre-tokenizer looks
        ahead: "\\n\\n" may be one token before a space and must be two before a letter.
        """
        return self._collect(query, range(len(self.pieces)), self._empty(self.encode(query)))

    def _empty(self, before: tuple[int, ...]) -> dict[tuple[int, ...], Tensor]:
        return {before: self.first == END}  # a text may end anywhere

    def _collect(self, query: bytes, tokens, found: dict) -> dict[tuple[int, ...], Tensor]:
        """Adds the tokens that stand behind the query in the encoding of both, alone or with more text behind."""
        for token in tokens:
            for more in self.probes if self.pieces[token].isspace() else (b"",):
                before = self._before(query, token, more) if self.pieces[token] else None
                if before is not None:
                    found.setdefault(before, torch.zeros(len(self.pieces), dtype=torch.bool))[token] = True
        return found

    def _before(self, query: bytes, token: int, more: bytes) -> tuple[int, ...] | None:
        """What stands before the token in the encoding of query + token + more, or None if it is not in its place."""
        ids, at, length = self.encode(query + self.pieces[token] + more), 0, 0
        while length < len(query):
            length, at = length + len(self.pieces[ids[at]]), at + 1
        return ids[:at] if length == len(query) and ids[at] == token else None


class BpeCoder(Coder):
    """The coder of a byte-level BPE tokenizer, on a private copy: a special token that a visitor types is mere text."""

    def __init__(self, tokenizer):
        from tokenizers import Tokenizer
        backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        backend.encode_special_tokens = True
        special = specials(tokenizer)
        names = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
        pieces = tuple(b"" if i in special else _raw(name) for i, name in enumerate(names))
        singles = {piece: token for token, piece in enumerate(pieces) if len(piece) == 1}

        @lru_cache(maxsize=20_000)
        def encode(data: bytes) -> tuple[int, ...]:
            ids = []
            for torn, part in _parts(data):
                if torn:
                    ids += [singles[bytes([b])] for b in part]
                else:  # fast: no offsets
                    ids += backend.encode_batch_fast([part.decode()], add_special_tokens=False)[0].ids
            return tuple(ids)
        super().__init__(pieces, encode, tokenizer.eos_token_id, (b"", b"a", "\u00e9".encode(), b"."))
        self.__dict__["_followers"] = lru_cache(maxsize=4000)(self._find)

    def followers(self, query: bytes) -> dict[tuple[int, ...], Tensor]:
        """As `Coder.followers`, but most tokens are tried in one encoding: white space keeps them apart.

        Tokens with a part of a character cannot be re-encoded as text and may follow anything (our reading).
        """
        return self._followers(query)

    @cached_property
    def _lengths(self) -> np.ndarray:
        return np.array([len(piece) for piece in self.pieces])

    @cached_property
    def _kinds(self) -> dict[str, np.ndarray]:
        """Tokens by how they are tried: torn characters, blank (white space at the end), words after a space, rest."""
        kinds = {"torn": [], "blank": [], "spaced": [], "joined": []}
        for token, piece in enumerate(self.pieces):
            if piece and not is_text(piece):
                kinds["torn"].append(token)
            elif piece:
                blank = piece.decode()[-1].isspace()
                kinds["blank" if blank else "spaced" if _spaces(piece[:1]) else "joined"].append(token)
        return {name: np.array(tokens, np.int64) for name, tokens in kinds.items()}

    @cached_property
    def _alone(self) -> np.ndarray:
        """The spaced tokens that are their own encoding: behind a non-space they are always in their place."""
        return np.array([t for t in self._kinds["spaced"].tolist() if self.encode(self.pieces[t]) == (t,)], np.int64)

    def _find(self, query: bytes) -> dict[tuple[int, ...], Tensor]:
        before, kinds = self.encode(query), self._kinds
        found, ends_in_space = self._empty(before), not query or query[-1:].isspace()
        if not is_text(query):
            torn = [t for t, p in enumerate(self.pieces) if p and not is_text(query + p)]
            found[before][torn] = True
            return self._collect(query, sorted(set(range(len(self.pieces))) - set(torn)), found)
        tried = np.concatenate([kinds["joined"], kinds["spaced"]]) if ends_in_space else kinds["joined"]
        sure = tried[self._together(query, before, tried)]
        for tokens in (kinds["torn"], sure, () if ends_in_space else self._alone):
            found[before][torch.as_tensor(tokens, dtype=torch.long)] = True
        # behind white space a token that failed may stand behind another encoding of the query
        unsure = sorted(set(tried.tolist()) - set(sure.tolist())) if ends_in_space else []
        return self._collect(query, [*kinds["blank"].tolist(), *unsure], found)

    def _together(self, query: bytes, before: tuple[int, ...], tokens: np.ndarray) -> np.ndarray:
        """Which of the tokens are in their place behind the query, from one encoding of all of them in a row."""
        lead = query if _spaces(query[:1]) else b"\n" + query  # a new word starts here either way
        want = [*self.encode(lead[: len(lead) - len(query)]), *before]
        ids = np.array(self.encode.__wrapped__(b"".join(lead + self.pieces[t] for t in tokens)))
        ends = np.cumsum(self._lengths[ids])
        starts = np.cumsum([0, *(self._lengths[tokens] + len(lead))])
        at = np.searchsorted(ends, starts, side="right")  # index of each chunk's first token
        right = np.diff(at) == len(want) + 1
        for k, token in enumerate(want):
            right &= ids[np.minimum(at[:-1] + k, len(ids) - 1)] == token
        return right & (ids[np.minimum(at[:-1] + len(want), len(ids) - 1)] == tokens)


@lru_cache(maxsize=4)
def coder_of(tokenizer) -> BpeCoder:
    """The coder of a tokenizer; SubjectError if it is not a byte-level BPE."""
    if type(tokenizer.backend_tokenizer.decoder).__name__ != "ByteLevel":
        raise SubjectError("Byte-level probabilities need a byte-level BPE vocabulary, such as GPT-2's; this checkpoint"
                           "has another. Please choose a checkpoint that has one.")
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


def is_text(data: bytes) -> bool:
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

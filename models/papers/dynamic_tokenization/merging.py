"""Dynamic BPE (arXiv 2411.18553): the pairs that are frequent in this very batch become pieces, and nothing is kept.

Again and again the most frequent pair of neighbours that the boundary rule allows is replaced, everywhere and from left
to right, by one piece. No merge outlives its batch; the tokenizer and its vocabulary stay as they are.
"""
from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

from models.backbones.text import letters, specials

BOUNDARIES = ("pretokens", "word", "word_hyphen")
LONGEST = 8  # tokens that one piece may be spelled with: as many as the hypernetwork reads
SPACES = "\u0120\u010a\u0109"  # byte-level BPE's letters for a space, a line break and a tab


class Merge(NamedTuple):
    """One merge: its two pieces, the new one, and how often the pair stood there."""

    left: int
    right: int
    made: int
    count: int


class Pieces:
    """Every piece of one batch by its number: the tokenizer's own tokens first, then what merging adds. A string is one
    piece however it came about; spelled[i]: the ids of the tokens that it is written with."""

    def __init__(self, tokenizer, boundary: str = "word"):
        self.tokenizer, self.boundary, self.base = tokenizer, boundary, len(tokenizer)
        self.letters = tokenizer.convert_ids_to_tokens(list(range(self.base)))
        self.number = {letters: i for i, letters in enumerate(self.letters)}
        self.spelled = [(i,) for i in range(self.base)]
        self.special, self.allowed = specials(tokenizer), cache(self._allowed)

    def join(self, left: int, right: int) -> int:
        """The piece that two make; a new one, unless the string is known."""
        both = self.letters[left] + self.letters[right]
        if both not in self.number:
            self.number[both] = len(self.letters)
            self.letters.append(both)
            self.spelled.append(self.spelled[left] + self.spelled[right])
        return self.number[both]

    def text(self, piece: int) -> bytes:
        return bytes(letters()[letter] for letter in self.letters[piece])

    def _allowed(self, left: int, right: int) -> bool:
        """Whether the boundary rule lets two neighbours become one piece."""
        if {left, right} & self.special or len(self.spelled[left] + self.spelled[right]) > LONGEST:
            return False
        both = self.letters[left] + self.letters[right]
        if any(space in both[1:] for space in SPACES) and (both == SPACES[1] * 2 or not set(both) <= set(SPACES)):
            return False
        try:
            text = (self.text(left) + self.text(right)).decode()
        except UnicodeDecodeError:
            return True  # a part of a character: it may be completed
        if self.boundary == "pretokens":
            return len(self.tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str(text)) == 1
        if self.boundary == "word_hyphen" and _mark(self.letters[right]) and not _mark(self.letters[left]):
            return self.letters[right] == "-" and len(text.split()) == 1
        return len(text.split()) == 1


def _mark(letters: str) -> bool:
    """Whether a piece has punctuation in it and no digit."""
    return any(c in ".,!?;:()-\"'\\/`$%&*+<=>@[]^_{|}~" for c in letters) and not any(c.isdigit() for c in letters)


def merging(texts: list[list[int]], pieces: Pieces) -> Iterator[Merge]:
    """Merges a batch in place, one merge at a time, until no pair is left or the caller stops asking."""
    counts: Counter = Counter()
    rows: dict[tuple[int, int], set[int]] = defaultdict(set)

    def count(row: int, by: int) -> None:
        for pair in zip(texts[row], texts[row][1:]):
            if pieces.allowed(*pair):
                counts[pair] += by
                rows[pair].add(row)

    for row in range(len(texts)):
        count(row, 1)
    scattered = sorted(counts.items(), key=lambda item: (item[0][0] * 40503 ^ item[0][1] * 30011) % 65536)
    counts.clear()
    counts.update(dict(scattered))  # of pairs as frequent the first is taken: not always those of the first text
    while counts and counts[pair := max(counts, key=counts.__getitem__)] > 0:
        often, made = counts[pair], pieces.join(*pair)
        for row in sorted(rows.pop(pair)):
            count(row, -1)
            texts[row] = replaced(texts[row], pair, made)
            count(row, 1)
        del counts[pair]
        yield Merge(*pair, made, often)


def replaced(text: Sequence[int], pair: tuple[int, int], made: int) -> list[int]:
    """A text with the new piece wherever the pair stood, from left to right."""
    out: list[int] = []
    at = 0
    while at < len(text):
        here = (text[at], text[at + 1]) == pair if at + 1 < len(text) else False
        out.append(made if here else text[at])
        at += 2 if here else 1
    return out


def merged(texts: Sequence[Sequence[int]], pieces: Pieces, most: int = 10_000, share: float = 1.0
           ) -> tuple[list[list[int]], list[Merge]]:
    """The batch after `most` merges, or as soon as it is shorter by `share`; and the merges."""
    texts, done = [list(text) for text in texts], []
    whole = sum(map(len, texts))
    steps = merging(texts, pieces)
    while len(done) < most and whole - sum(map(len, texts)) < share * whole:
        if (step := next(steps, None)) is None:
            break
        done.append(step)
    return texts, done

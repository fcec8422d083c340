"""Dynamic BPE (arXiv 2411.18553): the pairs that are frequent in this very batch become pieces, and nothing is kept.
After the authors' dynamic_bpe.py (DariusFeher/dynamic-tokenization; read, not copied)."""
from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from functools import cache

from models.backbones.text import letters, names, specials
from models.trace.spelling import spelled

BOUNDARIES = ("word", "pretokens")
LONGEST = 8  # tokens that one piece may be spelled with: as many as the hypernetwork reads
BREAK, SPACES = "\u010a", frozenset("\u0120\u010a\u0109")  # byte-level BPE's letters for a line break; and space, tab


class Pieces:
    """Every piece of one batch by its number: the tokenizer's tokens, then what merging adds (a string once, however
    it came about); spelled: the ids of the tokens of each."""

    def __init__(self, tokenizer, boundary: str = "word"):
        self.tokenizer, self.boundary, self.base = tokenizer, boundary, len(tokenizer)
        self.letters = tokenizer.convert_ids_to_tokens(list(range(self.base)))
        self.number = {letters: i for i, letters in enumerate(self.letters)}
        self.spelled = [(i,) for i in range(self.base)]
        self.special, self.allowed = specials(tokenizer), cache(self._allowed)

    def join(self, left: int, right: int) -> int:
        """The piece that two make; a new one, unless the string is known."""
        both = self.letters[left] + self.letters[right]
        if self.number.setdefault(both, len(self.letters)) == len(self.letters):
            self.letters.append(both)
            self.spelled.append(self.spelled[left] + self.spelled[right])
        return self.number[both]

    def name(self, piece: int) -> str:
        """How a piece reads."""
        return names(self.tokenizer, [piece])[0] if piece < self.base else spelled(self.text(piece))

    def text(self, *pieces: int) -> bytes:
        return bytes(letters()[letter] for piece in pieces for letter in self.letters[piece])

    def _allowed(self, left: int, right: int) -> bool:
        """Whether two neighbours may become one piece: of one pre-token, or of one word and its marks."""
        both = self.letters[left] + self.letters[right]
        spaced = bool(SPACES & set(both[1:])) and (both == 2 * BREAK or not set(both) <= SPACES)
        if spaced or {left, right} & self.special or len(self.spelled[left] + self.spelled[right]) > LONGEST:
            return False
        try:
            text = self.text(left, right).decode()
        except UnicodeDecodeError:
            return True  # a part of a character: it may be completed
        split = self.tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str
        return len(split(text) if self.boundary == "pretokens" else text.split()) == 1


def merging(texts: list[list[int]], pieces: Pieces) -> Iterator[tuple[int, int, int, int]]:
    """Merges a batch in place until no pair is left or the caller stops asking; of each merge its two pieces, the new
    one, and how often the pair stood there."""
    counts: Counter = Counter()
    rows: dict[tuple[int, int], set[int]] = defaultdict(set)  # where a pair stood

    def count(row: int, by: int) -> None:
        for pair in zip(texts[row], texts[row][1:]):
            if pieces.allowed(*pair):
                counts[pair] += by
                rows[pair].add(row)

    for row in range(len(texts)):
        count(row, 1)
    for pair in sorted(counts, key=lambda pair: (pair[0] * 40503 ^ pair[1] * 30011) % 65536):
        counts[pair] = counts.pop(pair)  # of pairs as frequent the first is taken: not always those of the first text
    while counts and counts[pair := max(counts, key=counts.__getitem__)] > 0:
        often, made = counts[pair], pieces.join(*pair)
        for row in sorted(rows.pop(pair)):
            count(row, -1)
            texts[row] = replaced(texts[row], pair, made)
            count(row, 1)
        del counts[pair]
        yield *pair, made, often


def replaced(text: Sequence[int], pair: tuple[int, int], made: int) -> list[int]:
    """A text with the new piece wherever the pair stood, from left to right."""
    out: list[int] = []
    for piece in text:
        if out and (out[-1], piece) == pair:
            out[-1] = made  # longer than either, so never the left one of a pair again
        else:
            out.append(piece)
    return out


def merged(texts: Sequence[Sequence[int]], pieces: Pieces, most: int = 10_000, share: float = 1.0) -> list[list[int]]:
    """A batch after `most` merges, or as soon as it is shorter by `share`."""
    found = [list(text) for text in texts]
    steps, enough = merging(found, pieces), (1 - share) * sum(map(len, found))
    while most and sum(map(len, found)) > enough and next(steps, None):
        most -= 1
    return found
